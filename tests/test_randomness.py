"""Draws are functions of (seed, purpose, index) and of nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vec2face.randomness import normals, stream

PINNED = [221, 271, 895]  # what the library draws to-day and must draw to-morrow


@given(st.integers(0, 2**31), st.integers(0, 2**40), st.integers(0, 50), st.integers(1, 20))
def test_blocks_join_seamlessly(seed, first, split, rest):
    whole = normals(seed, "x", first, split + rest, 3)
    parts = [normals(seed, "x", first, split, 3), normals(seed, "x", first + split, rest, 3)]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_streams_differ_by_seed_purpose_and_every_index():
    keys = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), (0, "a", 0, 1), (0, "a", 0, 0, 1)]
    draws = {tuple(stream(*key).integers(2**63, size=2)) for key in keys}
    assert len(draws) == len(keys)


def test_neighbouring_indices_do_not_overlap():
    # The counter's low word counts blocks within a stream; the index sits above it.
    a, b = stream(0, "x", 0).random(10_000), stream(0, "x", 1).random(10_000)
    assert not np.isin(a, b).any()


def test_normals_have_the_moments_of_a_standard_normal():
    x = normals(7, "moments", 0, 2000, 50)
    assert abs(x.mean()) < 4 / np.sqrt(x.size)
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / x.size)


def test_a_draw_is_pinned_for_ever():
    assert stream(0, "pinned").integers(1000, size=3).tolist() == PINNED


@pytest.mark.parametrize("index", [(-1,), (0, 0, 0, 0)])
def test_impossible_indices_are_refused(index):
    with pytest.raises(ValueError, match="index"):
        stream(0, "x", *index)
