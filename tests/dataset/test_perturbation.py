from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import expm
from scipy.stats import beta, ks_2samp, kstest, kurtosis, uniform

from vec2face.config.params import Params
from vec2face.dataset.perturbation import Perturbation, acceptance, shaped, shares
from vec2face.identities.cosines import cosines
from vec2face.identities.pca import PCA
from vec2face.randomness import stream
from vec2face.runtime.files import InputError


def people(count=20, dimension=512, scale=1.0):
    return (scale * np.random.default_rng(0).normal(size=(count, dimension))).astype(np.float32)


def mixture(**changes):
    values = {
        "seed": 5, "images_per_identity": 10, "sigma": [0.3, 0.5, 0.7], "share": [0.4, 0.4, 0.2],
        "min_similarity": 0.5, "feature_scale": 1.0,
    }  # fmt: skip
    return Perturbation(**{**values, **changes})


def cosine(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_paper_mixture_at_fifty_images():
    assert shares([0.4, 0.4, 0.2], 50).tolist() == [20, 20, 10]
    assert mixture().levels.tolist() == [0.3] * 4 + [0.5] * 4 + [0.7] * 2


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any), st.integers(1, 200))
def test_shares_are_the_largest_remainders(weights, total):
    exact = [Fraction(w * total, sum(weights)) for w in weights]
    expected = [int(e) for e in exact]
    order = sorted(range(len(exact)), key=lambda k: (-(exact[k] - expected[k]), k))
    for k in order[: total - sum(expected)]:
        expected[k] += 1
    assert shares([w / sum(weights) for w in weights], total).tolist() == expected


def test_vectors_keep_the_norm_and_the_similarity():
    ids = people()
    vectors, draws = mixture().vectors(ids, range(200))
    owner = np.arange(200) // 10
    np.testing.assert_allclose(
        np.linalg.norm(vectors, axis=1), np.linalg.norm(ids[owner], axis=1), rtol=1e-6
    )
    assert (cosine(vectors, ids[owner]) >= 0.5).all()
    assert (draws == 1).all()


