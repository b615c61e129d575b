"""Which vectors are too much alike: exact cosines at the speed of matrix products.

The products run in bfloat16 where the processor multiplies it, else in float32. Either errs by a
bounded amount (``_margin``), so only pairs nearer to the limit than this are in doubt, and these
few are computed again in float64. Every answer is that of float64, whatever the machine.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vec2face.runtime.files import InputError
from vec2face.runtime.progress import Progress

BLOCK = 1024  # rows at a time
TILE = 8192  # rows they meet at a time: some 32 MiB of cosines
STEP = 256  # rows of a product are a multiple of it: oneDNN keeps a program for every shape


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows in float64; a and b broadcast, (n, D) or (1, D)."""
    dots = np.einsum("nd,nd->n", *np.broadcast_arrays(a, b), dtype=np.float64)
    return np.minimum(dots / (norms(a) * norms(b)), 1)


def norms(vectors: np.ndarray) -> np.ndarray:
    """Return the length of each row in float64: (n, D) -> (n,)."""
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))


@dataclass(frozen=True)
class Rows:
    """Vectors, and the same of length 1 in the type that products run in.

    Attributes:
        raw: (n, D) float32.
        unit: (n, D) bfloat16 or float32.
    """

    raw: np.ndarray
    unit: Tensor

    @classmethod
    def of(cls, vectors: np.ndarray) -> Self:
        """Take vectors (n, D); InputError if one has no direction."""
        raw = np.ascontiguousarray(vectors, np.float32)
        return cls(raw, torch.from_numpy(_unit(raw)).to(_screen()))

    def __len__(self) -> int:
        """Return n."""
        return len(self.raw)

    def __getitem__(self, which: np.ndarray) -> Self:
        """Return some of the rows, by a mask or by indices."""
        return type(self)(self.raw[which], self.unit[torch.from_numpy(which)])

    @property
    def error(self) -> float:
        """The largest error of a product of two of them, or of one with another such row."""
        return _margin(self.raw.shape[1], self.unit.dtype)


