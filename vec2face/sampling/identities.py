"""Separable identity vectors (paper section 3.3): exact greedy filtering at cosine <= tau.

Candidates come in order; candidate i is kept if and only if its cosine with every candidate kept
before it is at most tau. One by one this is a matrix-vector product per candidate, bound by memory.
Here a block of candidates meets all kept vectors in matrix products, then is settled within itself.

Exactness: the products run in float32. A dot product of unit vectors of D dimensions rounded to
float32 errs by at most (D + 8) * 2**-24 whatever the order of summation, so only pairs closer to
tau than this are in doubt, and these few are computed again in float64. The kept set is therefore
that of the one-by-one rule in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from vec2face.files import InputError

BLOCK = 1024  # candidates at a time
TILE = 8192  # kept vectors at a time: 32 MiB of cosines


@dataclass(frozen=True)
class Sampled:
    """Identity vectors that passed the filter.

    Attributes:
        vectors: (n, D) float32, as drawn (not normalised).
        candidates: (n,) int64, the index of each among the candidates.
        drawn: candidates looked at, up to the last one kept.
    """

    vectors: np.ndarray
    candidates: np.ndarray
    drawn: int

    @property
    def rejection_rate(self) -> float:
        """Share of the candidates that were refused (paper: 1.7 % at 300 000)."""
        return 1 - len(self.vectors) / self.drawn


def sample_identities(
    draw: Callable[[int, int], np.ndarray],
    count: int,
    tau: float,
    max_candidates: int | None = None,
) -> Sampled:
    """Draw candidates in order until ``count`` have passed the filter.

    Args:
        draw: ``draw(first, number)`` -> (number, D) float32, candidates ``first ...``; a pure
            function of the index, such as ``PCA.sample`` with its seed bound.
        count: identities wanted.
        tau: largest cosine allowed between two of them, -1 < tau <= 1 (1 keeps all).
        max_candidates: candidates to look at before giving up; default 100 for each identity.

    Raises:
        InputError: if they do not yield ``count`` identities.
    """
    if count < 1:
        raise InputError(f"identities must be at least 1, not {count}")
    limit = 100 * count if max_candidates is None else max_candidates
    candidates: list[np.ndarray] = []
    greedy: GreedyFilter | None = None
    with tqdm(total=count, desc="identities", unit="id", disable=None) as progress:
        for first in range(0, limit, BLOCK):
            block = draw(first, min(BLOCK, limit - first))
            if greedy is None:
                greedy = GreedyFilter(tau, block.shape[1], count)
            kept = greedy.add(block)
            candidates.append(first + np.flatnonzero(kept))
            progress.update(len(candidates[-1]))
            if len(greedy) == count:
                order = np.concatenate(candidates)
                return Sampled(greedy.vectors, order, int(order[-1]) + 1)
    found = 0 if greedy is None else len(greedy)
    raise InputError(
        f"tau = {tau}: only {found} of {count} identities found among {limit} candidates; "
        "raise tau, ask for fewer identities, or fit the PCA on more people"
    )


class GreedyFilter:
    """Keeps vectors whose cosine with every vector kept before is at most tau.

    Memory: two float32 arrays of (capacity, D), and blocks of fixed size.
    """

    def __init__(self, tau: float, dimension: int, capacity: int) -> None:
        """Prepare for at most ``capacity`` vectors; InputError unless -1 < tau <= 1."""
        if not -1 < tau <= 1:
            raise InputError(f"tau must be above -1 and at most 1, not {tau}")
        self.tau = tau
        self._margin = _margin(dimension)
        self._raw = np.empty((capacity, dimension), np.float32)
        self._unit = np.empty((capacity, dimension), np.float32)
        self._count = 0
        self._tile = np.empty(BLOCK * TILE, np.float32)

    def __len__(self) -> int:
        """Vectors kept so far."""
        return self._count

    @property
    def vectors(self) -> np.ndarray:
        """(n, D) float32, the vectors kept so far, in order."""
        return self._raw[: self._count]

    def add(self, block: np.ndarray) -> np.ndarray:
        """Offer candidates (B, D) in order; return (B,) bool, which were kept.

        Those that come after the capacity is reached are refused.
        """
        parts = [self._add(block[i : i + BLOCK]) for i in range(0, len(block), BLOCK)]
        return np.concatenate(parts) if parts else np.zeros(0, bool)

    def _add(self, block: np.ndarray) -> np.ndarray:
        raw = np.ascontiguousarray(block, np.float32)
        unit = _unit(raw)
        alive = np.arange(len(raw))  # not refused by any vector of earlier blocks
        for start in range(0, self._count, TILE):
            stop = min(start + TILE, self._count)
            cosine = self._product(unit[alive], self._unit[start:stop])
            largest = cosine.max(1, initial=-np.inf)
            refused = largest > self.tau + self._margin
            for row in np.flatnonzero(~refused & (largest > self.tau - self._margin)):
                near = start + np.flatnonzero(cosine[row] > self.tau - self._margin)
                pairs = cosines(raw[alive[row]][None], self._raw[near])
                refused[row] = bool((pairs > self.tau).any())
            alive = alive[~refused]
        alive = alive[self._settle(raw[alive], unit[alive])]
        alive = alive[: len(self._raw) - self._count]
        kept = slice(self._count, self._count + len(alive))
        self._raw[kept], self._unit[kept] = raw[alive], unit[alive]
        self._count += len(alive)
        result = np.zeros(len(raw), bool)
        result[alive] = True
        return result

    def _settle(self, raw: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """Apply the rule within one block; return (B,) bool."""
        cosine = self._product(unit, unit)
        one, other = np.nonzero(cosine > self.tau - self._margin)  # a few of very many
        one, other = one[one < other], other[one < other]
        conflict = cosine[one, other] > self.tau
        doubt = np.flatnonzero(np.abs(cosine[one, other] - self.tau) <= self._margin)
        for part in range(0, len(doubt), BLOCK):  # bounded also if all are in doubt
            pairs = doubt[part : part + BLOCK]
            conflict[pairs] = cosines(raw[one[pairs]], raw[other[pairs]]) > self.tau
        one, other = one[conflict], other[conflict]
        keep = np.ones(len(raw), bool)
        rows, starts = np.unique(one, return_index=True)
        stops = np.searchsorted(one, rows, side="right")
        for i, start, stop in zip(rows, starts, stops, strict=True):
            if keep[i]:
                keep[other[start:stop]] = False
        return keep

    def _product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = self._tile[: len(a) * len(b)].reshape(len(a), len(b))
        return np.matmul(a, b.T, out=out)


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
    margin = 2 * _margin(vectors.shape[1])
    unit = np.empty(vectors.shape, np.float32)
    for i in range(0, len(vectors), BLOCK):
        unit[i : i + BLOCK] = _unit(vectors[i : i + BLOCK])
    best = -np.inf
    found: list[np.ndarray] = []  # rows (cosine, i, j) that may be the largest
    for i in tqdm(range(0, len(unit), BLOCK), desc="certificate", unit="block", disable=None):
        rows = unit[i : i + BLOCK]
        for j in range(i, len(unit), TILE):
            cosine = rows @ unit[j : j + TILE].T
            if i == j:
                cosine[np.tril_indices(len(rows), 0, cosine.shape[1])] = -np.inf
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


def certificate(sampled: Sampled, tau: float, seed: int) -> dict[str, Any]:
    """Prove a sample from its vectors alone, and say how it came about.

    Returns:
        A JSON-able record: identities, tau, seed, the largest cosine (exact) and its pair,
        candidates looked at, rejection rate, and the vectors' norms.

    Raises:
        InputError: if a pair exceeds tau, which would be a fault of the filter.
    """
    record: dict[str, Any] = {
        "identities": len(sampled.vectors),
        "tau": tau,
        "seed": seed,
        "candidates": sampled.drawn,
        "rejection_rate": sampled.rejection_rate,
    }
    if len(sampled.vectors) > 1:
        value, one, other = largest_cosine(sampled.vectors)
        if value > tau:
            raise InputError(f"identities {one} and {other} have cosine {value} > tau = {tau}")
        record |= {"largest_cosine": value, "largest_cosine_pair": [one, other]}
    norms = _norms(sampled.vectors)
    return record | {"norm_min": float(norms.min()), "norm_mean": float(norms.mean())}


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows in float64; a and b broadcast, (n, D) or (1, D)."""
    dots = np.einsum("nd,nd->n", *np.broadcast_arrays(a, b), dtype=np.float64)
    return np.minimum(dots / (_norms(a) * _norms(b)), 1)


def _norms(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64))


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = _norms(vectors)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if len(bad):
        raise InputError(f"vector {bad[0]} of a block is zero or not finite: it has no direction")
    return (vectors / norms[:, None]).astype(np.float32)


def _margin(dimension: int) -> float:
    return (dimension + 8) * 2.0**-24
