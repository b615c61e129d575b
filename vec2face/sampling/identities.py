"""Separable identity vectors (paper section 3.3): exact greedy filtering at cosine <= tau.

Candidates come in order; candidate i is kept if and only if its cosine with every candidate kept
before it is at most tau. One by one this is a matrix-vector product per candidate, bound by memory.
Here a block of candidates meets all kept vectors in matrix products, then is settled within itself,
with the result of the one-by-one rule in float64 (``vec2face.sampling.cosines``).

A small generator paints faces that resemble each other from vectors that do not. With a
:class:`Look` the filter asks more than the paper's: the *images* of two kept candidates must be
apart as well, in the eyes of a recognizer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from vec2face.files import InputError
from vec2face.sampling.cosines import BLOCK, Kept, Rows, largest_cosine, norms

See = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``see(indices, vectors)`` -> (n, F) float32, what is compared of the candidates that have these
indices (n,) and vectors (n, D)."""


@dataclass(frozen=True)
class Look:
    """How alike the images of two candidates may be.

    Attributes:
        see: gives the features of the candidates' images.
        dimension: F, of these features.
        tau: largest cosine allowed between two of them, -1 < tau <= 1.
    """

    see: See
    dimension: int
    tau: float


@dataclass(frozen=True)
class Sampled:
    """Identity vectors that passed the filter.

    Attributes:
        vectors: (n, D) float32, as drawn (not normalised).
        candidates: (n,) int64, the index of each among the candidates.
        drawn: candidates looked at, up to the last one kept.
        looks: (n, F) float32, features of their images, if a :class:`Look` was given.
    """

    vectors: np.ndarray
    candidates: np.ndarray
    drawn: int
    looks: np.ndarray | None = None

    @property
    def rejection_rate(self) -> float:
        """Share of the candidates that were refused (paper: 1.7 % at 300 000)."""
        return 1 - len(self.vectors) / self.drawn


def sample_identities(
    draw: Callable[[int, int], np.ndarray],
    count: int,
    tau: float,
    max_candidates: int | None = None,
    look: Look | None = None,
) -> Sampled:
    """Draw candidates in order until ``count`` have passed the filter.

    Args:
        draw: ``draw(first, number)`` -> (number, D) float32, candidates ``first ...``; a pure
            function of the index, such as ``PCA.sample`` with its seed bound.
        count: identities wanted.
        tau: largest cosine allowed between two of them, -1 < tau <= 1 (1 keeps all).
        max_candidates: candidates to look at before giving up; default 100 for each identity, or
            1 000 with a look.
        look: what is asked of their images, too.

    Raises:
        InputError: if they do not yield ``count`` identities.
    """
    if count < 1:
        raise InputError(f"identities must be at least 1, not {count}")
    limit = (1000 if look else 100) * count if max_candidates is None else max_candidates
    candidates: list[np.ndarray] = []
    greedy: GreedyFilter | None = None
    with tqdm(total=count, desc="identities", unit="id", disable=None) as progress:
        for first in range(0, limit, BLOCK):
            block = draw(first, min(BLOCK, limit - first))
            if greedy is None:
                greedy = GreedyFilter(tau, block.shape[1], count, look)
            kept = greedy.add(block)
            candidates.append(first + np.flatnonzero(kept))
            progress.update(len(candidates[-1]))
            if len(greedy) == count:
                order = np.concatenate(candidates)
                return Sampled(greedy.vectors, order, int(order[-1]) + 1, greedy.looks)
    found = 0 if greedy is None else len(greedy)
    bounds = f"tau = {tau}" + (f" and image_tau = {look.tau}" if look else "")
    raise InputError(
        f"{bounds}: only {found} of {count} identities found among {limit} candidates; "
        "raise tau, ask for fewer identities, or fit the PCA on more people"
    )


