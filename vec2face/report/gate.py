"""The gate: whether a change makes results worse, beyond what chance and tolerances explain.

Two runs are compared only if they measure the same thing (``Rules.same``). Then each headline
metric gets its difference, the standard error of the difference, and a verdict. What chance adds:

- the pairs of a benchmark. The folds give the standard error of an accuracy, and by it that of
  whatever is computed from accuracies. The same pairs are shown to both runs, so that part of it
  cancels; the reports hold no figure of a single fold, and the sum of both errors bounds it.
- the draws of a run, where it was repeated with several seeds (reports/ablations/seeds.json).
- the people, images or finds that a share or a count is taken over.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from vec2face.config.document import read_yaml
from vec2face.config.sections import Section
from vec2face.evaluation.roles import Evaluation
from vec2face.evaluation.verification import FOLDS
from vec2face.report.results import Results
from vec2face.report.tables import flat_metrics
from vec2face.runtime.files import InputError

Verdict = Literal["better", "same", "worse", "not measured"]
PROCESSOR, BENCHMARKS = "processor", "benchmarks"


class Metric(Section):
    """How a metric is judged; see ``gate.yaml``."""

    better: Literal["higher", "lower", "nearer_zero", "zero"]
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    share_of: str | None = None
    counted: bool = False


class Rules(Section):
    """``gate.yaml``."""

    standard_errors: Annotated[float, Field(gt=0)]
    metrics: dict[str, Metric]
    same: list[str]

    @classmethod
    def load(cls, path: Path | str = "gate.yaml") -> "Rules":
        """Read and check the file.

        Raises:
            InputError: it is missing, no YAML, or has an unknown key or a bad value.
        """
        try:
            return cls.model_validate(read_yaml(path))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{path}: {place}: {first['msg']}; change it") from error


@dataclass(frozen=True)
class Comparison:
    """A headline metric of two runs.

    Attributes:
        key: its name.
        better: which way is better.
        base: its value before the change; None if it was not measured.
        head: its value after it.
        error: standard error of the difference; None if nothing says how chance moves it.
        verdict: of the head.
    """

    key: str
    better: str
    base: float | None
    head: float | None
    error: float | None
    verdict: Verdict

    @property
    def difference(self) -> float | None:
        """How much larger the head's value is."""
        return None if self.base is None or self.head is None else self.head - self.base


@dataclass(frozen=True)
class Decision:
    """The gate's decision on two runs.

    Attributes:
        refused: why they cannot be compared; empty if they can.
        notes: what a reader should know of them beside that.
        comparisons: of the headline metrics; of proofs only if the runs cannot be compared.
    """

    refused: list[str]
    notes: list[str]
    comparisons: list[Comparison]

    @property
    def code(self) -> int:
        """1 if something is worse, else 2 if the runs cannot be compared, else 0."""
        if any(comparison.verdict == "worse" for comparison in self.comparisons):
            return 1
        return 2 if self.refused else 0


def decide(
    base: Results,
    head: Results,
    rules: Rules,
    *,
    across: Sequence[str] = (),
    doubts: Sequence[str] = (),
) -> Decision:
    """Compare two runs.

    Args:
        base: the run before the change.
        head: the run after it.
        rules: what is judged, and how.
        across: entries of ``rules.same`` in which the two may differ, and metrics which the head
            may lack.
        doubts: other reasons why they cannot be compared.

    Returns:
        The decision. A broken proof makes the head worse, whatever it is compared with.

    Raises:
        InputError: ``across`` names neither.
    """
    if unknown := set(across) - {*rules.same, *rules.metrics}:
        raise InputError(
            f"--across {min(unknown)}: no metric and no entry of `same` in gate.yaml: "
            f"{', '.join(rules.same)}"
        )
    refused = [*doubts, *_incomparable(base, head, rules, across)]
    errors = errors_of_difference(base, head, rules.metrics)
    comparisons = [
        _compared(key, metric, base, head, errors.get(key), rules.standard_errors)
        for key, metric in rules.metrics.items()
        if not refused or metric.better == "zero"
    ]
    measured = [c for c in comparisons if c.base is not None or c.head is not None]
    return Decision(refused, list(_notes(base, head, rules)), measured)


