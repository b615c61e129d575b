"""How separate identities are (paper Figs. 5 and 11), measured on features, all pairs, exactly.

Cosines are float64 matrix products over tiles, so memory does not grow with the number of pairs.
"""

from dataclasses import dataclass

import numpy as np

from vec2face.evaluation.verification import crossing
from vec2face.recognizers.statistics import identity_means

TILE = 2048
BINS = 20_000  # of width 1e-4 over [-1, 1]


def unit(features: np.ndarray) -> np.ndarray:
    """L2-normalise rows: (N, D) -> (N, D) float64.

    Raises:
        ValueError: if a row is zero or not finite.
    """
    features = np.asarray(features, np.float64)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)).ravel())
    if len(bad):
        raise ValueError(f"feature {bad[0]} is zero or not finite")
    return features / norms


def nearest_other(features: np.ndarray) -> np.ndarray:
    """Return each row's largest cosine with any other row: (N, D) -> (N,), N >= 2."""
    if len(features) < 2:
        raise ValueError("one identity has no other")
    rows = unit(features)
    result = np.full(len(rows), -np.inf)
    for i in range(0, len(rows), TILE):
        for j in range(i, len(rows), TILE):
            cosine = rows[i : i + TILE] @ rows[j : j + TILE].T
            if i == j:
                np.fill_diagonal(cosine, -np.inf)
            a, b = result[i : i + TILE], result[j : j + TILE]
            np.maximum(a, cosine.max(1), out=a)
            np.maximum(b, cosine.max(0), out=b)
    return result


def separated_share(nearest: np.ndarray, threshold: float = 0.4) -> float:
    """Share of identities whose cosine with every other is below ``threshold`` (Fig. 5: 0.4)."""
    return float((nearest < threshold).mean())


@dataclass(frozen=True)
class Similarities:
    """Counts of pairs by cosine, in ``BINS`` equal bins over [-1, 1].

    Attributes:
        intra: (BINS,) int64, pairs of images of one identity.
        inter: (BINS,) int64, pairs of images of two identities.
    """

    intra: np.ndarray
    inter: np.ndarray

    def mean(self) -> tuple[float, float]:
        """Mean cosine of intra- and inter-class pairs, to the width of a bin."""
        centres = (np.arange(BINS) + 0.5) / BINS * 2 - 1
        return tuple(  # type: ignore[return-value]
            float(counts @ centres / counts.sum()) if counts.sum() else float("nan")
            for counts in (self.intra, self.inter)
        )

    def equal_error_rate(self) -> float:
        """Rate at which as many genuine pairs are refused as impostor pairs are accepted.

        Both rates are known at the edges of the bins (see ``verification.crossing``); nan if either
        kind of pair is missing.
        """
        if not (self.intra.any() and self.inter.any()):
            return float("nan")
        refused = np.append(0, np.cumsum(self.intra)) / self.intra.sum()
        accepted = 1 - np.append(0, np.cumsum(self.inter)) / self.inter.sum()
        return crossing(refused, accepted)

    def coarse(self, bins: int = 100) -> np.ndarray:
        """Return (bins, 3): left edge, intra count, inter count, for a plot; bins divides BINS."""
        edges = np.arange(bins) / bins * 2 - 1
        counts = [c.reshape(bins, -1).sum(1) for c in (self.intra, self.inter)]
        return np.stack([edges, *counts], 1)


def similarities(features: np.ndarray, labels: np.ndarray) -> Similarities:
    """Count the cosines of all pairs of images: features (N, D), labels (N,)."""
    if len(features) != len(labels):
        raise ValueError(f"{len(features)} features for {len(labels)} labels")
    rows = unit(features)
    counts = np.zeros(2 * BINS, np.int64)  # inter, then intra
    for i in range(0, len(rows), TILE):
        for j in range(i, len(rows), TILE):
            cosine = rows[i : i + TILE] @ rows[j : j + TILE].T
            index = ((cosine + 1) * (BINS / 2)).astype(np.int32)
            np.clip(index, 0, BINS - 1, out=index)
            index += BINS * (labels[i : i + TILE, None] == labels[None, j : j + TILE])
            if i == j:
                index = index[np.triu_indices(len(index), 1)]
            counts += np.bincount(index.ravel(), minlength=2 * BINS)
    return Similarities(intra=counts[BINS:], inter=counts[:BINS])


def image_to_identity(
    features: np.ndarray, identities: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Cosine of every image's feature with its identity's vector.

    Args:
        features: (N, D).
        identities: (n, D), in the space of the same recognizer.
        labels: (N,), rows of ``identities``.

    Returns:
        (N,) float64. Below 0.3 counts as intra-class noise in the paper.
    """
    return np.einsum("nd,nd->n", unit(features), unit(identities)[labels])


def describe(features: np.ndarray, labels: np.ndarray) -> tuple[dict[str, float], Similarities]:
    """Measure a labelled set of faces under one recognizer.

    Args:
        features: (N, D), of at least two identities.
        labels: (N,).

    Returns:
        The measures and the counted pairs. An identity's own feature is the mean of its images':
        ``separated_share`` (nearest other below 0.4), ``nearest_other_mean``, ``inter_noise``
        (share of identities with another above 0.7), ``image_to_identity_mean``, ``intra_noise``
        (share of images below 0.3 to their identity). Over pairs of images: ``intra_mean``,
        ``inter_mean``, ``eer``.
    """
    means = identity_means(features, labels)
    nearest = nearest_other(means)
    own = image_to_identity(features, means, np.unique(labels, return_inverse=True)[1])
    pairs = similarities(features, labels)
    intra, inter = pairs.mean()
    return {
        "separated_share": separated_share(nearest),
        "nearest_other_mean": float(nearest.mean()),
        "inter_noise": float((nearest > 0.7).mean()),
        "image_to_identity_mean": float(own.mean()),
        "intra_noise": float((own < 0.3).mean()),
        "intra_mean": intra,
        "inter_mean": inter,
        "eer": pairs.equal_error_rate(),
    }, pairs