class GreedyFilter:
    """Keeps vectors whose cosine with every vector kept before is at most tau.

    With a :class:`Look`, the same holds of their images, which are made only of candidates that the
    vectors kept in earlier blocks leave over.
    """

    def __init__(self, tau: float, dimension: int, capacity: int, look: Look | None = None) -> None:
        """Prepare for at most ``capacity`` vectors; InputError unless -1 < tau <= 1."""
        self._capacity, self._offered = capacity, 0
        self._spaces: list[tuple[See, Kept]] = [
            (lambda _, vectors: vectors, Kept(tau, dimension, capacity))
        ]
        if look:
            self._spaces.append((look.see, Kept(look.tau, look.dimension, capacity)))

    def __len__(self) -> int:
        """Vectors kept so far."""
        return len(self._spaces[0][1])

    @property
    def vectors(self) -> np.ndarray:
        """(n, D) float32, the vectors kept so far, in order."""
        return self._spaces[0][1].vectors

    @property
    def looks(self) -> np.ndarray | None:
        """(n, F) float32, features of their images; None without a :class:`Look`."""
        return self._spaces[1][1].vectors if len(self._spaces) > 1 else None

    def add(self, block: np.ndarray) -> np.ndarray:
        """Offer candidates (B, D) in order; return (B,) bool, which were kept.

        Those that come after the capacity is reached are refused.
        """
        parts = [self._add(block[i : i + BLOCK]) for i in range(0, len(block), BLOCK)]
        return np.concatenate(parts) if parts else np.zeros(0, bool)

    def _add(self, block: np.ndarray) -> np.ndarray:
        alive = np.arange(len(block))  # not refused by any vector of earlier blocks
        seen: list[Rows] = []  # what is alive, in each space
        for see, kept in self._spaces:
            new = Rows.of(see(self._offered + alive, block[alive]))
            fine = ~kept.refuses(new)
            alive, seen = alive[fine], [rows[fine] for rows in (*seen, new)]
        conflicts = [
            kept.conflicts(rows) for (_, kept), rows in zip(self._spaces, seen, strict=True)
        ]
        chosen = _settle(len(alive), np.concatenate(conflicts))[: self._capacity - len(self)]
        for (_, kept), rows in zip(self._spaces, seen, strict=True):
            kept.append(rows[chosen])
        self._offered += len(block)
        result = np.zeros(len(block), bool)
        result[alive[chosen]] = True
        return result


def _settle(count: int, conflicts: np.ndarray) -> np.ndarray:
    """Apply the rule to a block with these conflicts, (m, 2), i < j; return the indices kept."""
    keep = np.ones(count, bool)
    for one, other in conflicts[np.argsort(conflicts[:, 0], kind="stable")]:
        if keep[one]:
            keep[other] = False
    return np.flatnonzero(keep)


def certificate(sampled: Sampled, tau: float, seed: int, image_tau: float = 1) -> dict[str, Any]:
    """Prove a sample from its vectors, and looks if any, and say how it came about.

    Returns:
        A JSON-able record: identities, tau, seed, the largest cosine (exact) and its pair, the same
        of the images if they were looked at, candidates looked at, rejection rate, and the vectors'
        norms.

    Raises:
        InputError: if a pair exceeds its bound, which would be a fault of the filter.
    """
    record: dict[str, Any] = {
        "identities": len(sampled.vectors),
        "seed": seed,
        "candidates": sampled.drawn,
        "rejection_rate": sampled.rejection_rate,
    }
    spaces = [("", "", sampled.vectors, tau)]
    if sampled.looks is not None:
        spaces.append(("image_", "images of ", sampled.looks, image_tau))
    for prefix, what, vectors, bound in spaces:
        record[f"{prefix}tau"] = bound
        if len(vectors) > 1:
            value, one, other = largest_cosine(vectors)
            if value > bound:
                pair = f"{what}identities {one} and {other}"
                raise InputError(f"{pair} have cosine {value} > {prefix}tau = {bound}")
            record[f"largest_{prefix}cosine"] = value
            record[f"largest_{prefix}cosine_pair"] = [one, other]
    lengths = norms(sampled.vectors)
    return record | {"norm_min": float(lengths.min()), "norm_mean": float(lengths.mean())}
