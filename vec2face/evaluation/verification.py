"""Verification of pairs by ten folds, the protocol of insightface.

The embedding of a picture is that of the picture plus that of its mirror image, L2-normalised
(without ``flip`` that of the picture alone).
Two pictures are taken for one person when the squared L2 distance of their embeddings is below a
threshold. Thresholds are 0, 0.01, ..., 3.99; for each of ten contiguous folds (or those that a
benchmark states) the first threshold that is best on the others is applied to it. Accuracy is the
mean over the folds.

Counting is by histogram: a pair is accepted from one threshold index on, so cumulative sums of a
(fold, index) histogram give every count at once, and they are the integers that comparing each
pair with each threshold gives.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vec2face.faces.benchmarks import Benchmark
from vec2face.faces.images import decode
from vec2face.recognizers.features import NotFiniteError
from vec2face.runtime.blocks import cut
from vec2face.runtime.files import InputError

THRESHOLDS = np.arange(0, 4, 0.01)
FOLDS = 10

Embed = Callable[[np.ndarray], np.ndarray]
"""From pictures uint8 (N, H, W, 3), RGB, to embeddings (N, D)."""


@dataclass(frozen=True)
class Verification:
    """The result on one benchmark.

    Attributes:
        accuracy: mean over the folds, in [0, 1].
        std: standard deviation over the folds (population).
        threshold: mean of the folds' thresholds, squared L2 distance.
        distances: (P,) float64 squared L2 distances of the pairs.
        same: (P,) bool, whether a pair shows one person.
    """

    accuracy: float
    std: float
    threshold: float
    distances: np.ndarray
    same: np.ndarray


def ten_folds(
    distances: np.ndarray,
    same: np.ndarray,
    thresholds: np.ndarray = THRESHOLDS,
    folds: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return each fold's accuracy and threshold, (10,) each, or as many as ``folds`` has.

    Args:
        distances: (P,) squared L2 distances; NaN counts as never accepted.
        same: (P,) bool.
        thresholds: rising.
        folds: (P,) the fold of every pair, in any order; None for ten contiguous ones.

    Raises:
        ValueError: on fewer pairs than folds, a single fold, or shapes that differ.
    """
    pairs = len(distances)
    if folds is None:
        # Contiguous folds; the first (pairs mod 10) of them have one pair more.
        sizes = np.full(FOLDS, pairs // FOLDS)
        sizes[: pairs % FOLDS] += 1
        fold = np.repeat(np.arange(FOLDS), sizes)
    else:
        _, fold = np.unique(folds, return_inverse=True)
        sizes = np.bincount(fold)
    if not distances.shape == same.shape == fold.shape or len(sizes) < 2 or not sizes.all():
        raise ValueError(
            f"{len(sizes)} folds of {distances.shape} distances, {same.shape} labels and"
            f" {fold.shape} folds of pairs; expected two folds or more, and no empty one"
        )
    # A pair is accepted by the thresholds above its distance: from this index on.
    bins = len(thresholds) + 1
    first = np.searchsorted(thresholds, distances, side="right")
    counts = np.bincount((fold * 2 + same) * bins + first, minlength=len(sizes) * 2 * bins)
    accepted = counts.reshape(-1, 2, bins)[:, :, :-1].cumsum(axis=2)
    different = np.bincount(fold[~same.astype(bool)], minlength=len(sizes))
    right = accepted[:, 1] + (different[:, None] - accepted[:, 0])
    best = (right.sum(axis=0) - right).argmax(axis=1)
    return right[np.arange(len(sizes)), best] / sizes, thresholds[best]


def verify(
    distances: np.ndarray, same: np.ndarray, folds: np.ndarray | None = None
) -> Verification:
    """Return the result of (P,) distances and labels over ten folds, or over those given."""
    accuracies, thresholds = ten_folds(distances, same, folds=folds)
    return Verification(
        float(accuracies.mean()), float(accuracies.std()), float(thresholds.mean()), distances, same
    )


def evaluate(
    embed: Embed, benchmark: Benchmark, *, block: int = 512, flip: bool = True
) -> Verification:
    """Return the result of one recognizer on one benchmark.

    Args:
        embed: the recognizer.
        benchmark: encoded pictures 2i and 2i + 1 form pair i.
        block: pictures decoded at a time.
        flip: whether the mirror image's embedding is added.

    Raises:
        InputError: if a picture is broken, naming benchmark and picture.
    """
    runs = cut(0, len(benchmark.same), (block + 1) // 2)
    found = [pair_distances({"": embed}, benchmark, pairs, flip=flip) for pairs in runs]
    return verify(np.concatenate(found)[:, 0], benchmark.same, benchmark.folds)


def pair_distances(
    embeds: Mapping[str, Embed], benchmark: Benchmark, pairs: range, *, flip: bool = True
) -> np.ndarray:
    """Return the squared distances of some pairs under several recognizers.

    Args:
        embeds: the recognizers.
        benchmark: has the pairs.
        pairs: their numbers.
        flip: whether embeddings of mirror images are added; without it none is computed.

    Returns:
        (len(pairs), len(embeds)) float64.

    Raises:
        InputError: as ``evaluate``.
    """
    pictures = _decode(benchmark, range(2 * pairs.start, 2 * pairs.stop))
    # Sums and distances in float64, as the protocol's reference has them.
    try:
        sums = [embed(pictures).astype(np.float64) for embed in embeds.values()]
        if flip:
            mirrored = np.ascontiguousarray(pictures[:, :, ::-1])
            for found, embed in zip(sums, embeds.values(), strict=True):
                found += embed(mirrored)
    except NotFiniteError as error:
        name = f"{benchmark.name}, picture {2 * pairs.start + error.row}"
        raise InputError(error.of(name)) from error
    return np.stack([squared_distances(embeddings) for embeddings in sums], 1)


def squared_distances(embeddings: np.ndarray) -> np.ndarray:
    """Return (P,) squared L2 distances between rows 2i and 2i + 1 of (2P, D), after normalising."""
    norms = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings))[:, None]
    norms[norms == 0] = 1.0
    unit = embeddings / norms
    return np.square(unit[0::2] - unit[1::2]).sum(axis=1)


