"""Cards of what a run made: Markdown under a YAML head, as Hugging Face reads them.

    card("dataset", Run.load(params, reports, lock, citation), licence_of(params))

Every figure in a card is one of a stage's file in ``reports/``, of the parameters or of
``dvc.lock``; the words are those of ``cards/*.md``. A figure that was not measured is
said to be so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from vec2face.config.document import read_yaml
from vec2face.config.params import Params
from vec2face.evaluation.roles import Evaluation, Role, in_order
from vec2face.report.results import OTHERS
from vec2face.report.tables import flat_metrics, ordered, read_evaluation, read_json, title
from vec2face.runtime.files import InputError

Kind = Literal["generator", "recognizer", "dataset"]
KINDS: tuple[Kind, ...] = get_args(Kind)
ARXIV = "arxiv:2409.02979"
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B")


@dataclass(frozen=True)
class Run:
    """What a card is made from.

    Attributes:
        p: the parameters.
        metrics: the flat metrics of all stages.
        evaluation: accuracies in percent.
        lock: the stages of ``dvc.lock``.
        citation: the content of ``CITATION.cff``.
    """

    p: Params
    metrics: Mapping[str, float]
    evaluation: Evaluation
    lock: Mapping[str, Any]
    citation: Mapping[str, Any]

    @classmethod
    def load(cls, params: Path, reports: Path, lock: Path, citation: Path) -> Self:
        """Read the files of a finished run.

        Raises:
            InputError: one is missing or unreadable, or the parameters are not those that the run
                was made with.
        """
        stages = read_yaml(lock).get("stages", {})
        evaluation = read_evaluation(reports / "evaluation.json")
        run = cls(
            Params.load(params),
            flat_metrics(evaluation, *(read_json(reports / f"{name}.json") for name in OTHERS)),
            evaluation,
            stages,
            read_yaml(citation),
        )
        now = read_yaml(params)
        then = stages.get("report", {}).get("params", {}).get("params.yaml", now)
        if differ := sorted(key for key in {*now, *then} if now.get(key) != then.get(key)):
            raise InputError(
                f"{params}: {', '.join(differ)} differ from those that the results in {reports} "
                f"were made with, as {lock} says; run `dvc repro`, or take the results' parameters"
            )
        return run

    def inputs(self, stage: str) -> dict[str, str]:
        """Return path and MD5, as DVC counts it, of what a stage read and wrote."""
        entry = self.lock.get(stage, {})
        files = [*entry.get("deps", []), *entry.get("outs", [])]
        return {file["path"]: file["md5"] for file in files if "md5" in file}


def licence_of(p: Params, stated: str | None = None) -> str:
    """Return a licence's SPDX identifier: the one stated, or for rendered faces the project's.

    Raises:
        InputError: photographs were used, and none is stated.
    """
    if stated is None and p.world != "rendered":
        raise InputError(
            "--license: state one (an identifier of spdx.org/licenses); what is made from "
            "photographs may be given away only as the licences of these photographs allow"
        )
    return stated or "MIT"


def card(kind: Kind, run: Run, licence: str, trained_on: str = "generated") -> str:
    """Return a card.

    Args:
        kind: what it is about.
        run: where figures come from.
        licence: an SPDX identifier.
        trained_on: of a recognizer: the training set's name.

    Raises:
        InputError: no recognizer was trained on such a set.
    """
    if trained_on not in run.p.sets:
        known = ", ".join(run.p.sets)
        raise InputError(f"training_sets.{trained_on}: no such set; there are {known}")
    path, rows = run.p.sets[trained_on]
    recognizer = "masked_recognizer" if rows else "recognizer"
    stage = f"{recognizer}@{trained_on}" if kind == "recognizer" else kind
    (role,) = in_order([trained_on])
    environment = Environment(
        loader=PackageLoader("vec2face.report", "cards"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown; its words and figures are the project's own
    )
    body = environment.get_template(f"{kind}.md").render(
        p=run.p,
        licence=licence,
        cite=run.citation,
        bibtex=bibtex(run.citation["preferred-citation"]),
        inputs=run.inputs(stage),
        role=role,
        trained_on=f"`{path}`, rows of `{rows}`" if rows else f"`{path}`",
        accuracies=_accuracies(run.evaluation, role.name),
        compared=_compared(run),
        figure=lambda key, form="{}": _figure(run.metrics, key, form),
    )
    head = {"license": licence.lower()} | _HEADS[kind](run, role)
    return f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n\n{body}\n"


def bibtex(work: Mapping[str, Any]) -> str:
    """Return the BibTeX entry of a reference of ``CITATION.cff``."""
    authors = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in work["authors"])
    key = f"{work['authors'][0]['family-names'].lower()}{work['year']}"
    fields = {
        "title": f"{{{work['title']}}}",
        "author": authors,
        "booktitle": work["conference"]["name"],
        "year": work["year"],
        "url": work["url"],
    }
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items()]
    return f"@inproceedings{{{key},\n" + ",\n".join(lines) + "\n}"


def size_category(images: int) -> str:
    """Return Hugging Face's class of a set's size, such as ``1K<n<10K``."""
    place = len(str(images)) - len("1000")
    return f"{_SIZES[place]}<n<{_SIZES[place + 1]}" if place >= 0 else f"n<{_SIZES[0]}"


def pretty_name(run: Run) -> str:
    """Return what a run's generated set is called."""
    return f"Vec2Face reproduction, generated faces ({run.p.world} world)"


