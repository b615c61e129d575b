"""Stage 9, evaluation: ten-fold verification of every recognizer on every benchmark.

    python -m stages.evaluate

The recognizers: one for each training set, the same net untrained (the floor), and the two of
params.yaml that no stage trained. Writes reports/evaluation.json and reports/curves/roc.csv, and
removes the weights and curves of training sets that params.yaml names no more.
Several processes share the pairs of a benchmark, and a killed run goes on where it stopped.
"""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from stages import run
from vec2face.config import Params
from vec2face.evaluation.comparison import compare, open_recognizers
from vec2face.faces.benchmarks import find_benchmarks
from vec2face.faces.source import open_source
from vec2face.recognizers import features
from vec2face.runtime.blocks import code, stamp
from vec2face.runtime.checkpoint import work_folder
from vec2face.runtime.files import whole_file, write_json
from vec2face.runtime.processes import processes

log = logging.getLogger(__name__)

SUBSET, EVALUATION = Path("data/subset"), Path("reports/evaluation.json")
WEIGHTS, CURVES = Path("models/fr"), Path("reports/curves")
CODE = [
    *features.CODE,
    *code("evaluation/comparison", "evaluation/verification"),
    *code("faces/benchmarks", "faces/pairs", "faces/pickles", "randomness"),
]


def main() -> None:
    """Evaluate."""
    p = Params.load()
    trained = {name: WEIGHTS / f"{name}.safetensors" for name in p.training_sets}
    given = {"estimator": Path(p.paths.recognizer), "second": Path(p.paths.second_recognizer)}
    if processes().main:
        remove(WEIGHTS.glob("*.safetensors"), but=[*trained.values(), *given.values()])
        remove(CURVES.glob("fr_*.csv"), but=[CURVES / f"fr_{name}.csv" for name in p.training_sets])
    benchmarks = find_benchmarks(p.paths.benchmarks)
    subset = open_source(SUBSET, verify=processes().main)
    recognizers = open_recognizers(trained, given, subset, p.image_size, p.seed)
    settings = [list(p.training_sets), p.seed, p.image_size, stamp(SUBSET)]
    work = work_folder("evaluate", settings, *trained.values(), *given.values(), *CODE)

    evaluation, curves = compare(recognizers, benchmarks, work)
    if processes().main:
        write_json(EVALUATION, evaluation)
        with whole_file(CURVES / "roc.csv") as temporary:
            curves.to_csv(temporary, index=False, float_format="%.6g")
        shutil.rmtree(work)


def remove(found: Iterable[Path], but: Iterable[Path]) -> None:
    """Remove files of training sets that params.yaml no longer names: both folders are hashed."""
    needed = {path.resolve() for path in but}
    for path in found:
        if path.resolve() not in needed:
            log.warning("%s: its set is not in training_sets; removed (DVC's cache has it)", path)
            path.unlink()


if __name__ == "__main__":
    run(main, shared=True)
