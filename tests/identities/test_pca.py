import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import decomposition

from vec2face.identities.pca import BLOCK, PCA
from vec2face.recognizers.statistics import feature_scale, identity_means, within_covariance
from vec2face.runtime.files import InputError


def people(count=300, dimension=12, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dimension, dimension))
    return (rng.normal(size=(count, dimension)) @ mixing + rng.normal(size=dimension)).astype(
        np.float32
    )


def test_fit_agrees_with_scikit_learn():
    features = people()
    ours, theirs = PCA.fit(features, 1.0), decomposition.PCA().fit(features.astype(np.float64))
    np.testing.assert_allclose(ours.mean, theirs.mean_)
    np.testing.assert_allclose(ours.variance, theirs.explained_variance_)
    np.testing.assert_allclose(
        np.abs(ours.components @ theirs.components_.T), np.eye(12), atol=1e-8
    )


def test_covariance_in_pca_space_is_the_diagonal_the_sampler_draws_from():
    features = people().astype(np.float64)
    pca = PCA.fit(features, 1.0)
    inside = (features - pca.mean) @ pca.components.T
    np.testing.assert_allclose(np.cov(inside.T), np.diag(pca.variance), atol=1e-9)


def test_draws_have_the_mean_and_covariance_of_the_people():
    features = people()
    drawn = PCA.fit(features, 1.0).sample(3, "identity", 0, 40_000).astype(np.float64)
    covariance = np.cov(features.T)
    scale = np.sqrt(np.outer(covariance.diagonal(), covariance.diagonal()))
    assert np.abs(np.cov(drawn.T) - covariance).max() < 0.03 * scale.max()
    error = (drawn.mean(0) - features.mean(0)) / np.sqrt(covariance.diagonal() / 40_000)
    assert np.abs(error).max() < 4.5


@settings(max_examples=12)
@given(first=st.integers(0, 2 * BLOCK), count=st.integers(0, BLOCK + 1))
def test_a_vector_depends_on_its_index_alone(first, count):
    pca = PCA.fit(people(dimension=5), 1.0)
    whole = pca.sample(1, "identity", 0, 3 * BLOCK + 1)
    assert np.array_equal(pca.sample(1, "identity", first, count), whole[first : first + count])


def test_seed_and_purpose_change_the_draw():
    pca = PCA.fit(people(), 1.0)
    one = pca.sample(1, "identity", 0, 2)
    assert not np.allclose(one, pca.sample(2, "identity", 0, 2))
    assert not np.allclose(one, pca.sample(1, "other", 0, 2))


def test_fewer_people_than_dimensions_stay_in_their_affine_hull():
    features = people(count=6, dimension=40).astype(np.float64)
    pca = PCA.fit(features, 1.0)
    assert pca.rank == 5
    drawn = pca.sample(0, "identity", 0, 50)
    basis = np.linalg.svd(features - features.mean(0), full_matrices=False)[2][:5]
    offset = drawn - features.mean(0)
    np.testing.assert_allclose(offset @ basis.T @ basis, offset, atol=1e-4)
    assert np.linalg.matrix_rank(offset, tol=1e-3) == 5


def test_save_and_load_and_equal_bytes(tmp_path):
    pca = PCA.fit(people(), 0.7)
    pca.save(tmp_path / "one.npz")
    pca.save(tmp_path / "two.npz")
    again = PCA.load(tmp_path / "one.npz")
    assert (again.feature_scale, again.people) == (0.7, 300)
    assert np.array_equal(again.sample(0, "x", 0, 3), pca.sample(0, "x", 0, 3))
    one, two = (hashlib.sha256((tmp_path / f).read_bytes()) for f in ("one.npz", "two.npz"))
    assert one.digest() == two.digest()


def test_load_refuses_what_is_not_a_pca(tmp_path):
    with pytest.raises(InputError, match=r"none.npz: no such file"):
        PCA.load(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InputError, match=r"text.npz: cannot be read"):
        PCA.load(tmp_path / "text.npz")
    np.savez(tmp_path / "evil.npz", mean=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"evil.npz: cannot be read"):
        PCA.load(tmp_path / "evil.npz")
    square = np.eye(3)
    np.savez(
        tmp_path / "odd.npz", mean=np.zeros(4), components=square, variance=np.ones(3),
        feature_scale=1.0, people=5,
    )  # fmt: skip
    with pytest.raises(InputError, match="disagree in size"):
        PCA.load(tmp_path / "odd.npz")


def test_fit_refuses_bad_features():
    with pytest.raises(InputError, match="at least two people"):
        PCA.fit(people(count=1), 1.0)
    broken = people()
    broken[7, 2] = np.nan
    with pytest.raises(InputError, match="row 7"):
        PCA.fit(broken, 1.0)
    with pytest.raises(InputError, match="the same feature"):
        PCA.fit(np.ones((4, 3)), 1.0)
    with pytest.raises(InputError, match="feature_scale"):
        PCA.fit(people(), 0.0)


def test_identity_means_average_without_normalising():
    features = np.array([[2.0, 0], [0, 10], [4, 0], [0, 30]], np.float32)
    means = identity_means(features, np.array([5, 1, 5, 1]))
    np.testing.assert_array_equal(means, [[0, 20], [3, 0]])
    with pytest.raises(InputError, match="4 features for 3 labels"):
        identity_means(features, np.array([0, 0, 0]))


def test_feature_scale_is_the_rms_deviation():
    rng = np.random.default_rng(0)
    features = rng.normal(5, [1, 7], size=(100_000, 2)).astype(np.float32)
    assert feature_scale(features) == pytest.approx(5, rel=0.01)  # sqrt((1 + 49) / 2)
    with pytest.raises(InputError, match="do not vary"):
        feature_scale(np.ones((4, 2)))


def test_spectrum_counts_the_dimensions_that_matter():
    rng = np.random.default_rng(0)
    spectrum = PCA.fit(rng.normal(size=(20_000, 10)), 1.0).spectrum()
    assert spectrum["effective_dimensions"] == pytest.approx(10, rel=0.02)
    assert spectrum["share_of_first_1"] == pytest.approx(0.1, abs=0.01)
    assert (spectrum["rank"], spectrum["people"], spectrum["dimensions"]) == (10, 20_000, 10)


@given(st.integers(2, 70), st.integers(2, 5), st.integers(1, 9))
def test_the_scale_in_blocks_is_numpys_to_the_bit(rows, dimension, at_once):
    features = people(rows, dimension, seed=rows)
    whole = float(np.sqrt(np.var(features, axis=0, dtype=np.float64).mean()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vec2face.recognizers.statistics.AT_ONCE", at_once)
        assert feature_scale(features) == whole


def test_variation_within_people_is_kept(tmp_path):
    """Against numpy, person by person: pooled with the degrees of freedom that are left."""
    rng = np.random.default_rng(3)
    labels = np.repeat([4, 1, 9, 7], [3, 1, 5, 2])
    features = rng.normal(size=(11, 5)) + labels[:, None]
    scatter = sum(np.cov(features[labels == n].T, ddof=0) * (labels == n).sum() for n in (4, 9, 7))
    within = within_covariance(features.astype(np.float64), labels)
    assert np.allclose(within, scatter / (11 - 4))
    PCA.fit(people(dimension=5), 1.0, within).save(tmp_path / "pca.npz")
    assert np.array_equal(PCA.load(tmp_path / "pca.npz").within, within)
    assert within_covariance(features, np.arange(11)) is None
    PCA.fit(people(dimension=5), 1.0).save(tmp_path / "none.npz")
    assert PCA.load(tmp_path / "none.npz").within is None
