import numpy as np
import pytest
from sklearn.metrics import roc_curve

from vec2face.evaluation import separability
from vec2face.evaluation.separability import (
    Similarities,
    describe,
    image_to_identity,
    nearest_other,
    separated_share,
    similarities,
)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    monkeypatch.setattr(separability, "TILE", 37)


def faces(people=25, images=6, spread=1.0, dimension=16):
    rng = np.random.default_rng(3)
    centres = np.repeat(rng.normal(size=(people, dimension)), images, axis=0)
    features = centres + spread * rng.normal(size=centres.shape)
    order = rng.permutation(len(features))
    return features[order].astype(np.float32), np.repeat(np.arange(people), images)[order]


def all_pairs(features, labels):
    unit = features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    gram = np.array([[float(np.dot(a, b)) for b in unit] for a in unit])
    i, j = np.triu_indices(len(unit), 1)
    return gram[i, j], labels[i] == labels[j], gram


def test_nearest_other_is_the_largest_off_the_diagonal():
    features, labels = faces()
    gram = all_pairs(features, labels)[2]
    np.fill_diagonal(gram, -1)
    np.testing.assert_allclose(nearest_other(features), gram.max(1), atol=1e-12)


def test_separated_share_counts_strictly_below():
    assert separated_share(np.array([0.1, 0.4, 0.39, 0.9])) == 0.5


def test_twins_are_not_separated():
    vectors = np.eye(4)
    vectors[3] = [1, 0.1, 0, 0]
    assert separated_share(nearest_other(vectors)) == 0.5


def test_every_pair_is_counted_once_in_its_bin():
    features, labels = faces()
    cosines, same, _ = all_pairs(features, labels)
    counted = similarities(features, labels)
    assert counted.intra.sum() == 25 * 15
    assert counted.inter.sum() == 150 * 149 // 2 - 25 * 15
    for counts, expected in ((counted.intra, cosines[same]), (counted.inter, cosines[~same])):
        histogram = np.histogram(expected, bins=100, range=(-1, 1))[0]
        assert np.array_equal(counts.reshape(100, -1).sum(1), histogram)
    assert counted.mean() == pytest.approx((cosines[same].mean(), cosines[~same].mean()), abs=1e-4)
    assert np.array_equal(counted.coarse()[:, 1:], np.stack(
        [np.histogram(c, bins=100, range=(-1, 1))[0] for c in (cosines[same], cosines[~same])], 1
    ))  # fmt: skip


def test_identical_features_fall_in_the_last_bin():
    counted = similarities(np.ones((3, 5)), np.array([0, 0, 1]))
    assert (counted.intra[-1], counted.inter[-1]) == (1, 2)


@pytest.mark.parametrize("spread", [0.3, 1.0, 2.0])
def test_equal_error_rate_agrees_with_the_roc_of_all_pairs(spread):
    features, labels = faces(people=40, spread=spread)
    cosines, same, _ = all_pairs(features, labels)
    far, tar, _ = roc_curve(same, cosines)
    at = np.argmin(np.abs(far - (1 - tar)))
    expected = (far[at] + 1 - tar[at]) / 2
    assert similarities(features, labels).equal_error_rate() == pytest.approx(expected, abs=0.004)


def test_equal_error_rate_of_known_distributions():
    intra, inter = (np.zeros(separability.BINS, np.int64) for _ in range(2))
    intra[15_000:], inter[:10_000] = 1, 1
    assert Similarities(intra, inter).equal_error_rate() == 0
    assert Similarities(intra=inter, inter=intra).equal_error_rate() == 1
    assert Similarities(intra, intra).equal_error_rate() == pytest.approx(0.5)
    half, whole = np.zeros_like(intra), np.zeros_like(intra)
    half[5_000:15_000], whole[:10_000] = 1, 1  # overlap by a half: a quarter errs either way
    assert Similarities(intra=half, inter=whole).equal_error_rate() == pytest.approx(0.25)
    assert np.isnan(Similarities(intra, np.zeros_like(inter)).equal_error_rate())


def test_image_to_identity_uses_the_labels():
    images = np.array([[2.0, 0], [0, 3], [1, 1]])
    identities = np.array([[0.0, 5], [1, 0]])
    np.testing.assert_allclose(
        image_to_identity(images, identities, np.array([1, 1, 0])), [1, 0, np.sqrt(0.5)]
    )


def test_description_of_a_hand_made_set():
    features = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    measures, pairs = describe(features, np.array([7, 7, 9, 9]))
    assert measures["separated_share"] == 1
    assert measures["nearest_other_mean"] == 0
    assert measures["image_to_identity_mean"] == pytest.approx((2 + 2 * np.sqrt(0.5)) / 4)
    assert measures["intra_mean"] == pytest.approx(0.5, abs=1e-4)
    assert (measures["intra_noise"], measures["inter_noise"]) == (0, 0)
    assert pairs.inter.sum() == 4


def test_noise_is_found():
    features = np.array([[1, 0], [-1, 0.1], [1, 0.05], [1, 0.1]], np.float32)
    measures, _ = describe(features, np.array([0, 0, 1, 1]))
    assert measures["intra_noise"] == 0.5  # one person's two images oppose one another
    features = np.array([[1, 0], [1, 0.1], [1, 0.05], [1, 0.1]], np.float32)
    assert describe(features, np.array([0, 0, 1, 1]))[0]["inter_noise"] == 1


def test_bad_features():
    with pytest.raises(ValueError, match="feature 1 is zero"):
        nearest_other(np.array([[1.0, 0], [0, 0]]))
    with pytest.raises(ValueError, match="no other"):
        nearest_other(np.ones((1, 3)))
    with pytest.raises(ValueError, match="4 features for 3 labels"):
        similarities(np.ones((4, 2)), np.zeros(3))
