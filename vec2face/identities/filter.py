"""Separable identity vectors (paper, section 3.2): exact greedy filtering at cosine <= tau.

Candidates come in order; candidate i is kept if and only if its cosine with every candidate kept
before it is at most tau. One by one this is a matrix-vector product per candidate, bound by memory.
Here a block of candidates meets all kept vectors in matrix products, then is settled within itself,
with the result of the one-by-one rule in float64 (``vec2face.identities.cosines``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vec2face.identities import products
from vec2face.identities.cosines import Kept, Rows, largest_cosine, norms
from vec2face.identities.nearest import Crowd, nearest
from vec2face.runtime.files import InputError
from vec2face.runtime.progress import Progress


@dataclass(frozen=True)
class Sampled:
    """Identity vectors that passed the filter.

    Attributes:
        vectors: (n, D) float32, as drawn (not normalised).
        candidates: (n,) int64, the index of each among the candidates.
        drawn: candidates looked at, up to the last one kept.
        turned_away: how many of these resembled a person to keep away from.
    """

    vectors: np.ndarray
    candidates: np.ndarray
    drawn: int
    turned_away: int = 0

    @property
    def rejection_rate(self) -> float:
        """Share refused for tau, of those not turned away before (paper: 1.7 % at 300 000)."""
        return 1 - len(self.vectors) / (self.drawn - self.turned_away)


def sample_identities(
    draw: Callable[[int, int], np.ndarray],
    count: int,
    tau: float,
    max_candidates: int | None = None,
    away: Kept | None = None,
) -> Sampled:
    """Draw candidates in order until ``count`` have passed the filter.

    Args:
        draw: ``draw(first, number)`` -> (number, D) float32, candidates ``first ...``; a pure
            function of the index, such as ``PCA.sample`` with its seed bound.
        count: identities wanted.
        tau: largest cosine allowed between two of them, -1 < tau <= 1 (1 keeps all).
        max_candidates: candidates to look at before giving up; default 100 for each identity.
        away: vectors of people to keep away from; a candidate with a larger cosine to one of them
            than ``away.tau`` is turned away.

    Raises:
        InputError: if they do not yield ``count`` identities.
    """
    if count < 1:
        raise InputError(f"identities must be at least 1, not {count}")
    limit = 100 * count if max_candidates is None else max_candidates
    candidates: list[np.ndarray] = []
    turned: list[np.ndarray] = []
    greedy: GreedyFilter | None = None
    with Progress(what="identities", total=count, unit="id") as progress:
        for first in range(0, limit, products.block()):
            block = draw(first, min(products.block(), limit - first))
            if greedy is None:
                greedy = GreedyFilter(tau, block.shape[1], count, away)
            kept = greedy.add(block)
            turned.append(first + np.flatnonzero(greedy.turned_away))
            candidates.append(first + np.flatnonzero(kept))
            progress.update(len(candidates[-1]))
            if len(greedy) == count:
                order = np.concatenate(candidates)
                drawn = int(order[-1]) + 1
                away_from = int((np.concatenate(turned) < drawn).sum())
                return Sampled(greedy.vectors, order, drawn, away_from)
    found = 0 if greedy is None else len(greedy)
    raise InputError(
        f"tau = {tau}: only {found} of {count} identities found among {limit} candidates; "
        "raise tau or away_cosine, ask for fewer identities, or fit the PCA on more people"
    )


class GreedyFilter:
    """Keeps vectors whose cosine with every vector kept before is at most tau.

    Attributes:
        turned_away: (B,) bool, which of the last block came nearer to one of ``away`` than that
            allows.
    """

    def __init__(self, tau: float, dimension: int, capacity: int, away: Kept | None = None) -> None:
        """Prepare for at most ``capacity`` vectors; InputError unless -1 < tau <= 1.

        Vectors that ``away`` refuses are kept out from the start.
        """
        self._capacity = capacity
        self._kept = Kept(tau, dimension, capacity)
        self._away = away
        self.turned_away = np.zeros(0, bool)

    def __len__(self) -> int:
        """Vectors kept so far."""
        return len(self._kept)

    @property
    def vectors(self) -> np.ndarray:
        """(n, D) float32, the vectors kept so far, in order."""
        return self._kept.vectors

    def add(self, block: np.ndarray) -> np.ndarray:
        """Offer candidates (B, D) in order; return (B,) bool, which were kept.

        Those that come after the capacity is reached are refused.
        """
        self.turned_away, size = np.zeros(len(block), bool), products.block()
        if self._away is not None:
            for i in range(0, len(block), size):
                part = slice(i, i + size)
                self.turned_away[part] = self._away.refuses(Rows.of(block[part]))
        parts = [self._add(i, block[i : i + size]) for i in range(0, len(block), size)]
        return np.concatenate(parts) if parts else np.zeros(0, bool)

    def _add(self, first: int, block: np.ndarray) -> np.ndarray:
        rows = Rows.of(block)
        out = self.turned_away[first : first + len(block)]
        alive = np.flatnonzero(~self._kept.refuses(rows) & ~out)
        rows = rows[alive]
        chosen = _settle(len(rows), self._kept.conflicts(rows))[: self._capacity - len(self)]
        self._kept.append(rows[chosen])
        result = np.zeros(len(block), bool)
        result[alive[chosen]] = True
        return result


def keep_away(people: np.ndarray, cosine: float) -> Kept:
    """Return what refuses a vector with a larger cosine to one of the people: (n, D)."""
    away = Kept(cosine, people.shape[1], len(people))
    away.append(Rows.of(people))
    return away


def _settle(count: int, conflicts: np.ndarray) -> np.ndarray:
    """Apply the rule to a block with conflicts (i, j), i < j, by rising i; return those kept."""
    keep = np.ones(count, bool)
    for one, other in conflicts:
        if keep[one]:
            keep[other] = False
    return np.flatnonzero(keep)


def certificate(
    sampled: Sampled, tau: float, seed: int, away: Kept | None = None
) -> dict[str, Any]:
    """Prove a sample from its vectors alone, and say how it came about.

    Returns:
        A JSON-able record: identities, tau, seed, the largest cosine (exact) and its pair,
        candidates looked at, rejection rate, candidates turned away from real people and the
        largest cosine to one of these, and the vectors' norms.

    Raises:
        InputError: if a pair exceeds its limit, which would be a fault of the filter.
    """
    record: dict[str, Any] = {
        "identities": len(sampled.vectors),
        "tau": tau,
        "seed": seed,
        "candidates": sampled.drawn,
        "rejection_rate": sampled.rejection_rate,
        "turned_away": sampled.turned_away,
    }
    if len(sampled.vectors) > 1:
        value, one, other = largest_cosine(sampled.vectors)
        if value > tau:
            raise InputError(f"identities {one} and {other} have cosine {value} > tau = {tau}")
        record |= {"largest_cosine": value, "largest_cosine_pair": [one, other]}
    if away is not None:
        nearness, person = nearest(sampled.vectors, Crowd.of(away.vectors))
        worst = int(nearness.argmax())
        if nearness[worst] > away.tau:
            raise InputError(
                f"identity {worst} and real person {person[worst]} have cosine {nearness[worst]} > "
                f"away_cosine = {away.tau}"
            )
        record["away_people"] = len(away)
        record["away_largest_cosine"] = float(nearness[worst])
    lengths = norms(sampled.vectors)
    return record | {"norm_min": float(lengths.min()), "norm_mean": float(lengths.mean())}
