import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_curve
from sklearn.model_selection import KFold
from sklearn.preprocessing import normalize

from vec2face.evaluation.verification import (
    equal_error_rate,
    evaluate,
    pair_distances,
    roc,
    roc_at,
    squared_distances,
    tar_at_far,
    tar_nearest_far,
    ten_folds,
    verify,
)
from vec2face.faces.benchmarks import Benchmark
from vec2face.faces.images import encode
from vec2face.runtime.files import InputError


def by_the_book(distances, same, splits=None):
    """The protocol pair by pair and threshold by threshold, on scikit-learn's folds."""
    accuracies, chosen = [], []
    for train, test in splits or KFold(n_splits=10, shuffle=False).split(distances):
        best, threshold = -1.0, None
        for t in np.arange(0, 4, 0.01):
            right = sum(
                bool(d < t) == bool(s) for d, s in zip(distances[train], same[train], strict=True)
            )
            if right / len(train) > best:
                best, threshold = right / len(train), t
        right = sum(
            bool(d < threshold) == bool(s) for d, s in zip(distances[test], same[test], strict=True)
        )
        accuracies.append(right / len(test))
        chosen.append(threshold)
    return np.array(accuracies), np.array(chosen)


@settings(max_examples=15)
@given(st.integers(10, 60), st.integers(0, 2**32 - 1), st.booleans())
def test_folds_are_bit_equal_to_the_book(pairs, seed, on_thresholds):
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < rng.random()
    distances = rng.uniform(0, 4.2, pairs)
    if on_thresholds:  # ties with thresholds and between pairs
        distances = rng.choice(np.arange(0, 4, 0.01)[::40], pairs)
    for ours, theirs in zip(ten_folds(distances, same), by_the_book(distances, same), strict=True):
        assert np.array_equal(ours, theirs)


@settings(max_examples=15)
@given(st.lists(st.sampled_from([-3, 0, 7, 10]), min_size=8, max_size=40), st.integers(0, 999))
def test_stated_folds_are_bit_equal_to_the_book(folds, seed):
    folds = np.array([-3, 10, *folds])
    rng = np.random.default_rng(seed)
    same, distances = rng.random(len(folds)) < 0.5, rng.uniform(0, 4.2, len(folds))
    splits = [(np.flatnonzero(folds != f), np.flatnonzero(folds == f)) for f in sorted({*folds})]
    expected = by_the_book(distances, same, splits)
    for ours, theirs in zip(ten_folds(distances, same, folds=folds), expected, strict=True):
        assert np.array_equal(ours, theirs)
    assert verify(distances, same, folds).accuracy == pytest.approx(expected[0].mean())


