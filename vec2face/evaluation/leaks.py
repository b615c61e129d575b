"""The certificate of leaks: do generated people resemble real ones?

The nearest of many strangers is fairly alike by chance alone, so a cosine says nothing without a
baseline. It is made of the generator's training people, who are known to be different people:
each of them meets all the others (``Baseline``). The threshold is what a stated share of them
exceeds. How many true leaks lie above it, the power, is read off the same people: half of a
person's images are the leak, the other half the person in the set.

A generated person is a vector, the mean of its images' features, or a single image. Sets with
labels are searched by person (mean features), benchmarks by face, since they do not say who is who.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.stats import binom, norm

from vec2face.identities.cosines import cosines
from vec2face.identities.nearest import Crowd, nearest
from vec2face.randomness import stream
from vec2face.recognizers.statistics import identity_means
from vec2face.runtime.blocks import Blocks
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import processes

log = logging.getLogger(__name__)

BLOCK = 4096  # vectors at a time
PAPER = 0.4
"""Above it a generated identity resembles a training identity (paper: 168 of 300 000)."""
CHANCE = 0.001  # of a warning if the sets share nobody


@dataclass(frozen=True)
class Known:
    """A set of real people to look for.

    Attributes:
        crowd: their mean features, or single faces.
        faces: whether they are single faces.
    """

    crowd: Crowd
    faces: bool = False


class Baseline:
    """Real people who are different people: what strangers and what the same people look like.

    Args:
        features: (N, D), of at least two people.
        labels: (N,) int64.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray) -> None:
        self._features, self._labels = features, labels
        self._people, self._first = np.unique(labels, return_index=True)
        if len(self._people) < 2:
            raise InputError("a baseline of leaks needs two people; raise subset.identities")
        order = np.argsort(labels, kind="stable")
        number = np.empty(len(labels), np.int64)  # of an image among its person's
        starts = np.searchsorted(labels[order], labels[order])
        number[order] = np.arange(len(labels)) - starts
        self._second = number % 2 == 1
        self._found: dict[tuple[bool, bool], tuple[np.ndarray, int]] = {}

    def threshold(self, known: Known, rate: float, *, images: bool) -> float:
        """Return the cosine that a share ``rate`` of strangers exceeds, at their nearest.

        Where a set is larger than the baseline, a stranger has more chances. If all pairs are
        independent, the rate of the baseline's m that does for n is 1 - (1 - rate)^(m / n). Where
        that is below one person, it is the largest cosine of all, and the true rate may be higher.

        Args:
            known: the set that is searched.
            rate: in (0, 1].
            images: whether single images look for themselves in it, or people.
        """
        found, met = self._strangers(images, known.faces)
        share = 1 - (1 - rate) ** (met / len(known.crowd))
        alike = int(round(share * len(found), 9))  # 0.05 of 300 is 15, however it rounds
        return float(np.sort(found)[::-1][min(alike, len(found) - 1)])

    def power(self, threshold: float, *, images: bool, faces: bool) -> float:
        """Return the share of planted people above a threshold; nan if nobody has two images."""
        leak, there = self._halves(images)[0], self._halves(faces)[1]
        return float((cosines(leak, there) > threshold).mean()) if len(leak) else float("nan")

    @cached_property
    def means(self) -> np.ndarray:
        """(P, D), the mean feature of every person, by rising label."""
        return identity_means(self._features, self._labels)

    def _strangers(self, images: bool, faces: bool) -> tuple[np.ndarray, int]:
        """Return everybody's cosine to the nearest other, and how many others they met."""
        if (images, faces) not in self._found:
            leak = np.asarray(self._features[self._first]) if images else self.means
            crowd = Crowd.of(*((self._features, self._labels) if faces else (self.means, None)))
            own = self._people if faces else np.arange(len(leak))
            met = len(crowd) - len(crowd) // len(leak)
            self._found[images, faces] = nearest(leak, crowd, own)[0], met
        return self._found[images, faces]

    def _halves(self, single: bool) -> list[np.ndarray]:
        """Return two features of everybody who has two images: of halves, or of single images."""
        pair = np.isin(self._labels, self._labels[self._second])
        result = []
        for half in (~self._second, self._second):
            rows = np.flatnonzero(pair & half)
            if single:
                rows = rows[np.unique(self._labels[rows], return_index=True)[1]]
            some = self._labels[rows]
            result.append(
                identity_means(self._features[rows], some) if len(rows) else np.empty((0, 1))
            )
        return result


def search(vectors: np.ndarray, known: Known, work: Path) -> np.ndarray:
    """Return the cosine of each vector with the nearest in a set, (N,), on the first process.

    Several processes share the blocks, and a killed run keeps those it has finished.

    Args:
        vectors: (N, D), possibly a memory map.
        known: the set.
        work: where finished blocks lie; it belongs to exactly these arguments.
    """

    def make(first: int) -> dict[str, np.ndarray]:
        rows = np.asarray(vectors[first : first + BLOCK])
        return {"cosine": nearest(rows, known.crowd)[0]}

    blocks, firsts = Blocks(work, make), range(0, len(vectors), BLOCK)
    blocks.finish(firsts, f"leaks, {work.name}")
    return blocks.join(firsts)["cosine"] if processes().main else np.empty(0)


