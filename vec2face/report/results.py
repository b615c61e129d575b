"""The results of one run as files in a folder: what it measured, of what, and on what machine."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vec2face.config.document import read_yaml
from vec2face.evaluation.roles import Evaluation
from vec2face.report.tables import flat_metrics, read_evaluation, read_json
from vec2face.runtime.files import InputError

OTHERS = ("sampling", "perturbation", "quality", "labels", "leaks")
"""The reports whose numbers are metrics, beside the evaluation."""


@dataclass(frozen=True)
class Made:
    """What ``dvc.lock`` says that a stage was run on.

    Attributes:
        command: its program.
        inputs: checksum of each path that it read, its code among them.
        parameters: values of the keys that it depends on.
    """

    command: str
    inputs: Mapping[str, str]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """A run.

    Attributes:
        name: what the reader calls it.
        parameters: values of ``params.yaml`` by dotted key.
        evaluation: accuracies in percent; empty if the run stopped before it.
        metrics: the numbers of all reports that are there, flat.
        deviations: standard deviation over seeds of the metrics that were measured with several.
        processor: kind of the processor; empty if the run did not record it.
        stages: of ``dvc.lock``, without the first, ``code``; empty if it is not there.
        figures: the folder of its figures, which may be missing.
    """

    name: str
    parameters: Mapping[str, Any]
    evaluation: Evaluation
    metrics: Mapping[str, float]
    deviations: Mapping[str, float]
    processor: str
    stages: Mapping[str, Made]
    figures: Path

    @classmethod
    def read(cls, folder: Path, name: str) -> "Results":
        """Read the results in the root of a repository, or in a copy of its reports.

        Args:
            folder: holds ``params.yaml``, ``reports/`` and possibly ``dvc.lock``; or it is the
                folder ``reports`` beside them.
            name: what the reader calls it.

        Raises:
            InputError: ``params.yaml`` is missing, or every report; a file cannot be read.
        """
        root = folder if (folder / "reports").is_dir() else folder.resolve().parent
        reports = root / "reports"
        others = [reports / f"{other}.json" for other in OTHERS]
        measured = [path for path in others if path.is_file()]
        evaluation: Evaluation = {}
        if (reports / "evaluation.json").is_file():
            evaluation = read_evaluation(reports / "evaluation.json")
        if (root != folder and folder.name != "reports") or not (measured or evaluation):
            raise InputError(f"{name}: no reports lie in {folder}; `dvc repro` writes them")
        seeds, run, lock = reports / "ablations/seeds.json", reports / "run.json", root / "dvc.lock"
        return cls(
            name,
            dict(flattened(read_yaml(root / "params.yaml"))),
            evaluation,
            flat_metrics(evaluation, *map(read_json, measured)),
            dict(_deviations(read_json(seeds))) if seeds.is_file() else {},
            str(read_json(run).get("processor", "")) if run.is_file() else "",
            _stages(lock) if lock.is_file() else {},
            reports / "figures",
        )

    @property
    def code(self) -> dict[str, str]:
        """Checksum of the code of each stage."""
        read = {path: md5 for stage in self.stages.values() for path, md5 in stage.inputs.items()}
        return {Path(p).name: md5 for p, md5 in read.items() if p.startswith("data/code/")}

    def content(self, path: str) -> str:
        """Return the checksum of what a stage read at a path; empty if none is known."""
        return next((s.inputs[path] for s in self.stages.values() if path in s.inputs), "")


def flattened(content: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested parameters by dotted key; an empty section counts as a value."""
    if not isinstance(content, dict) or not content:
        yield above, content
        return
    for key, value in content.items():
        yield from flattened(value, f"{above}.{key}" if above else str(key))


def _deviations(seeds: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield those of the table ``seeds``, ``seeds.<recognizer>.<metric>_std``, by metric."""
    for name, value in seeds.items():
        table, _, place = name.partition(".")
        row, _, column = place.partition(".")
        if table == "seeds" and column.endswith("_std") and isinstance(value, int | float):
            metric = column.removesuffix("_std")
            yield (metric if row == "default" else f"{row}_{metric}"), value


def _stages(lock: Path) -> dict[str, Made]:
    try:
        return {
            name: Made(
                str(stage["cmd"]),
                {read["path"]: str(read.get("md5", "")) for read in stage.get("deps", [])},
                stage.get("params", {}).get("params.yaml", {}),
            )
            for name, stage in read_yaml(lock)["stages"].items()
            if name != "code"
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{lock}: is no lock of a pipeline; `dvc repro` writes it") from error
