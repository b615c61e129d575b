import numpy as np
import pytest
from sklearn.metrics import r2_score

from vec2face.evaluation.reconstruction import feature_cosine, pixel_r2


def images(count=12):
    return np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)


def test_r2_at_its_marks():
    original = images()
    mean = original.mean(0)
    assert pixel_r2(original, original) == 1
    same = np.repeat(mean[None], len(original), 0)
    assert pixel_r2(original, same) == pytest.approx(0)
    assert pixel_r2(original, 255 - original) < 0


def test_r2_agrees_with_scikit_learn_weighted_by_variance():
    original, other = images(), images()[::-1]
    flat = [x.reshape(12, -1).astype(float) for x in (original, other)]
    expected = r2_score(*flat, multioutput="variance_weighted")
    assert pixel_r2(original, other) == pytest.approx(expected)


def test_r2_against_a_given_mean_face():
    original = images()
    black = np.zeros((4, 4, 3))
    assert pixel_r2(original, np.zeros_like(original), black) == pytest.approx(0)


def test_feature_cosine_pairs_rows():
    one = np.array([[1.0, 0], [0, 2], [1, 1]])
    other = np.array([[3.0, 0], [1, 0], [-1, -1]])
    np.testing.assert_allclose(feature_cosine(one, other), [1, 0, -1], atol=1e-15)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="disagree"):
        pixel_r2(images(), images(5))
    with pytest.raises(ValueError, match="disagree"):
        feature_cosine(np.ones((2, 3)), np.ones((2, 4)))
