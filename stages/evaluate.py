"""Stage 9, evaluation: ten-fold verification of every recognizer on every benchmark.

    python -m stages.evaluate

The recognizers: one for each training set, the same net untrained (the floor), and the two of
params.yaml that no stage trained. Writes reports/evaluation.json and reports/curves/roc.csv.
Several processes share the pairs of a benchmark, and a killed run goes on where it stopped.
"""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from stages import run
from vec2face.config import Params
from vec2face.evaluation.verification import (
    Embed,
    Verification,
    equal_error_rate,
    pair_distances,
    roc_at,
    tar_at_far,
    verify,
)
from vec2face.faces.benchmarks import Benchmark, find_benchmarks, load_benchmark
from vec2face.faces.source import load_images, open_source
from vec2face.recognizers import features
from vec2face.recognizers.features import open_recognizer
from vec2face.recognizers.network import embed, load_recognizer, untrained_recognizer
from vec2face.runtime.blocks import Arrays, Blocks, code, stamp
from vec2face.runtime.checkpoint import work_folder
from vec2face.runtime.files import fingerprint, whole_file, write_json
from vec2face.runtime.processes import processes
from vec2face.runtime.progress import Progress

UNTRAINED_IMAGES = 4096
"""Training images, evenly spaced, that give the untrained net its batch-norm statistics."""
PAIRS = 256  # of a block
CODE = [
    *features.CODE,
    *code("evaluation/verification", "faces/benchmarks", "faces/pairs", "faces/pickles"),
    Path(__file__),
]


def main() -> None:
    """Evaluate."""
    p = Params.load()
    benchmarks = find_benchmarks(p.paths.benchmarks)
    recognizers = load_all(p)
    files = [trained(name) for name in p.training_sets]
    files += [Path(p.paths.recognizer), Path(p.paths.second_recognizer)]
    settings = [list(p.training_sets), p.seed, p.image_size, stamp("data/subset")]
    work = work_folder("evaluate", settings, *files, *CODE)
    evaluation: dict[str, dict[str, dict[str, float]]] = {name: {} for name in recognizers}
    curves = []
    for name, path in Progress(benchmarks.items(), "evaluate", unit="benchmark"):
        results = verify_all(recognizers, load_benchmark(path), work / fingerprint(stamp(path)))
        for recognizer, result in results.items():
            evaluation[recognizer][name] = summary(result)
            far, tar = roc_at(result.distances, result.same)
            points = {"recognizer": recognizer, "benchmark": name, "far": far, "tar": tar}
            curves.append(pd.DataFrame(points))
    if processes().main:
        write_json("reports/evaluation.json", evaluation)
        with whole_file("reports/curves/roc.csv") as temporary:
            pd.concat(curves).to_csv(temporary, index=False, float_format="%.6g")
        shutil.rmtree(work)


def trained(name: str) -> Path:
    """Return the file of the recognizer that was trained on a set."""
    return Path(f"models/fr/{name}.safetensors")


def verify_all(
    recognizers: dict[str, Embed], benchmark: Benchmark, work: Path
) -> dict[str, Verification]:
    """Return every recognizer's result, on the first process; by blocks in ``work``."""
    total = len(benchmark.same)

    def make(first: int) -> Arrays:
        pairs = range(first, min(first + PAIRS, total))
        return {"distances": pair_distances(recognizers, benchmark, pairs)}

    blocks = Blocks(work, make)
    blocks.finish(range(0, total, PAIRS), benchmark.name)
    if not processes().main:
        return {}
    distances = blocks.join(range(0, total, PAIRS))["distances"]
    return {
        name: verify(distances[:, column], benchmark.same, benchmark.folds)
        for column, name in enumerate(recognizers)
    }


def load_all(p: Params) -> dict[str, Embed]:
    """Return the recognizers by their names in the metrics."""
    device = processes().device
    nets = {name: load_recognizer(trained(name)) for name in p.training_sets}
    faces = open_source("data/subset", verify=processes().main)
    rows = np.unique(np.linspace(0, len(faces) - 1, UNTRAINED_IMAGES, dtype=int))
    nets["untrained"] = untrained_recognizer(
        nets["generated"].architecture,  # type: ignore[arg-type]
        load_images(faces, p.image_size, rows),
        p.seed,
    )
    embeds: dict[str, Embed] = {name: partial(embed, net.to(device)) for name, net in nets.items()}
    embeds["estimator"] = open_recognizer(p.paths.recognizer).features
    embeds["second"] = open_recognizer(p.paths.second_recognizer).features
    return embeds


def summary(result: Verification) -> dict[str, float]:
    """Return the figures of one recognizer on one benchmark; shares, and a squared distance."""
    return {
        "accuracy": result.accuracy,
        "std": result.std,
        "threshold": result.threshold,
        "tar_at_far_0.01": float(tar_at_far(result.distances, result.same, 0.01)),
        "equal_error_rate": equal_error_rate(result.distances, result.same),
    }


if __name__ == "__main__":
    run(main, shared=True)