def test_each_sigma_gives_the_cosine_theory_expects():
    ids = people()
    vectors, _ = mixture().vectors(ids, range(200))
    near = cosine(vectors, ids[np.arange(200) // 10]).reshape(20, 10)
    for images, sigma in ((slice(0, 4), 0.3), (slice(4, 8), 0.5), (slice(8, 10), 0.7)):
        assert near[:, images].mean() == pytest.approx(1 / np.sqrt(1 + sigma**2), abs=0.01)


READINGS = [  # sigma_is, sigma_unit, the deviation of noise at sigma = 0.3 and a scale of 2
    ("std", "features", 0.6),
    ("std", "absolute", 0.3),
    ("variance", "features", 0.3**0.5 * 2),
    ("variance", "absolute", 0.3**0.5),
]


@pytest.mark.parametrize(("sigma_is", "sigma_unit", "deviation"), READINGS)
def test_each_reading_of_sigma_gives_its_noise(sigma_is, sigma_unit, deviation):
    ids = people()
    read = mixture(
        sigma=[0.3], share=[1.0], min_similarity=-1.0, feature_scale=2.0, sigma_is=sigma_is,
        sigma_unit=sigma_unit, rescale=False,
    )  # fmt: skip
    noise = read.vectors(ids, range(200))[0] - ids[np.arange(200) // 10]
    assert noise.std() == pytest.approx(deviation, rel=0.01)
    assert abs(noise.mean()) < 0.01
    assert kurtosis(noise, axis=None) == pytest.approx(0, abs=0.06)
    pairs = np.corrcoef(noise)[np.triu_indices(200, 1)]
    assert np.abs(pairs).max() < 6 / np.sqrt(512)  # each image has its own


@pytest.mark.parametrize(("sigma_is", "sigma_unit", "deviation"), READINGS)
def test_cosines_have_the_distribution_of_that_noise(sigma_is, sigma_unit, deviation):
    """Of noise about a vector of norm r: cosines of r + d z against d chi, both drawn alone."""
    one = people(1, dimension=32)
    read = mixture(
        images_per_identity=4000, sigma=[0.3], share=[1.0], min_similarity=-1.0, feature_scale=2.0,
        sigma_is=sigma_is, sigma_unit=sigma_unit,
    )  # fmt: skip
    found = cosine(read.vectors(one, range(4000))[0], one)
    draw = np.random.default_rng(1)
    along = np.linalg.norm(one) + deviation * draw.standard_normal(4000)
    across = deviation * np.sqrt(draw.chisquare(31, 4000))
    assert ks_2samp(found, along / np.hypot(along, across)).pvalue > 0.001


def test_without_rescaling_only_the_length_differs():
    ids, owner = people(), np.arange(200) // 10
    free, _ = mixture(rescale=False).vectors(ids, range(200))
    kept, _ = mixture().vectors(ids, range(200))
    np.testing.assert_allclose(cosine(free, kept), 1, atol=1e-6)
    squared = (np.linalg.norm(free, axis=1) / np.linalg.norm(ids[owner], axis=1)) ** 2
    rows = squared.reshape(20, 10)
    for images, sigma in ((slice(0, 4), 0.3), (slice(4, 8), 0.5), (slice(8, 10), 0.7)):
        assert rows[:, images].mean() == pytest.approx(1 + sigma**2, rel=0.03)


def test_a_mixture_over_all_images_has_its_shares_there_and_not_in_each_identity():
    many = mixture(images_per_identity=50, mixture="all")
    identity, image = np.divmod(np.arange(50 * 2000), 50)
    levels = many.level(identity, image).reshape(2000, 50)
    for sigma, share in zip(many.sigma, many.share, strict=True):
        counts = (levels == sigma).sum(1)
        deviation = np.sqrt(50 * share * (1 - share))  # of a binomial number
        assert counts.mean() == pytest.approx(50 * share, abs=5 * deviation / np.sqrt(2000))
        assert counts.std() == pytest.approx(deviation, rel=0.1)
    assert (levels[:, 0] == 0.3).mean() == pytest.approx(0.4, abs=0.06)  # at every number
    part = slice(777, 1234)
    assert np.array_equal(many.level(identity[part], image[part]), levels.ravel()[part])


def test_sigma_is_in_units_of_the_feature_scale():
    one, _ = mixture().vectors(people(), range(50))
    ten, _ = mixture(feature_scale=10.0).vectors(people(scale=10.0), range(50))
    np.testing.assert_allclose(ten, 10 * one, atol=1e-5)


@given(first=st.integers(0, 199), count=st.integers(1, 40))
def test_a_vector_depends_on_its_number_alone(first, count):
    count = min(count, 200 - first)
    ids, hard = people(dimension=24), mixture(sigma=[1.2], share=[1.0])
    whole, draws = hard.vectors(ids, range(200))
    assert draws.max() > 1
    part, part_draws = hard.vectors(ids, range(first, first + count))
    assert np.array_equal(part, whole[first : first + count])
    assert np.array_equal(part_draws, draws[first : first + count])


def test_another_seed_gives_other_vectors():
    assert not np.allclose(
        mixture().vectors(people(), range(5))[0], mixture(seed=6).vectors(people(), range(5))[0]
    )


def test_redraws_keep_the_similarity_and_are_counted():
    ids = people(dimension=32)
    hard = mixture(sigma=[1.3], share=[1.0])
    vectors, draws = hard.vectors(ids, range(200))
    assert (cosine(vectors, ids[np.arange(200) // 10]) >= 0.5).all()
    chance = np.mean([acceptance(float(np.linalg.norm(v)), 1.3, 32, 0.5) for v in ids])
    assert 0.5 / chance < draws.mean() < 2 / chance
    assert draws.max() > 1


@pytest.mark.parametrize(
    ("dimension", "noise", "least"), [(8, 1.0, 0.5), (32, 0.8, 0.7), (2, 0.5, 0.9), (1, 0.7, 0.5)]
)
def test_acceptance_agrees_with_trials(dimension, noise, least):
    rng = np.random.default_rng(0)
    centre = np.full((1, dimension), 1.5)
    drawn = centre + noise * rng.normal(size=(200_000, dimension))
    norm = float(np.linalg.norm(centre))
    trials = (cosine(drawn, centre) >= least).mean()
    assert acceptance(norm, noise, dimension, least) == pytest.approx(trials, abs=0.005)


def test_no_noise_gives_the_identity_itself():
    vectors, _ = mixture(sigma=[0.0], share=[1.0]).vectors(people(), range(30))
    np.testing.assert_allclose(vectors, people()[np.arange(30) // 10], rtol=1e-6)


def test_a_mixture_that_cannot_work_fails_before_any_draw():
    with pytest.raises(InputError, match=r"sigma = 3 with min_similarity = 0.5.* identity \d+"):
        mixture(sigma=[0.3, 3.0], share=[0.5, 0.5]).check(people())
    mixture(sigma=[0.3, 3.0], share=[1.0, 0.0]).check(people())  # no image gets sigma 3
    mixture().check(people())


def test_exhausted_draws_name_sigma_and_similarity():
    with pytest.raises(InputError, match=r"sigma = 2 with min_similarity = 0.9: none of 3 draws"):
        mixture(sigma=[2.0], share=[1.0], min_similarity=0.9, attempts=3).vectors(
            people(), range(4)
        )


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"sigma": [0.3]}, "sigma_share"),
        ({"sigma": [], "share": []}, "sigma_share"),
        ({"share": [0.4, 0.4, 0.4]}, "sigma_share"),
        ({"share": [1.2, -0.2, 0.0]}, "sigma_share"),
        ({"sigma": [0.3, -0.5, 0.7]}, "sigma"),
        ({"sigma": [0.3, float("nan"), 0.7]}, "sigma"),
        ({"min_similarity": 1.0}, "min_similarity"),
        ({"images_per_identity": 0}, "images_per_identity"),
        ({"feature_scale": 0.0}, "feature_scale"),
    ],
)
def test_bad_parameters_are_named(changes, key):
    with pytest.raises(InputError, match=f"^{key}:"):
        mixture(**changes)


def test_shaped_noise_has_the_covariance_asked_for():
    """Mean variance sigma squared, and the covariance's shape; the cosine bound still holds."""
    rng = np.random.default_rng(2)
    root = rng.normal(size=(12, 12)) * np.linspace(0.2, 2, 12)
    covariance = root @ root.T
    run = mixture(
        images_per_identity=20_000, sigma=[0.4], share=[1.0], min_similarity=-1.0, rescale=False,
        feature_scale=1.5, axes=shaped(covariance),
    )  # fmt: skip
    identity = 3 * np.ones((1, 12), np.float32)
    noise = run.vectors(identity, range(20_000))[0].astype(np.float64) - identity
    found = np.cov(noise.T)
    wanted = covariance / np.trace(covariance) * 12 * (0.4 * 1.5) ** 2
    assert np.trace(found) == pytest.approx(12 * (0.4 * 1.5) ** 2, rel=0.03)
    assert np.abs(found - wanted).max() < 0.04 * wanted.max()


def test_shaped_vectors_depend_on_their_number_alone():
    axes = shaped(np.diag(np.arange(1.0, 33.0)))
    run = mixture(axes=axes, sigma=[1.0], share=[1.0])
    ids = people(6, 32)
    whole, draws = run.vectors(ids, range(60))
    assert draws.max() > 1  # some were drawn again
    parts = [run.vectors(ids, range(first, first + 7))[0] for first in range(0, 56, 7)]
    assert np.array_equal(whole[:56], np.concatenate(parts))
    assert (cosine(whole, ids[np.arange(60) // 10]) >= 0.5).all()


def test_the_chance_of_shaped_noise_is_that_of_its_draws():
    axes = shaped(np.diag([9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    run = mixture(axes=axes, sigma=[0.8], share=[1.0])
    vector = np.array([2, 1, 0, 1, 0, 1, 0, 1], np.float32)
    normal = np.random.default_rng(0).normal(size=(100_000, 8)) * np.sqrt(np.diag(axes) ** 2)
    trials = (cosine(vector + 0.8 * normal, vector[None]) >= 0.5).mean()
    assert run.chances(vector)[0.8] == pytest.approx(trials, abs=0.05)
    assert mixture(sigma=[0.8], share=[1.0]).chances(vector)[0.8] == pytest.approx(
        acceptance(float(np.linalg.norm(vector)), 0.8, 8, 0.5)
    )


@pytest.fixture
def chosen(tmp_path):
    def load(**changes):
        content = yaml.safe_load(Path("params.yaml").read_text()) | changes
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
        return Params.load(tmp_path / "params.yaml")

    return load


def test_shaped_noise_needs_people_who_were_seen_twice(chosen):
    p = chosen(perturbation="within")
    once = PCA(np.zeros(4), np.eye(4), np.ones(4), 1.0, 4)
    with pytest.raises(InputError, match=r"perturbation: within needs two images"):
        Perturbation.of(p, once)
    twice = PCA(np.zeros(4), np.eye(4), np.ones(4), 1.0, 4, np.diag([4.0, 2, 1, 1]))
    axes = Perturbation.of(p, twice).axes
    assert np.allclose(axes @ axes, np.diag([2, 1, 0.5, 0.5]))


def turning(**changes):
    """No sigma could pass for what turns vectors."""
    return mixture(**{"sigma": [1e6], "share": [1.0], "max_angle": 53.13, **changes})


def angles(vectors, one):
    """Degrees between vectors (n, D) and (1, D)."""
    return np.degrees(np.arccos(cosine(vectors, one)))


@pytest.mark.parametrize("dimension", [2, 16, 512])
@pytest.mark.parametrize(
    ("bound", "least"), [(53.13, 0.5), (5, 0.5), (180, -1.0), (53.13, 0.9), (180, 0.5)]
)
def test_angles_are_uniform_up_to_the_bound_and_the_least_similarity(dimension, bound, least):
    one = people(1, dimension)
    run = turning(images_per_identity=2000, max_angle=bound, min_similarity=least)
    vectors, draws = run.vectors(one, range(2000))
    widest = min(bound, np.degrees(np.arccos(least)))
    assert kstest(angles(vectors, one), uniform(0, widest).cdf).pvalue > 0.001
    chance = widest / bound
    assert run.chances(one[0]) == {bound: pytest.approx(chance)}
    deviation = np.sqrt(1 - chance) / chance / np.sqrt(2000)  # of a geometric number's mean
    assert draws.mean() == pytest.approx(1 / chance, abs=5 * deviation + 0.002)


def test_directions_are_uniform_across_the_identity():
    """A coordinate of a uniform unit vector of d dimensions: its square is Beta(1/2, (d-1)/2)."""
    one = people(1, 12)
    vectors = turning(images_per_identity=4000).vectors(one, range(4000))[0].astype(np.float64)
    # Coordinates along the identity and across it, by a basis that has the identity as its first.
    basis = np.linalg.qr(np.column_stack([one[0], np.eye(12)[:, 1:]]))[0]
    across = (vectors @ basis)[:, 1:]
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    for coordinate in across.T:
        assert kstest(coordinate**2, beta(0.5, 5).cdf).pvalue > 0.001
        assert (coordinate > 0).mean() == pytest.approx(0.5, abs=0.04)
    assert np.abs(across.T @ across / 4000 - np.eye(11) / 11).max() < 0.012
    sides = np.sign(across[:, :1] * across[:, 1:])  # coordinates have their signs independently
    assert np.abs(sides.mean(0)).max() < 0.08
    turn = angles(vectors, one)
    assert np.abs(np.corrcoef(turn, across.T)[0, 1:]).max() < 0.08  # and angles, of directions


def test_a_vector_is_the_identity_rotated_in_a_plane():
    """By the matrix exponential; the plane is that of the identity and the drawn numbers."""
    ids = people(3, 16)
    vectors, _ = turning(max_angle=150, min_similarity=-1.0).vectors(ids, range(30))
    for s in range(30):
        random = stream(5, "perturbation", s // 10, s % 10, 0)
        normal, angle = random.standard_normal(16), random.random() * np.radians(150)
        identity = ids[s // 10].astype(np.float64)
        e, u = np.linalg.qr(np.column_stack([identity, normal]))[0].T
        e, u = e * np.sign(e @ identity), u * np.sign(u @ normal)
        rotated = expm(angle * (np.outer(u, e) - np.outer(e, u))) @ identity
        np.testing.assert_allclose(vectors[s], rotated, atol=1e-6)


@given(
    bound=st.floats(0.01, 180), dimension=st.integers(2, 64), scale=st.floats(1e-3, 1e3),
    least=st.floats(-1, 0.5), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_the_bound_and_the_length_hold_for_the_vectors_as_they_are_stored(
    bound, dimension, scale, least, seed
):
    ids, owner = people(4, dimension, scale), np.arange(40) // 10
    vectors, _ = turning(seed=seed, max_angle=bound, min_similarity=least).vectors(ids, range(40))
    assert vectors.dtype == np.float32
    assert (cosines(vectors, ids[owner]) >= max(least, np.cos(np.radians(bound)))).all()
    lengths = np.linalg.norm(ids.astype(np.float64), axis=1)[owner]
    np.testing.assert_allclose(
        np.linalg.norm(vectors.astype(np.float64), axis=1), lengths, rtol=2e-7
    )


def test_a_vector_that_rounding_takes_beyond_the_bound_is_drawn_again():
    ids, owner = people(20, 2), np.arange(20_000) // 1000
    small = turning(images_per_identity=1000, max_angle=0.01)
    vectors, draws = small.vectors(ids, range(20_000))
    assert draws.max() == 2
    assert (cosines(vectors, ids[owner]) >= np.cos(np.radians(0.01))).all()


@given(first=st.integers(0, 199), count=st.integers(1, 40), again=st.integers(0, 2))
def test_a_turned_vector_depends_on_its_number_alone(first, count, again):
    count = min(count, 200 - first)
    ids, wide = people(dimension=24), turning(max_angle=140)
    whole, draws = wide.vectors(ids, range(200), again)
    assert draws.max() > 1
    part, part_draws = wide.vectors(ids, range(first, first + count), again)
    assert np.array_equal(part, whole[first : first + count])
    assert np.array_equal(part_draws, draws[first : first + count])
    assert not np.isclose(whole, wide.vectors(ids, range(200), again + 1)[0]).all(1).any()


def test_nothing_about_noise_has_a_part_in_turning():
    expected = turning().vectors(people(), range(50))[0]
    other = {
        "sigma": [0.1, 0.2], "share": [0.5, 0.5], "sigma_is": "variance", "mixture": "all",
        "sigma_unit": "absolute", "rescale": False, "feature_scale": 9.0,
    }  # fmt: skip
    assert np.array_equal(turning(**other).vectors(people(), range(50))[0], expected)
    assert not np.allclose(turning(seed=6).vectors(people(), range(50))[0], expected)


def test_a_bound_that_the_similarity_hardly_allows_fails_before_any_draw():
    far = turning(max_angle=180, min_similarity=0.9999)  # 0.8 degrees
    with pytest.raises(InputError, match=r"max_angle = 180 with min_similarity = 0.9999: only a"):
        far.check(people())
    turning(max_angle=53.13, min_similarity=0.6).check(people())
    with pytest.raises(InputError, match=r"none of 3 draws .* lower max_angle or min_similarity"):
        turning(max_angle=180, min_similarity=0.999, attempts=3).vectors(people(), range(4))


@pytest.mark.parametrize("bound", [0, -1, 180.1, float("nan")])
def test_an_angle_out_of_range_is_named(bound):
    with pytest.raises(InputError, match="^max_angle:"):
        turning(max_angle=bound)


def test_the_parameters_choose_the_perturbation(chosen):
    pca = PCA(np.zeros(4), np.eye(4), np.ones(4), 1.0, 4, np.eye(4))
    kinds = {
        kind: Perturbation.of(chosen(perturbation=kind), pca)
        for kind in ("gaussian", "within", "angular")
    }
    assert [run.max_angle for run in kinds.values()] == [None, None, 53.13]
    assert {kind for kind, run in kinds.items() if run.axes is not None} == {"within"}