def _decode(benchmark: Benchmark, rows: range) -> np.ndarray:
    """Return some pictures, uint8 (B, H, W, 3), all of the first picture's size."""
    size = decode(benchmark.images[0], f"{benchmark.name}, picture 0").shape[0]
    pictures = [decode(benchmark.images[i], f"{benchmark.name}, picture {i}", size) for i in rows]
    if len({p.shape for p in pictures}) > 1:
        raise InputError(
            f"{benchmark.name}: pictures {rows[0]} to {rows[-1]} are not all {size}x{size};"
            " benchmarks hold aligned squares of one size"
        )
    return np.stack(pictures)


def roc(distances: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ROC curve: false accept rates, true accept rates, thresholds.

    One point for each distinct distance, with pairs at or below it accepted, and (0, 0) before
    them with threshold -inf; rising.

    Args:
        distances: (P,), finite.
        same: (P,) bool, with both kinds of pair.

    Raises:
        ValueError: if all pairs are of one kind.
    """
    same = same.astype(bool)
    if same.all() or not same.any():
        raise ValueError("a ROC curve needs pairs of one person and of two")
    order = np.argsort(distances, kind="stable")
    ordered = distances[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    true = np.cumsum(same[order])[last] / same.sum()
    false = np.cumsum(~same[order])[last] / (~same).sum()
    return np.append(0.0, false), np.append(0.0, true), np.append(-np.inf, ordered[last])


def roc_at(
    distances: np.ndarray, same: np.ndarray, points: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """Return false and true accept rates (points,) at logarithmically spaced false accept rates.

    From one impostor pair to all of them: what a plot shows of the curve, at a fixed size.
    """
    false, true, _ = roc(distances, same)
    far = np.geomspace(1 / np.count_nonzero(~same.astype(bool)), 1, points)
    return far, true[np.searchsorted(false, far * (1 + 1e-12), side="right") - 1]


def tar_at_far(distances: np.ndarray, same: np.ndarray, far: float | Sequence[float]) -> np.ndarray:
    """Return the highest true accept rate whose false accept rate is at most ``far``.

    Sorts each kind of pair once for all rates: 15 million pairs take seconds and some 0.5 GB.

    Args:
        distances: (P,), finite; similarities with their sign turned will do.
        same: (P,) bool, with both kinds of pair.
        far: one rate or several, in [0, 1].

    Returns:
        As many rates as ``far`` has, in its shape.

    Raises:
        ValueError: if all pairs are of one kind.
    """
    same = same.astype(bool)
    genuine, impostors = np.sort(distances[same]), np.sort(distances[~same])
    if not len(genuine) or not len(impostors):
        raise ValueError("a false accept rate needs pairs of one person and of two")
    # The pairs below the first impostor that is one too many are accepted.
    rates = np.arange(1, len(impostors) + 1) / len(impostors)
    limits = np.append(impostors, np.inf)[np.searchsorted(rates, far, side="right")]
    return np.searchsorted(genuine, limits, side="left") / len(genuine)


def tar_nearest_far(
    distances: np.ndarray, same: np.ndarray, far: float | Sequence[float]
) -> np.ndarray:
    """Return the true accept rate where the ROC curve is nearest to ``far``, as insightface does.

    The curve has its corners only (scikit-learn leaves out points between two equal steps), so the
    false accept rate may be above ``far`` or well below. Of two corners as near, the upper counts.
    Arguments, result and errors are those of ``tar_at_far``, which is not misled by corners.
    """
    false, true, _ = roc(distances, same)
    same = same.astype(bool)
    steps = np.diff(np.rint(false[1:] * (~same).sum())), np.diff(np.rint(true[1:] * same.sum()))
    corner = np.full(len(false), True)
    if len(false) > 3:
        corner[2:-1] = (np.diff(steps[0]) != 0) | (np.diff(steps[1]) != 0)
    false, true = false[corner][::-1], true[corner][::-1]
    nearest = [np.abs(false - rate).argmin() for rate in np.atleast_1d(far)]
    return true[nearest].reshape(np.shape(far))


def equal_error_rate(distances: np.ndarray, same: np.ndarray) -> float:
    """Return the rate at which false accepts equal false rejects (see ``crossing``)."""
    false, true, _ = roc(distances, same)
    return crossing(false, 1 - true)


def crossing(rising: np.ndarray, falling: np.ndarray) -> float:
    """Return the value at which a curve that rises from 0 meets one that falls from 1.

    Args:
        rising: (P,), up to 1.
        falling: (P,), down to 0, at the same points; both are linear between the points.
    """
    gap = rising - falling
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(rising[before] + share * (rising[after] - rising[before]))