def find_leaks(
    generated: Mapping[str, np.ndarray],
    known: Mapping[str, Known],
    baseline: Baseline,
    rate: float,
    work: Path,
) -> dict[str, float]:
    """Look for generated people among real ones; docs/measures.md describes the keys.

    Args:
        generated: ``"image"``: (N, D), of single images; other names: (n, D), of people.
        known: sets of real people by name.
        baseline: see :class:`Baseline`.
        rate: false-alarm rate of the thresholds, in (0, 1].
        work: where finished blocks lie.

    Returns:
        ``leak_<who>_<set>_...`` for all pairs, on the first process only.
    """
    record: dict[str, float] = {}
    for name, real in known.items():
        for who, vectors in generated.items():
            cosine = search(vectors, real, work / f"{who}-{name}")
            if not processes().main:
                continue
            images = who == "image"
            threshold = baseline.threshold(real, rate, images=images)
            figures = {
                "flagged": int((cosine > threshold).sum()),
                "above_0.4": int((cosine > PAPER).sum()),
                "largest": float(cosine.max()),
                "threshold": threshold,
                "power": baseline.power(threshold, images=images, faces=real.faces),
            }
            record |= {f"leak_{who}_{name}_{key}": value for key, value in figures.items()}
    return record


def overlaps(
    known: Mapping[str, Known], baseline: Baseline, rate: float, work: Path
) -> dict[str, int]:
    """Count the people of each set who are in a later one, too; warn of more than chance explains.

    Args:
        known: sets by name; those of single faces come last and look for nobody.
        baseline: see :class:`Baseline`.
        rate: false-alarm rate of the threshold.
        work: where finished blocks lie.

    Returns:
        ``overlap_<set>_<later set>``, on the first process only.
    """
    record: dict[str, int] = {}
    names = list(known)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            if known[one].faces:
                continue
            people = known[one].crowd.rows.raw
            cosine = search(people, known[other], work / f"{one}-{other}")
            if not processes().main:
                continue
            alike = int((cosine > baseline.threshold(known[other], rate, images=False)).sum())
            record[f"overlap_{one}_{other}"] = alike
            if alike > binom.isf(CHANCE, len(people), rate):
                log.warning(
                    "%d of %d people of the %s set seem to be in the %s set, too (%.1f by chance)",
                    *(alike, len(people), one, other, rate * len(people)),
                )
    return record


def draw_alike(groups: Sequence[np.ndarray], seed: int, images: int) -> list[np.ndarray]:
    """Draw people of each group, and of each of them the same number of images.

    A mean over one image is spread more widely than one over many, and skewed otherwise. So scores
    of people compare only if all are means over as many. That number is what ``images`` allows for
    the people of the smaller group, and no more than half of the people of each group have; those
    who have fewer are not drawn.

    Args:
        groups: (N,) int64 each, whose the images are.
        seed: of the draw.
        images: at most so many of each group; but one of a person at least.

    Returns:
        The drawn rows of each group, rising.
    """
    counts = [np.unique(labels, return_counts=True)[1] for labels in groups]
    usual = min(int(np.sort(count)[(len(count) - 1) // 2]) for count in counts)
    each = min(usual, max(1, images // min(map(len, counts))))
    drawn = []
    for number, labels in enumerate(groups):
        chance = stream(seed, "membership people", number)
        mixed = chance.permutation(len(labels))
        order = mixed[np.argsort(labels[mixed], kind="stable")]  # by person, whose images are mixed
        starts, has = np.unique(labels[order], return_index=True, return_counts=True)[1:]
        people = chance.permutation(starts[has >= each])[: max(1, images // each)]
        drawn.append(np.sort(order[people[:, None] + np.arange(each)].ravel()))
    return drawn


def membership(
    members: np.ndarray, labels: np.ndarray, others: np.ndarray, other_labels: np.ndarray
) -> dict[str, float]:
    """Tell how well reconstructions give away whom the generator was trained on.

    A person's score is the mean over the images of the cosine between original and reconstruction.
    The AUC is the chance that a training person has a higher one than a held-out person, 0.5 if
    nothing is given away. Its variance is that of DeLong et al. (1988), over people, since images
    of one person are not independent.

    Args:
        members: (N,) cosines of images of training people.
        labels: (N,) whose they are.
        others: (M,) cosines of images of held-out people.
        other_labels: (M,) whose they are.

    Returns:
        ``membership_auc`` and its interval of 95 %, ``membership_auc_low`` and ``_high``.
    """
    one = identity_means(members[:, None], labels)[:, 0]
    other = identity_means(others[:, None], other_labels)[:, 0]
    wins = (one[:, None] > other) + 0.5 * (one[:, None] == other)
    auc = float(wins.mean())
    parts = [wins.mean(axis) for axis in (0, 1)]
    spread = sum(float(p.var(ddof=1)) / len(p) for p in parts if len(p) > 1)
    reach = float(norm.isf(0.025)) * spread**0.5
    return {
        "membership_auc": auc,
        "membership_auc_low": max(0.0, auc - reach),
        "membership_auc_high": min(1.0, auc + reach),
    }