def _figure(metrics: Mapping[str, float], key: str, form: str) -> str:
    """Write a metric, or that it was not measured."""
    return form.format(metrics[key]).replace("%", " %") if key in metrics else "not measured"


def _accuracies(evaluation: Evaluation, name: str) -> list[tuple[str, str, float, float]]:
    """Return benchmark, its title, accuracy and spread over the folds in percent, in order."""
    results = evaluation.get(name, {})
    return [(b, title(b), results[b]["accuracy"], results[b]["std"]) for b in ordered([*results])]


def _compared(run: Run) -> list[tuple[str, str]]:
    """Return each recognizer of the comparison, and its mean over the standard benchmarks."""
    return [
        (
            role.row.format(originals="originals"),
            _figure(run.metrics, f"{role.prefix}avg", "{:.2f}"),
        )
        for role in in_order(run.evaluation)
    ]


def _tags(run: Run, *more: str) -> list[str]:
    stand_in = ["stand-in"] if run.p.world == "rendered" else []
    return ["face-recognition", "synthetic", "vec2face", ARXIV, *more, *stand_in]


def _of_generator(run: Run, role: Role) -> dict[str, Any]:
    return {
        "library_name": "vec2face",
        "pipeline_tag": "unconditional-image-generation",
        "tags": _tags(run, "generator"),
    }


def _of_recognizer(run: Run, role: Role) -> dict[str, Any]:
    mark = " (rendered stand-in)" if run.p.world == "rendered" else ""
    results = [
        {
            "task": {"type": "image-feature-extraction", "name": "face verification"},
            "dataset": {"type": benchmark, "name": f"{name}{mark}"},
            "metrics": [
                {
                    "type": "accuracy",
                    "name": "accuracy over ten folds, percent",
                    "value": round(accuracy, 4),
                }
            ],
        }
        for benchmark, name, accuracy, _ in _accuracies(run.evaluation, role.name)
    ]
    head: dict[str, Any] = {
        "library_name": "vec2face",
        "pipeline_tag": "image-feature-extraction",
        "tags": _tags(run, "recognizer"),
        "metrics": ["accuracy"],
    }
    if results:
        head["model-index"] = [{"name": f"vec2face-{role.name}", "results": results}]
    return head


def _of_dataset(run: Run, role: Role) -> dict[str, Any]:
    return {
        "pretty_name": pretty_name(run),
        "task_categories": ["image-classification"],
        "size_categories": [size_category(int(run.metrics.get("images", 0)))],
        "tags": _tags(run, "webdataset"),
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.tar"}],
            }
        ],
    }


_HEADS = {"generator": _of_generator, "recognizer": _of_recognizer, "dataset": _of_dataset}
