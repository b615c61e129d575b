"""Ten-fold verification: histogram counting against comparing every pair with every threshold.

    python -m benchmarks.verification [pairs]

The peer is insightface's loop, without the rates it also counts at every threshold of the test
fold, which nothing here needs: the ratio is a lower bound. Prints it and exits with 1 if it is
below 50 at 6 000 pairs or if one bit of the two results differs.
"""

import sys
import timeit

import numpy as np

from vec2face.evaluation.verification import THRESHOLDS, ten_folds

LIMIT = 50


def by_comparison(distances: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count every training pair at every threshold, fold by fold: the peer."""
    accuracies, thresholds = [], []
    for test in np.array_split(np.arange(len(distances)), 10):
        train = np.ones(len(distances), bool)
        train[test] = False
        shares = [np.mean((distances[train] < t) == same[train]) for t in THRESHOLDS]
        threshold = THRESHOLDS[int(np.argmax(shares))]
        accuracies.append(np.count_nonzero((distances[test] < threshold) == same[test]) / len(test))
        thresholds.append(threshold)
    return np.array(accuracies), np.array(thresholds)


def main(pairs: int = 6000) -> float:
    """Print and return the ratio."""
    rng = np.random.default_rng(0)
    same = rng.random(pairs) < 0.5
    distances = np.clip(rng.normal(np.where(same, 1.0, 1.6), 0.3), 0, 4)
    ours, theirs = ten_folds(distances, same), by_comparison(distances, same)
    if not all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)):
        sys.exit(f"verification of {pairs} pairs: the results differ")
    slow = min(timeit.repeat(lambda: by_comparison(distances, same), number=1, repeat=3))
    fast = min(timeit.repeat(lambda: ten_folds(distances, same), number=10, repeat=5)) / 10
    ratio = slow / fast
    print(
        f"verification of {pairs} pairs: {fast * 1e3:.2f} ms, by comparison {slow * 1e3:.0f} ms: "
        f"{ratio:.0f} times (limit {LIMIT})"
    )
    return ratio


if __name__ == "__main__":
    ratio = main(*map(int, sys.argv[1:]))
    sys.exit(0 if ratio >= LIMIT else 1)
