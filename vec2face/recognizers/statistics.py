"""Statistics of features: the scale of all images, the mean of each person."""

import numpy as np

from vec2face.runtime.files import InputError

AT_ONCE = 4096  # rows in memory of features that are summed


def identity_means(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Average image features over each label, as they are (not L2-normalised).

    Args:
        features: (N, D).
        labels: (N,) integers.

    Returns:
        (identities, D) float64, one row per label that occurs, by rising label.

    Raises:
        InputError: if the two differ in length or are empty.
    """
    if len(features) != len(labels) or not len(labels):
        raise InputError(
            f"{len(features)} features for {len(labels)} labels: extract the features again"
        )
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    ends = starts + counts
    return np.stack(
        [features[order[a:b]].mean(0, dtype=np.float64) for a, b in zip(starts, ends, strict=True)]
    )


def within_covariance(features: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """Return the covariance of a person's images about that person's mean, pooled: (D, D) float64.

    It is what images of one person vary in. None if nobody has two images.

    Args:
        features: (N, D), possibly a memory map.
        labels: (N,) integers.
    """
    people, label = np.unique(labels, return_inverse=True)
    if len(people) == len(labels):
        return None
    means = identity_means(features, labels)
    total = np.zeros((features.shape[1],) * 2)
    for first in range(0, len(features), AT_ONCE):
        rows = slice(first, first + AT_ONCE)
        off = features[rows].astype(np.float64) - means[label[rows]]
        total += off.T @ off
    return total / (len(features) - len(people))


def feature_scale(features: np.ndarray) -> float:
    """Return the rms over dimensions of the features' standard deviation; features are (N, D).

    They may be a memory map: a block of them is looked at at a time.

    Raises:
        InputError: if a value is not finite or the features do not vary.
    """
    check_finite(features, "features")
    mean = _sum_rows(features, 0.0, 1) / len(features)
    variance = _sum_rows(features, mean, 2) / len(features)
    scale = float(np.sqrt(variance.mean()))
    if not scale > 0:
        raise InputError("the features do not vary: is this recognizer the right one?")
    return scale


def _sum_rows(features: np.ndarray, offset: np.ndarray | float, power: int) -> np.ndarray:
    """Return the sum over rows of (row - offset) ** power, (D,) float64, row after row."""
    result = np.zeros((1, features.shape[1]))
    for first in range(0, len(features), AT_ONCE):
        terms = (features[first : first + AT_ONCE].astype(np.float64) - offset) ** power
        result = np.concatenate([result, terms]).sum(0, keepdims=True)
    return result[0]


def check_finite(features: np.ndarray, what: str) -> None:
    """Refuse features (N, D) that are not finite (``InputError``, naming ``what`` and the row)."""
    for first in range(0, len(features), AT_ONCE):
        bad = np.flatnonzero(~np.isfinite(features[first : first + AT_ONCE]).all(1))
        if len(bad):
            row = first + bad[0]
            raise InputError(
                f"{what}: row {row} holds a value that is not finite; extract it again"
            )
