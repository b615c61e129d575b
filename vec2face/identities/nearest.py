"""The nearest of many vectors, exactly, by blocks: who is most alike to whom.

As in ``vec2face.identities.cosines``, products have a known error, and what this leaves in doubt is
computed again in float64. This is a pass of its own; it shares no search
with the filter, whose results it proves.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from vec2face.identities import cosines, products
from vec2face.identities.cosines import Rows
from vec2face.identities.products import Products


@dataclass(frozen=True)
class Crowd:
    """Vectors among which the nearest is looked for.

    Attributes:
        rows: R vectors, by rising label.
        labels: (R,) int64, whose each of them is.
        order: (R,) int64, the place of each among the vectors as they were given.
    """

    rows: Rows
    labels: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, vectors: np.ndarray, labels: np.ndarray | None = None) -> Self:
        """Take vectors (R, D) and their owners, by default each its own.

        Raises:
            InputError: a vector has no direction.
        """
        labels = np.arange(len(vectors)) if labels is None else np.asarray(labels)
        order = np.argsort(labels, kind="stable")
        return cls(Rows.of(vectors[order]), labels[order], order)

    def __len__(self) -> int:
        """Return R."""
        return len(self.rows)


def nearest(
    vectors: np.ndarray, crowd: Crowd, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find for each vector the one in a crowd with the largest cosine.

    Memory: a tile of cosines and, at worst, as many pairs that are in doubt.

    Args:
        vectors: (N, D).
        crowd: at least one vector must be left for each of ``vectors``.
        own: (N,), labels; each vector passes over those with its own.

    Returns:
        ((N,) float64, (N,) int64): the cosine, computed in float64, and the place of that vector
        in what the crowd was made of; of equal ones the first in the crowd's order.

    Raises:
        InputError: a vector has no direction.
        ValueError: a vector has nobody to be compared with.
    """
    best, place = np.full(len(vectors), -np.inf), np.full(len(vectors), -1)
    work, size = Products(), products.block()
    for first in range(0, len(vectors), size):
        block = slice(first, first + size)
        labels = None if own is None else np.asarray(own[block])
        best[block], place[block] = _nearest(Rows.of(vectors[block]), crowd, labels, work)
    if (place < 0).any():
        raise ValueError(f"vector {place.argmin()} has nobody to be compared with")
    return best, crowd.order[place]


def _nearest(
    rows: Rows, crowd: Crowd, own: np.ndarray | None, work: Products
) -> tuple[np.ndarray, np.ndarray]:
    best, place = np.full(len(rows), -np.inf), np.full(len(rows), -1)
    device, apart, size = rows.unit.device, None, products.tile()
    for first in range(0, len(crowd), size):
        others = crowd.rows.unit[first : first + size]
        if own is not None:  # the run of the crowd's rows that belong to each vector's owner
            run = (np.searchsorted(crowd.labels, own, side) for side in ("left", "right"))
            low, high = (torch.from_numpy(at - first).clamp(0, len(others)) for at in run)
            apart = low.to(device), high.to(device)
        largest = work.largest(rows.unit, others, apart).cpu().numpy()
        # No vector below this line can be the nearest one.
        line = np.maximum(largest - 2 * rows.error, best - rows.error)
        line = (line - 2.0**-23).astype(np.float32)  # which may have rounded it up
        which = np.flatnonzero((largest >= line) & (largest > -np.inf))
        some = torch.from_numpy(which).to(device)
        mine = apart and (apart[0][some], apart[1][some])
        one, other = work.near(rows.unit[some], others, line[which], mine)
        one = which[one]
        exact = _exact(rows.raw, one, crowd.rows.raw, first + other)
        # By row, then by falling cosine, then by place: the first of each row is its best.
        order = np.lexsort((other, -exact, one))
        who, where = np.unique(one[order], return_index=True)
        value, at = exact[order][where], first + other[order][where]
        better = value > best[who]
        best[who[better]], place[who[better]] = value[better], at[better]
    return best, place


def _exact(a: np.ndarray, i: np.ndarray, b: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Return the cosines of rows i of a and rows j of b in float64, part by part."""
    parts = [slice(k, k + cosines.BLOCK) for k in range(0, len(i), cosines.BLOCK)]
    found = [cosines.cosines(a[i[part]], b[j[part]]) for part in parts]
    return np.concatenate(found) if found else np.zeros(0)