class Kept:
    """Vectors among which no two have a cosine above ``tau``.

    Memory: float32 and bfloat16 (or again float32) arrays of (capacity, D), and a tile.
    """

    def __init__(self, tau: float, dimension: int, capacity: int) -> None:
        """Prepare for at most ``capacity`` vectors; InputError unless they fit, -1 < tau <= 1."""
        if not -1 < tau <= 1:
            raise InputError(f"tau must be above -1 and at most 1, not {tau}")
        self.tau = tau
        self._margin = _margin(dimension, _screen())
        try:
            self._raw = np.empty((capacity, dimension), np.float32)
            self._unit = torch.empty((capacity, dimension), dtype=_screen())
        except (MemoryError, RuntimeError, ValueError) as error:  # ValueError: above all addresses
            raise InputError(
                f"identities: {capacity} vectors of {dimension} numbers do not fit into memory; "
                "ask for fewer"
            ) from error
        self._tile = torch.empty((BLOCK + STEP) * (TILE + STEP), dtype=_screen())
        self._count = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return self._count

    @property
    def vectors(self) -> np.ndarray:
        """(n, D) float32, in the order of their coming."""
        return self._raw[: self._count]

    def append(self, rows: Rows) -> None:
        """Keep these, too; there must be room."""
        new = slice(self._count, self._count + len(rows))
        self._raw[new], self._unit[new] = rows.raw, rows.unit
        self._count = new.stop

    def refuses(self, rows: Rows) -> np.ndarray:
        """Say of each row, (B,) bool, if it has a cosine above ``tau`` with any of these."""
        refused = np.zeros(len(rows), bool)
        for first in range(0, self._count, TILE):
            if not len(alive := np.flatnonzero(~refused)):
                break
            mine = slice(first, min(first + TILE, self._count))
            cosine = self._product(rows[alive].unit, self._unit[mine])
            largest = cosine.amax(1).float().numpy()
            refused[alive] = largest > self.tau + self._margin
            doubt = np.flatnonzero(~refused[alive] & (largest > self.tau - self._margin))
            near = cosine[torch.from_numpy(doubt)].float() > self.tau - self._margin
            one, other = near.nonzero().numpy().T
            one, other = alive[doubt[one]], first + other
            refused[one[self._above(rows.raw, one, self._raw, other)]] = True
        return refused

    def conflicts(self, rows: Rows) -> np.ndarray:
        """Return the pairs (i, j), i < j, of rows above ``tau``: (m, 2), by rising i."""
        cosine = self._product(rows.unit, rows.unit)
        pairs = (cosine.float() > self.tau - self._margin).nonzero().numpy()  # a few of very many
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        rough = cosine[tuple(torch.from_numpy(pairs.T))].float().numpy()
        above = rough > self.tau + self._margin
        one, other = pairs[~above].T
        above[~above] = self._above(rows.raw, one, rows.raw, other)
        return pairs[above]

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        height, width = len(a), len(b)
        if a.dtype == torch.float32:  # NumPy's BLAS is the faster one on many processors
            out = self._tile[: height * width].view(height, width)
            np.matmul(a.numpy(), b.numpy().T, out=out.numpy())
            return out
        a, b = (functional.pad(rows, (0, 0, 0, -len(rows) % STEP)) for rows in (a, b))
        out = self._tile[: len(a) * len(b)].view(len(a), len(b))
        return torch.mm(a, b.T, out=out)[:height, :width]

    def _above(self, a: np.ndarray, i: np.ndarray, b: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Compare rows i of a with rows j of b in float64, in parts: all may be in doubt."""
        parts = [slice(k, k + BLOCK) for k in range(0, len(i), BLOCK)]
        found = [cosines(a[i[part]], b[j[part]]) > self.tau for part in parts]
        return np.concatenate(found) if found else np.zeros(0, bool)


def largest_cosine(vectors: np.ndarray) -> tuple[float, int, int]:
    """Find the most alike pair among all pairs, independently of how the vectors were chosen.

    Args:
        vectors: (n, D), n >= 2.

    Returns:
        (cosine in float64, i, j) with i < j. Every pair is seen in float32; those that rounding
        could hide are compared in float64, so the value is the exact maximum.
    """
    if len(vectors) < 2:
        raise ValueError("one vector has no pair")
    margin = 2 * _margin(vectors.shape[1], torch.float32)
    best = -np.inf
    found: list[np.ndarray] = []  # rows (cosine, i, j) that may be the largest
    for j in Progress(range(0, len(vectors), TILE), "certificate", unit="tile"):
        tile = _unit(vectors[j : j + TILE])
        for i in range(0, j + len(tile), BLOCK):
            cosine = _unit(vectors[i : i + BLOCK]) @ tile.T
            if i + BLOCK > j:
                cosine[np.tril_indices(len(cosine), i - j, len(tile))] = -np.inf
            largest = cosine.max(1)
            best = max(best, float(largest.max()))
            near = np.flatnonzero(largest >= best - margin)
            if len(near):
                a, b = np.nonzero(cosine[near] >= best - margin)
                a = near[a]
                found.append(np.stack([cosine[a, b].astype(np.float64), i + a, j + b], 1))
    pairs = np.concatenate(found)
    pairs = pairs[pairs[:, 0] >= best - margin]
    one, other = pairs[:, 1].astype(np.int64), pairs[:, 2].astype(np.int64)
    exact = np.concatenate(
        [
            cosines(vectors[one[k : k + BLOCK]], vectors[other[k : k + BLOCK]])
            for k in range(0, len(pairs), BLOCK)
        ]
    )
    top = int(exact.argmax())
    return float(exact[top]), int(one[top]), int(other[top])


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = norms(vectors)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise InputError(
            f"vector {bad[0]} of a block is zero or not finite: it has no direction; "
            "fit the PCA again"
        )
    return vectors * (1 / lengths).astype(np.float32)[:, None]


def _screen() -> torch.dtype:
    """Return the type in which products are fastest here."""
    able = torch.cpu.get_capabilities()
    fast = able.get("avx512_bf16") or able.get("amx_bf16")
    return torch.bfloat16 if fast else torch.float32


def _margin(dimension: int, screen: torch.dtype) -> float:
    """Bound the error of a product of two vectors of length 1, in either type.

    Rounding the factors to p bits errs by a relative 2^-p each, and summing D products in float32,
    in any order, by at most D * 2^-24, both of a sum of magnitudes that is at most 1. Normalising
    in float32 adds a few 2^-24, and bfloat16 (p = 8) rounds the result once more.
    """
    return (dimension + 8) * 2.0**-24 + (3.02 * 2.0**-8 if screen == torch.bfloat16 else 0)
