"""Stage 13, evaluation: ten-fold verification of every recognizer on every benchmark.

    python -m stages.evaluate

The recognizers: one for each training set, the same net untrained (the floor), and the two of
params.yaml that no stage trained. Writes reports/evaluation.json and reports/curves/roc.csv, and
removes the weights and curves of training sets that params.yaml names no more.
Several processes share the pairs of a benchmark, and a killed run goes on where it stopped.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.evaluation.comparison import compare, open_recognizers
from vec2face.faces.benchmarks import find_benchmarks
from vec2face.faces.source import open_source
from vec2face.runtime.files import whole_file, write_json
from vec2face.runtime.processes import processes
from vec2face.runtime.resume import resume

log = logging.getLogger(__name__)


def main() -> None:
    """Evaluate."""
    p = Params.load(artifacts.params)
    trained = {name: artifacts.recognizer(name) for name in p.sets}
    given = {
        "estimator": Path(p.paths.recognizer),
        "second": Path(p.paths.second_recognizer),
    }
    if processes().main:
        curves = [artifacts.recognizer_curve(name) for name in p.sets]
        remove(artifacts.recognizers.glob("*.safetensors"), [*trained.values(), *given.values()])
        remove(artifacts.curves.glob("fr_*.csv"), curves)
    benchmarks = find_benchmarks(Path(p.paths.benchmarks))
    subset = open_source(artifacts.subset, verify=processes().main)
    recognizers = open_recognizers(trained, given, subset, p.image_size, p.fr_seed)
    settings = [list(p.sets), p.fr_seed, p.image_size, p.evaluation.flip]
    inputs = [artifacts.subset, *trained.values(), *given.values()]
    with resume("evaluate", settings, inputs, artifacts.work) as work:
        evaluation, roc = compare(recognizers, benchmarks, work, flip=p.evaluation.flip)
        if processes().main:
            write_json(artifacts.evaluation, evaluation)
            with whole_file(artifacts.roc) as temporary:
                roc.to_csv(temporary, index=False, float_format="%.6g")


def remove(found: Iterable[Path], but: Iterable[Path]) -> None:
    """Remove files of training sets that params.yaml no longer names: both folders are hashed."""
    needed = {path.resolve() for path in but}
    for path in found:
        if path.resolve() not in needed:
            log.warning("%s: no training set has that name; removed (DVC's cache has it)", path)
            path.unlink()


if __name__ == "__main__":
    run(main, shared=True)
