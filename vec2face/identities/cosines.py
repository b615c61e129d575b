"""Which vectors are too much alike: exact cosines at the speed of matrix products.

Products (``products``) err by a bounded amount, so only pairs nearer to the limit than this are in
doubt, and these few are computed again in float64. Every answer is that of float64, whatever the
machine.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from vec2face.identities import products
from vec2face.identities.products import Products
from vec2face.runtime.files import InputError
from vec2face.runtime.progress import Progress

BLOCK = 1024  # pairs compared in float64 at a time


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
        unit: (n, D) bfloat16 or float32, on the device of the products.
    """

    raw: np.ndarray
    unit: Tensor

    @classmethod
    def of(cls, vectors: np.ndarray) -> Self:
        """Take vectors (n, D); InputError if one has no direction."""
        raw = np.ascontiguousarray(vectors, np.float32)
        return cls(raw, torch.from_numpy(_unit(raw)).to(products.device(), products.screen()))

    def __len__(self) -> int:
        """Return n."""
        return len(self.raw)

    def __getitem__(self, which: np.ndarray) -> Self:
        """Return some of the rows, by a mask or by indices."""
        return type(self)(self.raw[which], self.unit[_index(which, self.unit)])

    @property
    def error(self) -> float:
        """The largest error of a product of two of them, or of one with another such row."""
        return products.margin(self.raw.shape[1], self.unit.dtype)


class Kept:
    """Vectors among which no two have a cosine above ``tau``.

    Memory: float32 and bfloat16 (or again float32) arrays of (capacity, D), and a tile.
    """

    def __init__(self, tau: float, dimension: int, capacity: int) -> None:
        """Prepare for at most ``capacity`` vectors; InputError unless they fit, -1 < tau <= 1."""
        if not -1 < tau <= 1:
            raise InputError(f"tau must be above -1 and at most 1, not {tau}")
        self.tau = tau
        kind = products.screen()
        self._margin = products.margin(dimension, kind)
        try:
            self._raw = np.empty((capacity, dimension), np.float32)
            self._unit = torch.empty((capacity, dimension), dtype=kind, device=products.device())
        except (MemoryError, RuntimeError, ValueError) as error:  # ValueError: above all addresses
            raise InputError(
                f"identities: {capacity} vectors of {dimension} numbers do not fit into memory; "
                "ask for fewer"
            ) from error
        self._products = Products()
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
        refused, tile = np.zeros(len(rows), bool), products.tile()
        for first in range(0, self._count, tile):
            if not len(alive := np.flatnonzero(~refused)):
                break
            others = self._unit[first : min(first + tile, self._count)]
            unit = rows.unit[_index(alive, rows.unit)]
            largest = self._products.largest(unit, others).cpu().numpy()
            refused[alive] = largest > self.tau + self._margin
            doubt = np.flatnonzero(~refused[alive] & (largest > self.tau - self._margin))
            line = np.full(len(doubt), np.nextafter(np.float32(self.tau - self._margin), -2))
            one, other = self._products.near(unit[_index(doubt, unit)], others, line)
            one, other = alive[doubt[one]], first + other
            refused[one[self._above(rows.raw, one, self._raw, other)]] = True
        return refused

    def conflicts(self, rows: Rows) -> np.ndarray:
        """Return the pairs (i, j), i < j, of rows above ``tau``: (m, 2), by rising i."""
        product = self._products.of(rows.unit, rows.unit).float()
        pairs = (product > self.tau - self._margin).nonzero()  # a few of very many
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        rough = product[pairs[:, 0], pairs[:, 1]].cpu().numpy()
        found = pairs.cpu().numpy()
        above = rough > self.tau + self._margin
        one, other = found[~above].T
        above[~above] = self._above(rows.raw, one, rows.raw, other)
        return found[above]

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
        (cosine in float64, i, j) with i < j. Pairs that rounding could hide are compared in
        float64, so the value is the exact maximum.
    """
    if len(vectors) < 2:
        raise ValueError("one vector has no pair")
    best, pair, work = -np.inf, (0, 0), Products()
    tile, block = products.tile(), products.block()
    for j in Progress(range(0, len(vectors), tile), "certificate", unit="tile"):
        others = Rows.of(vectors[j : j + tile])
        for i in range(0, j + len(others), block):
            rows = Rows.of(vectors[i : i + block])
            until = (torch.arange(i + 1, i + 1 + len(rows)) - j).clamp(0, len(others))
            met = until.to(others.unit.device)  # no row meets itself or those before it
            apart = torch.zeros_like(met), met
            largest = work.largest(rows.unit, others.unit, apart).cpu()
            line = max(best, float(largest.max()) - rows.error) - rows.error - 2.0**-23
            rough = np.flatnonzero(largest.numpy() >= line)
            some = _index(rough, met)
            lines = np.full(len(rough), line, np.float32)
            one, other = work.near(rows.unit[some], others.unit, lines, (apart[0][some], met[some]))
            one = rough[one]
            for k in range(0, len(one), BLOCK):
                part = slice(k, k + BLOCK)
                exact = cosines(rows.raw[one[part]], others.raw[other[part]])
                if exact.max() > best:
                    top = int(exact.argmax())
                    best, pair = float(exact[top]), (i + int(one[k + top]), j + int(other[k + top]))
    return best, *pair


def _index(which: np.ndarray, rows: Tensor) -> Tensor:
    return torch.from_numpy(which).to(rows.device)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = norms(vectors)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise InputError(
            f"vector {bad[0]} of a block is zero or not finite: it has no direction; "
            "fit the PCA again"
        )
    return vectors * (1 / lengths).astype(np.float32)[:, None]
