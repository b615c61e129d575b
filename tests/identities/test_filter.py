import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vec2face.identities import cosines, products
from vec2face.identities.cosines import Kept, Rows, largest_cosine
from vec2face.identities.filter import (
    GreedyFilter,
    Sampled,
    certificate,
    keep_away,
    sample_identities,
)
from vec2face.runtime.files import InputError


@pytest.fixture(params=[torch.float32, torch.bfloat16], autouse=True)
def screen(request, monkeypatch):
    """Run every test with products of both types: no answer may depend on them."""
    able = {"avx512_bf16": request.param == torch.bfloat16}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    return request.param


def test_identities_beyond_memory_name_their_key():
    with pytest.raises(InputError, match="identities: .* do not fit into memory"):
        GreedyFilter(0.3, 512, 10**15)


def one_by_one(vectors, tau):
    """Apply the rule as the paper states it, in float64."""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    kept: list[int] = []
    for i, v in enumerate(unit):
        if not kept or (unit[kept] @ v).max() <= tau:
            kept.append(i)
    return kept


def skewed(count, dimension=64, decay=0.9, seed=0):
    """Draw vectors of falling variances, so that a fair share is refused."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(count, dimension)) * decay ** np.arange(dimension)).astype(np.float32)


@pytest.mark.parametrize(("tau", "decay"), [(0.3, 1.0), (0.3, 0.95), (0.5, 0.9), (-0.05, 1.0)])
def test_kept_set_is_that_of_the_one_by_one_rule(tau, decay, monkeypatch):
    monkeypatch.setattr(products, "BLOCK", 128)
    monkeypatch.setattr(products, "TILE", 200)
    vectors = skewed(2500, decay=decay)
    expected = one_by_one(vectors, tau)
    assert 0 < len(expected) < 2500
    chosen = GreedyFilter(tau, 64, len(vectors))
    assert np.flatnonzero(chosen.add(vectors)).tolist() == expected
    assert np.array_equal(chosen.vectors, vectors[expected])


def test_several_percent_are_refused_at_the_real_block_size():
    vectors = skewed(4000, dimension=128, decay=0.99)
    expected = one_by_one(vectors, 0.4)
    assert 0.01 < 1 - len(expected) / 4000 < 0.3
    assert np.flatnonzero(GreedyFilter(0.4, 128, 4000).add(vectors)).tolist() == expected


@settings(max_examples=200)
@given(
    st.lists(st.tuples(*[st.integers(-3, 3)] * 3).filter(any), min_size=1, max_size=60),
    # No cosine of such vectors equals one of these, so rounding cannot decide either way.
    st.sampled_from([-0.89, 0.01, 0.31, 0.99]),
    st.integers(1, 20),
)
def test_any_small_integer_vectors_in_any_blocks(rows, tau, size):
    vectors = np.array(rows, np.float32)
    chosen = GreedyFilter(tau, 3, len(vectors))
    parts = [chosen.add(vectors[i : i + size]) for i in range(0, len(vectors), size)]
    assert np.flatnonzero(np.concatenate(parts)).tolist() == one_by_one(vectors, tau)


@pytest.mark.parametrize("within_one_block", [True, False])
def test_pairs_that_float32_cannot_tell_from_tau_are_settled_in_float64(within_one_block):
    # Second rows at float32 steps around cosine 0.3 with the first: half of them are within 1e-7.
    rng = np.random.default_rng(1)
    first = np.zeros(512, np.float32)
    first[0] = 1
    rest = rng.normal(size=(400, 511))
    rest *= np.sqrt(1 - 0.09) / np.linalg.norm(rest, axis=1, keepdims=True)
    second = np.concatenate([np.full((400, 1), 0.3), rest], 1).astype(np.float32)
    for row in second:
        pair = np.stack([first, row])
        chosen = GreedyFilter(0.3, 512, 2)
        if within_one_block:
            kept = chosen.add(pair)
        else:
            kept = np.concatenate([chosen.add(pair[:1]), chosen.add(pair[1:])])
        assert np.flatnonzero(kept).tolist() == one_by_one(pair, 0.3)


def test_cosine_equal_to_tau_is_kept():
    vectors = np.array([[1, 0], [3, 4]], np.float32)  # cosine 0.6, exact in float64
    assert GreedyFilter(0.6, 2, 2).add(vectors).all()


def test_sampling_uses_candidates_in_order_and_stops_at_the_last_kept():
    vectors = skewed(3000, decay=0.95)
    expected = one_by_one(vectors, 0.4)[:120]
    sampled = sample_identities(lambda first, n: vectors[first : first + n], 120, 0.4, 3000)
    assert sampled.candidates.tolist() == expected
    assert sampled.drawn == expected[-1] + 1
    assert sampled.rejection_rate == pytest.approx(1 - 120 / (expected[-1] + 1))
    assert np.array_equal(sampled.vectors, vectors[expected])


def test_more_identities_begin_with_the_same_ones():
    def draw(first, n):
        return skewed(5000)[first : first + n]

    few, many = (sample_identities(draw, n, 0.6).vectors for n in (50, 120))
    assert np.array_equal(many[:50], few)


def test_too_small_tau_ends_with_an_error_that_says_so():
    vectors = skewed(200, dimension=3)
    with pytest.raises(InputError, match=r"tau = 0.1: only \d+ of 100 .* among 200 candidates"):
        sample_identities(lambda first, n: vectors[first : first + n], 100, 0.1, 200)


@pytest.mark.parametrize("tau", [-1, 1.5, float("nan")])
def test_tau_out_of_range(tau):
    with pytest.raises(InputError, match="tau must be above -1"):
        GreedyFilter(tau, 3, 1)


def test_no_rounding_of_the_products_decides(screen):
    # The worst for rounding: all elements alike, where every product errs to the same side.
    dimension, worst = 512, 0.0
    for size in np.linspace(1, 2, 300):
        one = np.where(np.arange(dimension) < dimension // 2, size, 1).astype(np.float32)
        rows = Rows.of(np.stack([one, one[::-1]]))
        exact = cosines.cosines(one[None], one[None, ::-1])[0]
        worst = max(worst, abs(float(rows.unit[0] @ rows.unit[1]) - exact))
        for tau in (np.nextafter(exact, -1), exact):
            kept = Kept(tau, dimension, 1)
            kept.append(rows[np.array([0])])
            assert kept.refuses(rows[np.array([1])]).tolist() == [exact > tau]
            assert len(kept.conflicts(rows)) == (exact > tau)
    assert worst > 2.0 ** (-8 if screen == torch.bfloat16 else -24)


def test_tau_of_one_keeps_even_twins():
    vectors = np.repeat(skewed(300), 2, axis=0)
    assert GreedyFilter(1, 64, 600).add(vectors).all()


def test_vector_without_direction():
    with pytest.raises(InputError, match="vector 1 "):
        GreedyFilter(0.3, 3, 2).add(np.array([[1, 0, 0], [0, 0, 0]], np.float32))


@pytest.mark.parametrize("count", [2, 300, 1500])
def test_largest_cosine_agrees_with_all_pairs(count):
    vectors = skewed(count, seed=count)
    unit = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1)[:, None]
    gram = np.triu(unit @ unit.T, 1)
    gram[np.tril_indices(count)] = -2
    value, i, j = largest_cosine(vectors)
    assert value == pytest.approx(gram.max(), abs=1e-14)
    assert (i, j) == np.unravel_index(gram.argmax(), gram.shape)


def test_certificate_tells_the_truth_and_refuses_a_false_sample():
    vectors = np.array([[1, 0], [3, 4], [0, -2]], np.float32)
    record = certificate(Sampled(vectors, np.array([0, 1, 3]), 4), 0.6, seed=7)
    assert record["largest_cosine"] == pytest.approx(0.6)
    assert record["largest_cosine_pair"] == [0, 1]
    assert (record["rejection_rate"], record["candidates"], record["seed"]) == (0.25, 4, 7)
    assert (record["norm_min"], record["norm_mean"]) == (1, pytest.approx(8 / 3))
    with pytest.raises(InputError, match=r"identities 0 and 1 have cosine 0.6"):
        certificate(Sampled(vectors, np.array([0, 1, 3]), 4), 0.5, seed=7)


def test_identities_away_from_real_people_are_those_of_the_one_by_one_rule(monkeypatch):
    monkeypatch.setattr(products, "BLOCK", 64)
    vectors, real = skewed(3000, decay=0.95), skewed(40, decay=0.95, seed=9)
    unit, people = (
        v.astype(np.float64) / np.linalg.norm(v.astype(np.float64), axis=1, keepdims=True)
        for v in (vectors, real)
    )
    near = (unit @ people.T).max(1) > 0.4
    expected = np.flatnonzero(~near)[one_by_one(vectors[~near], 0.3)][:30]
    away = keep_away(real, 0.4)
    sampled = sample_identities(lambda i, n: vectors[i : i + n], 30, 0.3, 3000, away)
    assert sampled.candidates.tolist() == expected.tolist()
    assert sampled.turned_away == near[: sampled.drawn].sum() > 0
    met = (~near[: sampled.drawn]).sum()
    assert sampled.rejection_rate == pytest.approx((met - 30) / met)
    record = certificate(sampled, 0.3, 0, away)
    largest = (unit[expected] @ people.T).max()
    assert record["away_largest_cosine"] == pytest.approx(largest, abs=1e-14)
    assert (record["away_people"], record["turned_away"]) == (40, sampled.turned_away)
    false = Sampled(real[:1] + vectors[:1] * 1e-3, np.zeros(1, int), 1)
    with pytest.raises(InputError, match="identity 0 and real person 0"):
        certificate(false, 0.3, 0, away)
