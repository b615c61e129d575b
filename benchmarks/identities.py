"""Speed of the identity filter, against the one-by-one rule in numpy (a product per candidate).

    python -m benchmarks.identities                     # 10 000 candidates, under a minute
    python -m benchmarks.identities --count 50000       # a few minutes; must reach 12 times
    python -m benchmarks.identities --count 300000 --no-peer   # the paper's; <= 10 minutes, 2 GiB
    python -m benchmarks.identities --count 300000 --stage     # with drawing and certificate

The candidates are 512-dimensional with falling variances, so that a few percent are refused at 0.3.
With ``--stage`` they are drawn from a PCA with these variances, until so many are kept.
Prints one JSON record and exits with 1 if the kept sets differ or the ratio is too small.
"""

import argparse
import json
import resource
import sys
import time

import numpy as np

from vec2face.identities.cosines import largest_cosine
from vec2face.identities.filter import GreedyFilter, certificate, sample_identities
from vec2face.identities.pca import PCA

DIMENSION = 512
TAU = 0.3
BLOCK = 1024


def candidates(first: int, count: int) -> np.ndarray:
    """Draw candidates (count, 512) float32; ``first`` is a multiple of the block."""
    rng = np.random.default_rng([0, first // BLOCK])
    scale = 0.995 ** np.arange(DIMENSION, dtype=np.float32)
    return rng.standard_normal((count, DIMENSION), np.float32) * scale


def one_by_one(count: int) -> tuple[float, np.ndarray]:
    """Compare each candidate with all kept so far; return (seconds, kept indices)."""
    blocks = [candidates(i, min(BLOCK, count - i)) for i in range(0, count, BLOCK)]
    vectors = np.concatenate(blocks)
    kept: list[int] = []
    unit = np.empty_like(vectors)
    begin = time.perf_counter()
    for i, vector in enumerate(vectors):
        vector = vector / np.linalg.norm(vector)
        if not kept or (unit[: len(kept)] @ vector).max() <= TAU:
            unit[len(kept)] = vector
            kept.append(i)
    return time.perf_counter() - begin, np.array(kept)


def blocked(count: int) -> tuple[float, np.ndarray, GreedyFilter]:
    """Run the library's filter; return (seconds, kept indices, filter)."""
    chosen = GreedyFilter(TAU, DIMENSION, count)
    kept, seconds = [], 0.0
    for first in range(0, count, BLOCK):
        block = candidates(first, min(BLOCK, count - first))
        begin = time.perf_counter()
        kept.append(first + np.flatnonzero(chosen.add(block)))
        seconds += time.perf_counter() - begin
    return seconds, np.concatenate(kept), chosen


def stage(count: int, falling: float = 0.995) -> dict[str, float]:
    """Do what the identities stage does; return its seconds, by part, and its peak memory.

    ``falling`` is the ratio of neighbouring standard deviations; near 1 few candidates are refused.
    """
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((DIMENSION, DIMENSION)))[0]
    variances = falling ** (2.0 * np.arange(DIMENSION))
    pca = PCA(np.zeros(DIMENSION), axes, variances, 1.0, 10 * DIMENSION)
    drawing = 0.0

    def draw(first: int, number: int) -> np.ndarray:
        nonlocal drawing
        begin = time.perf_counter()
        block = pca.sample(0, "identity", first, number)
        drawing += time.perf_counter() - begin
        return block

    begin = time.perf_counter()
    sampled = sample_identities(draw, count, TAU)
    chosen = time.perf_counter() - begin
    certificate(sampled, TAU, 0)
    total = time.perf_counter() - begin
    return {
        "identities": count,
        "rejection_rate": sampled.rejection_rate,
        "drawing_seconds": drawing,
        "filter_seconds": chosen - drawing,
        "certificate_seconds": total - chosen,
        "seconds": total,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=10_000, help="candidates")
    parser.add_argument("--no-peer", action="store_true", help="skip the one-by-one rule")
    parser.add_argument("--certificate", action="store_true", help="also time the certificate")
    parser.add_argument("--stage", action="store_true", help="time the whole stage instead")
    arguments = parser.parse_args()
    count = arguments.count
    if arguments.stage:
        print(json.dumps(stage(count), indent=2))
        return 0

    blocked(2 * BLOCK)  # wakes the BLAS threads
    seconds, kept, chosen = blocked(count)
    record = {
        "candidates": count,
        "kept": len(kept),
        "rejection_rate": 1 - len(kept) / count,
        "seconds": seconds,
        "gflops": sum(2 * DIMENSION * BLOCK * i for i in range(0, len(kept), BLOCK))
        / seconds
        / 1e9,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if arguments.certificate:
        begin = time.perf_counter()
        record["largest_cosine"] = largest_cosine(chosen.vectors)[0]
        record["certificate_seconds"] = time.perf_counter() - begin
    same, faster = True, True
    if not arguments.no_peer:
        peer_seconds, peer_kept = one_by_one(count)
        same = np.array_equal(kept, peer_kept)
        faster = count < 50_000 or peer_seconds >= 12 * seconds
        record |= {
            "one_by_one_seconds": peer_seconds,
            "times_faster": peer_seconds / seconds,
            "must_reach": 12 if count >= 50_000 else None,
            "same_kept_set": same,
        }
    print(json.dumps(record, indent=2))
    return 0 if same and faster else 1


if __name__ == "__main__":
    sys.exit(main())