def test_contiguous_folds_may_be_stated():
    rng = np.random.default_rng(5)
    same, distances = rng.random(100) < 0.5, rng.uniform(0, 4, 100)
    stated = ten_folds(distances, same, folds=np.arange(100) // 10)
    assert all(map(np.array_equal, stated, ten_folds(distances, same)))
    with pytest.raises(ValueError, match="1 folds"):
        ten_folds(distances, same, folds=np.zeros(100))
    with pytest.raises(ValueError, match=r"\(99,\) folds"):
        ten_folds(distances, same, folds=np.arange(99) // 10)


def test_mean_and_std_are_over_the_folds():
    same = np.tile([True, False], 50)
    distances = np.where(same, 0.5, 1.5)
    distances[:4] = 2.0 - distances[:4]  # four wrong in the first fold
    result = verify(distances, same)
    assert result.accuracy == pytest.approx((0.6 + 9) / 10)
    assert result.std == pytest.approx(np.std([0.6] + [1.0] * 9))
    assert result.threshold == pytest.approx(0.51)


def test_nan_is_never_accepted():
    same = np.tile([True, False], 10)
    distances = np.where(same, 0.5, np.nan)
    assert verify(distances, same).accuracy == 1


def test_distances_are_those_of_unit_vectors():
    vectors = np.random.default_rng(0).normal(size=(20, 7))
    unit = normalize(vectors)
    expected = np.sum(np.square(unit[0::2] - unit[1::2]), 1)
    assert np.array_equal(squared_distances(vectors), expected)
    assert squared_distances(np.zeros((2, 3))).tolist() == [0.0]


@settings(max_examples=25)
@given(st.integers(4, 80), st.integers(0, 2**32 - 1))
def test_roc_is_scikit_learns(pairs, seed):
    rng = np.random.default_rng(seed)
    same = np.append([True, False], rng.random(pairs) < 0.5)
    distances = rng.integers(0, 30, pairs + 2) / 10  # with ties
    false, true, thresholds = roc(distances, same)
    expected = roc_curve(same, -distances, drop_intermediate=False)
    assert np.allclose(false, expected[0])
    assert np.allclose(true, expected[1])
    assert np.allclose(thresholds, -expected[2])


@settings(max_examples=50)
@given(st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_tar_at_far_is_the_best_of_all_thresholds(pairs, seed):
    rng = np.random.default_rng(seed)
    same = np.append([True, False], rng.random(pairs) < 0.3)
    distances = rng.integers(0, 20, pairs + 2) / 10  # with ties
    rates = [0, 1e-6, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1]
    accepted = [distances <= t for t in (-1, *distances)]
    false = np.array([a[~same].mean() for a in accepted])
    true = np.array([a[same].mean() for a in accepted])
    expected = [true[false <= rate].max() for rate in rates]
    assert tar_at_far(distances, same, rates).tolist() == expected
    false, true, _ = roc_curve(same, -distances, drop_intermediate=False)
    assert np.allclose(expected, [true[false <= rate].max() for rate in rates])


@given(st.integers(3, 400), st.integers(0, 10**6), st.booleans())
def test_tar_nearest_far_is_insightfaces(pairs, seed, ties):
    draw = np.random.default_rng(seed)
    same = draw.permutation(np.arange(pairs) % draw.integers(2, 5) == 0)
    scores = draw.normal(0.3 * same, 0.2)
    scores = scores.round(1) if ties else scores
    false, true, _ = roc_curve(same, scores)
    false, true = np.flipud(false), np.flipud(true)
    rates = (1e-6, 1e-3, 1e-2, 0.1, 0.5)
    wanted = [true[min(zip(abs(false - r), range(pairs + 1), strict=False))[1]] for r in rates]
    assert tar_nearest_far(-scores, same, rates).tolist() == wanted
    assert tar_nearest_far(-scores, same, 0.1) == wanted[3]


def test_rates_of_a_small_case():
    distances = np.array([0.1, 0.2, 0.4, 0.8, 0.3, 0.6, 0.7, 0.9])
    same = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    assert tar_at_far(distances, same, 0) == 0.5
    assert tar_at_far(distances, same, 0.2) == 0.5
    assert tar_at_far(distances, same, 0.25) == 0.75
    assert tar_at_far(distances, same, 1) == 1
    assert equal_error_rate(distances, same) == 0.25
    assert equal_error_rate(distances, ~same) == pytest.approx(0.75)
    far, tar = roc_at(distances, same, points=3)
    assert far == pytest.approx([0.25, 0.5, 1])
    assert tar == pytest.approx([0.75, 0.75, 1])


def test_one_kind_of_pair_has_no_roc():
    with pytest.raises(ValueError, match="one person and of two"):
        roc(np.arange(3.0), np.ones(3, bool))
    with pytest.raises(ValueError, match="one person and of two"):
        tar_at_far(np.arange(3.0), np.zeros(3, bool), 0.1)


def test_too_few_pairs():
    with pytest.raises(ValueError, match="10 folds"):
        ten_folds(np.arange(9.0), np.ones(9, bool))


def pictures(count=24, seed=0):
    rng = np.random.default_rng(seed)
    people = rng.integers(30, 226, (count, 4, 4, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    same = np.arange(count) % 2 == 0
    images = []
    for i in range(count):
        images += [people[i], people[i] if same[i] else people[(i + 1) % count]]
    return Benchmark("toy", [encode(i) for i in images], same)


def flat(images):
    return images.reshape(len(images), -1).astype(np.float32) - 128


def test_evaluate_tells_equal_pictures_and_does_not_depend_on_blocks():
    benchmark = pictures()
    result = evaluate(flat, benchmark)
    assert result.accuracy == 1
    assert np.array_equal(evaluate(flat, benchmark, block=5).distances, result.distances)
    both = pair_distances({"a": flat, "b": lambda x: flat(x)[:, :1]}, benchmark, range(24))
    assert np.array_equal(both[:, 0], result.distances)
    assert verify(both[:, 1], benchmark.same).accuracy < 1


def test_evaluate_keeps_to_the_folds_of_the_benchmark():
    images, folds = pictures().images, np.arange(24) % 3
    same = np.random.default_rng(1).random(24) < 0.5  # what the pictures do not show
    stated = evaluate(flat, Benchmark("toy", images, same, folds))
    expected = verify(stated.distances, same, folds)
    assert (stated.accuracy, stated.std) == (expected.accuracy, expected.std)
    assert stated.std != evaluate(flat, Benchmark("toy", images, same)).std


def test_evaluate_adds_the_mirror_image():
    benchmark = pictures()
    mirrored = evaluate(lambda x: flat(x[:, :, ::-1]), benchmark)
    assert np.array_equal(mirrored.distances, evaluate(flat, benchmark).distances)


def test_without_flip_no_mirror_image_is_looked_at():
    benchmark = pictures()
    seen = []

    def look(images):
        seen.extend(images)
        return flat(images)

    found = evaluate(look, benchmark, flip=False)
    plain = flat(np.stack(seen)).astype(np.float64)
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    assert len(plain) == 48
    assert found.distances == pytest.approx(np.square(plain[::2] - plain[1::2]).sum(1))
    assert not np.allclose(found.distances, evaluate(flat, benchmark).distances)


def test_a_broken_picture_is_named():
    benchmark = pictures()
    benchmark.images[7] = b"no picture"
    with pytest.raises(InputError, match="toy, picture 7"):
        evaluate(flat, benchmark)
