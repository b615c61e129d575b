"""The exact search against all pairs in float64, with products of both types."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vec2face.identities import cosines, products
from vec2face.identities.nearest import Crowd, nearest
from vec2face.runtime.files import InputError


@pytest.fixture(params=[torch.float32, torch.bfloat16], autouse=True)
def screen(request, monkeypatch):
    able = {"avx512_bf16": request.param == torch.bfloat16}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    monkeypatch.setattr(products, "BLOCK", 16)
    monkeypatch.setattr(cosines, "BLOCK", 16)
    monkeypatch.setattr(products, "TILE", 40)


def all_pairs(vectors, others, own=None, labels=None):
    one, other = (v.astype(np.float64) for v in (vectors, others))
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    gram = one @ other.T
    if own is not None:
        gram[own[:, None] == labels[None]] = -2
    return gram


@pytest.mark.parametrize("decay", [1.0, 0.6])
def test_the_nearest_is_that_of_all_pairs(decay):
    rng = np.random.default_rng(0)
    shape = decay ** np.arange(24)
    vectors = (rng.normal(size=(70, 24)) * shape).astype(np.float32)
    others = (rng.normal(size=(150, 24)) * shape).astype(np.float32)
    gram = all_pairs(vectors, others)
    value, place = nearest(vectors, Crowd.of(others))
    np.testing.assert_allclose(value, gram.max(1), atol=1e-14)
    assert place.tolist() == gram.argmax(1).tolist()


def test_own_rows_are_passed_over_in_whatever_order_they_come():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 9, 120)
    people = rng.normal(size=(9, 16))
    others = (people[labels] + 0.2 * rng.normal(size=(120, 16))).astype(np.float32)
    own = rng.integers(0, 9, 50)
    vectors = (people[own] + 0.2 * rng.normal(size=(50, 16))).astype(np.float32)
    value, place = nearest(vectors, Crowd.of(others, labels), own)
    gram = all_pairs(vectors, others, own, labels)
    np.testing.assert_allclose(value, gram.max(1), atol=1e-14)
    assert place.tolist() == gram.argmax(1).tolist()
    assert (labels[place] != own).all()


def test_differences_below_the_products_error_are_told_apart():
    """All others lie at nearly one cosine: only float64 knows the largest."""
    rng = np.random.default_rng(2)
    others = np.concatenate([np.full((200, 1), 3.0), rng.normal(size=(200, 63))], 1)
    others[:, 1:] /= np.linalg.norm(others[:, 1:], axis=1, keepdims=True)
    others = others.astype(np.float32)
    vector = np.eye(1, 64, dtype=np.float32)
    gram = all_pairs(vector, others)
    value, place = nearest(vector, Crowd.of(others))
    assert np.ptp(gram) < 1e-6
    assert value[0] == pytest.approx(gram.max(), abs=1e-15)
    assert gram[0, place[0]] == pytest.approx(gram.max(), abs=1e-15)


@given(
    st.lists(st.tuples(*[st.integers(-3, 3)] * 3).filter(any), min_size=2, max_size=60),
    st.integers(1, 20),
)
def test_any_small_vectors_each_against_the_others(rows, size):
    vectors = np.array(rows, np.float32)
    own = np.arange(len(vectors))
    gram = all_pairs(vectors, vectors, own, own)
    crowd = Crowd.of(vectors)
    for first in range(0, len(vectors), size):
        part = slice(first, first + size)
        value, _ = nearest(vectors[part], crowd, own[part])
        np.testing.assert_allclose(value, gram[part].max(1), atol=1e-14)


def test_who_has_nobody_left_is_an_error():
    vectors = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="vector 1 has nobody"):
        nearest(vectors, Crowd.of(vectors, np.array([5, 5, 5])), np.array([4, 5, 4]))


def test_a_vector_without_direction():
    with pytest.raises(InputError, match="no direction"):
        Crowd.of(np.zeros((2, 4), np.float32))
