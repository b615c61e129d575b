"""Products against all pairs in float64; and what a GPU computes, by Triton's interpreter."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from vec2face.identities import products
from vec2face.identities.products import Products


def unit(count, dimension, seed):
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("count", "others"), [(1, 1), (70, 300), (300, 520)])
def test_largest_products_are_those_of_all_pairs(kind, count, others):
    a, b = unit(count, 48, 0), unit(others, 48, 1)
    work, error = Products(), products.margin(48, kind)
    one, other = (torch.from_numpy(rows).to(kind) for rows in (a, b))
    gram = a @ b.T
    assert np.abs(work.of(one, other).float().numpy() - gram).max() <= error
    assert np.abs(work.largest(one, other).numpy() - gram.max(1)).max() <= error
    rng = np.random.default_rng(2)
    low, high = np.sort(rng.integers(0, others + 1, (2, count)), axis=0)
    place = np.arange(others)
    gram[(place >= low[:, None]) & (place < high[:, None])] = -np.inf
    found = work.largest(one, other, (torch.from_numpy(low), torch.from_numpy(high))).numpy()
    left = np.isfinite(gram).any(1)
    assert (found[~left] == -np.inf).all()
    assert np.abs(found[left] - gram[left].max(1)).max(initial=0) <= error


ON_A_GPU = """
import numpy as np, torch
from vec2face.identities import products
from vec2face.identities.cosines import largest_cosine
from vec2face.identities.filter import GreedyFilter
from vec2face.identities.kernel import row_maxima
from vec2face.identities.nearest import Crowd, nearest

torch.cpu.get_capabilities = lambda: {}  # the interpreter cannot multiply bfloat16
called = []
def largest(self, a, b, apart=None):
    called.append(len(a))
    return row_maxima(a, b, apart)
products.Products.largest, products.BLOCK, products.TILE = largest, 100, 150

rng = np.random.default_rng(0)
vectors = (rng.normal(size=(420, 70)) * 0.9 ** np.arange(70)).astype(np.float32)
rows = vectors / np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
gram = rows @ rows.T
kept = []
for i in range(420):
    if not kept or gram[i, kept].max() <= 0.4:
        kept.append(i)
assert np.flatnonzero(GreedyFilter(0.4, 70, 420).add(vectors)).tolist() == kept
labels = rng.integers(0, 30, 420)
away = np.where(labels[:, None] == labels[None], -2, gram)
value, place = nearest(vectors, Crowd.of(vectors, labels), labels)
assert np.allclose(value, away.max(1), atol=1e-14)
assert (place == away.argmax(1)).all()
above = np.triu(gram, 1)
found = largest_cosine(vectors)
assert np.isclose(found[0], above.max(), atol=1e-14)
assert found[1:] == np.unravel_index(above.argmax(), above.shape)
assert len(called) > 20
"""


def test_the_kernel_of_a_gpu_gives_the_same_answers():
    pytest.importorskip("triton", reason="comes with PyTorch for GPUs")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-c", ON_A_GPU],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
