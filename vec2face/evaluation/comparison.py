"""The recognizers of a run on its benchmarks, side by side (``evaluation.roles`` lists them).

Several processes share the pairs of a benchmark, and what they finish is kept for the next start.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from vec2face.evaluation.roles import Evaluation
from vec2face.evaluation.verification import (
    Embed,
    Verification,
    equal_error_rate,
    pair_distances,
    roc_at,
    tar_at_far,
    verify,
)
from vec2face.faces.benchmarks import Benchmark, load_benchmark
from vec2face.faces.source import Source, load_images
from vec2face.recognizers.features import open_recognizer
from vec2face.recognizers.network import embed, load_recognizer, untrained_recognizer
from vec2face.runtime.blocks import Arrays, Blocks
from vec2face.runtime.files import fingerprint
from vec2face.runtime.processes import processes
from vec2face.runtime.progress import Progress
from vec2face.runtime.resume import state

UNTRAINED_IMAGES = 4096
"""Training images, evenly spaced, that give the untrained net its batch-norm statistics."""
PAIRS = 256  # of a block


def open_recognizers(
    trained: Mapping[str, Path],
    given: Mapping[str, Path],
    faces: Source,
    image_size: int,
    seed: int,
) -> dict[str, Embed]:
    """Open every recognizer of a run, by its name in ``evaluation.roles``.

    Args:
        trained: training set -> the weights that this run trained on it; with ``"generated"``,
            whose network is also evaluated ``"untrained"``.
        given: name -> file of a recognizer that this run did not train.
        faces: faces that give the untrained network its batch-norm statistics.
        image_size: of those faces.
        seed: the experiment's seed; the untrained weights are those that training starts from.

    Raises:
        InputError: a file is missing or no recognizer.
    """
    device = processes().device
    nets = {name: load_recognizer(path) for name, path in trained.items()}
    rows = np.unique(np.linspace(0, len(faces) - 1, UNTRAINED_IMAGES, dtype=int))
    nets["untrained"] = untrained_recognizer(
        nets["generated"].architecture,  # type: ignore[arg-type]
        load_images(faces, image_size, rows),
        seed,
    )
    embeds: dict[str, Embed] = {name: partial(embed, net.to(device)) for name, net in nets.items()}
    return embeds | {name: open_recognizer(path).features for name, path in given.items()}


def compare(
    recognizers: Mapping[str, Embed], benchmarks: Mapping[str, Path], work: Path, *, flip: bool
) -> tuple[Evaluation, pd.DataFrame]:
    """Verify every recognizer on every benchmark, together with the other processes.

    Args:
        recognizers: by name.
        benchmarks: their files by name.
        work: where finished blocks lie, so that a killed run goes on.
        flip: whether embeddings of mirror images are added.

    Returns:
        The figures, and the ROC curves with the columns recognizer, benchmark, far, tar (shares).
        They are filled on the first process only.

    Raises:
        InputError: a benchmark is damaged or has a broken picture.
    """
    evaluation: dict[str, dict[str, dict[str, float]]] = {name: {} for name in recognizers}
    curves = []
    for name, path in Progress(benchmarks.items(), "evaluate", unit="benchmark"):
        results = _verify(recognizers, load_benchmark(path), work / fingerprint(state(path)), flip)
        for recognizer, result in results.items():
            evaluation[recognizer][name] = figures(result)
            far, tar = roc_at(result.distances, result.same)
            points = {"recognizer": recognizer, "benchmark": name, "far": far, "tar": tar}
            curves.append(pd.DataFrame(points))
    return evaluation, pd.concat(curves) if curves else pd.DataFrame()


def figures(result: Verification) -> dict[str, float]:
    """Return the figures of one recognizer on one benchmark.

    Returns:
        ``accuracy`` and its ``std`` over the folds, ``tar_at_far_0.01`` and ``equal_error_rate``
        over all pairs, as shares; ``threshold``, a squared L2 distance, the mean over the folds.
    """
    return {
        "accuracy": result.accuracy,
        "std": result.std,
        "threshold": result.threshold,
        "tar_at_far_0.01": float(tar_at_far(result.distances, result.same, 0.01)),
        "equal_error_rate": equal_error_rate(result.distances, result.same),
    }


def _verify(
    recognizers: Mapping[str, Embed], benchmark: Benchmark, work: Path, flip: bool
) -> dict[str, Verification]:
    """Return every recognizer's result on the first process, nothing on the others."""
    total = len(benchmark.same)

    def make(first: int) -> Arrays:
        pairs = range(first, min(first + PAIRS, total))
        return {"distances": pair_distances(recognizers, benchmark, pairs, flip=flip)}

    blocks = Blocks(work, make)
    blocks.finish(range(0, total, PAIRS), benchmark.name)
    if not processes().main:
        return {}
    distances = blocks.join(range(0, total, PAIRS))["distances"]
    return {
        name: verify(distances[:, column], benchmark.same, benchmark.folds)
        for column, name in enumerate(recognizers)
    }