def _incomparable(
    base: Results, head: Results, rules: Rules, across: Sequence[str]
) -> Iterator[str]:
    for run in (base, head):
        if not run.evaluation:
            yield f"{run.name} has no reports/evaluation.json: it stopped before its evaluation"
    for key, metric in rules.metrics.items():
        if metric.better == "zero" and key not in head.metrics:
            yield f"{head.name} has no {key}, which must be proved to be zero"
    judged = [key for key, metric in rules.metrics.items() if metric.better != "zero"]
    lost = [k for k in judged if k in base.metrics.keys() - head.metrics.keys() - {*across}]
    if lost and head.evaluation:
        yield f"{head.name} lacks what {base.name} has; if that is meant, --across {' '.join(lost)}"
    for key in rules.same:
        if key in across:
            continue
        if key == BENCHMARKS:
            if base.evaluation and head.evaluation:
                yield from _unlike(key, *(", ".join(_benchmarks(r)) for r in (base, head)))
        elif key == PROCESSOR:
            if base.processor and head.processor:
                yield from _unlike(key, base.processor, head.processor)
        else:
            for place in sorted({p for r in (base, head) for p in r.parameters if _below(p, key)}):
                one, other = (run.parameters.get(place, "nothing") for run in (base, head))
                contents = [r.content(str(v)) for r, v in ((base, one), (head, other))]
                if key.startswith("paths.") and all(contents):
                    yield from _unlike(f"the content of {place}", *contents)
                else:
                    yield from _unlike(place, one, other)


def _unlike(name: str, one: Any, other: Any) -> Iterator[str]:
    if one != other:
        yield f"{name} differs: {one} and {other}"


def _below(place: str, key: str) -> bool:
    return place == key or place.startswith(f"{key}.")


def _benchmarks(run: Results) -> list[str]:
    return sorted({name for results in run.evaluation.values() for name in results})


def _notes(base: Results, head: Results, rules: Rules) -> Iterator[str]:
    if base.stages and (base.stages, base.parameters) == (head.stages, head.parameters):
        made = "By dvc.lock both were made by the same code, of the same data and parameters"
        if base.metrics == head.metrics:
            yield f"{made}: the results are equal by construction."
        else:
            yield f"{made}; yet figures differ, as they do on another kind of processor."
    elif base.stages and head.stages:
        stages = sorted(base.code.keys() | head.code.keys())
        changed = [name for name in stages if base.code.get(name) != head.code.get(name)]
        yield f"Stages whose code differs: {', '.join(changed) or 'none'}."
    if PROCESSOR in rules.same:
        for run in (base, head):
            if not run.processor:
                yield f"Nothing says on what kind of processor {run.name} was made."
    if head.parameters.get("world") == "rendered":
        yield "Stand-in: rendered faces, not comparable with the paper's figures."


def errors_of_difference(
    base: Results, head: Results, metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """Return the standard error of head - base of each metric of which something is known."""
    parts: dict[str, list[float]] = {}
    for run in (base, head):
        for key, error in errors_over_folds(run.evaluation).items():
            parts.setdefault(key, []).append(error)
        for key, metric in metrics.items():
            value, count = run.metrics.get(key), run.metrics.get(metric.share_of or "")
            if value is None:
                continue
            if metric.counted:
                parts.setdefault(key, []).append(math.sqrt(max(value, 1)))
            elif count:
                share = (value * count + 1) / (count + 2)  # no share is certain of so many
                parts.setdefault(key, []).append(math.sqrt(share * (1 - share) / count))
        other = head if run is base else base
        for key, deviation in (run.deviations or other.deviations).items():
            parts.setdefault(key, []).append(deviation)
    return {key: math.hypot(*errors) for key, errors in parts.items()}


def errors_over_folds(evaluation: Evaluation) -> dict[str, float]:
    """Return the standard error of every metric that is computed from accuracies.

    Each accuracy is moved by its own standard error, up and down, and the metric's larger answers
    are added as squares. It is infinite where a metric exists no more for a moved accuracy.

    Args:
        evaluation: accuracies and their deviations over the folds (population), in percent.
    """
    now = flat_metrics(evaluation, digits=12)
    squares = dict.fromkeys(now, 0.0)
    for name, results in evaluation.items():
        for benchmark, result in results.items():
            error = result.get("std", 0.0) / math.sqrt(FOLDS - 1)
            answers = []
            for step in (-error, error):
                moved = {**result, "accuracy": result["accuracy"] + step}
                changed = {**evaluation, name: {**results, benchmark: moved}}
                answers.append(flat_metrics(changed, digits=12))
            for key in now:
                far = max(abs(answer.get(key, math.inf) - now[key]) for answer in answers)
                squares[key] += far**2
    return {key: math.sqrt(square) for key, square in squares.items()}


def _compared(
    key: str, metric: Metric, base: Results, head: Results, error: float | None, errors: float
) -> Comparison:
    before, after = base.metrics.get(key), head.metrics.get(key)
    verdict: Verdict = "same"
    if metric.better == "zero" and after:
        verdict = "worse"
    elif before is None or after is None:
        verdict = "not measured"
    else:
        gain = {
            "higher": after - before,
            "lower": before - after,
        }.get(metric.better, abs(before) - abs(after))
        limit = max(metric.tolerance, errors * (error or 0.0))
        if abs(gain) > limit:
            verdict = "better" if gain > 0 else "worse"
    shown = None if metric.better == "zero" else error
    return Comparison(key, metric.better, before, after, shown, verdict)
