"""The gate's decision as Markdown, for a comment on a change or a terminal; and as plain values."""

import math
import shutil
from pathlib import Path
from typing import Any

from vec2face.report.gate import Comparison, Decision
from vec2face.report.results import Results
from vec2face.runtime.files import whole_folder, write_json

SHOWN = {
    "accuracies": "Accuracy by benchmark",
    "similarities": "Cosines of pairs of images",
    "roc": "False and true accepts",
    "generated_faces": "Generated faces",
    "rising_sigma": "One identity a row, perturbed more and more",
    "reconstructions": "Held-out people and their reconstructions",
}
"""Figures of the report that a reviewer looks at, and their titles."""

HEADINGS = {
    0: "Gate: no metric is worse",
    1: "Gate: refused, as it makes results worse",
    2: "Gate: not comparable",
}
WAYS = {
    "higher": "higher",
    "lower": "lower",
    "nearer_zero": "nearer to 0",
    "zero": "must be 0",
}


def markdown(decision: Decision, base: Results, head: Results, pictures: Path | None = None) -> str:
    """Return the comment.

    Args:
        decision: on the two.
        base: the run before the change.
        head: the run after it.
        pictures: folder that holds ``base/<figure>.png`` and ``head/<figure>.png``, those that
            there are; the comment names them relative to its parent. None for no pictures.
    """
    worse = [c.key for c in decision.comparisons if c.verdict == "worse"]
    better = [c.key for c in decision.comparisons if c.verdict == "better"]
    lines = [f"## {HEADINGS[decision.code]}", "", f"Base: {base.name}. Head: {head.name}.", ""]
    for word, keys in (("Worse", worse), ("Better", better)):
        if keys:
            lines += [f"{word}: {', '.join(f'`{key}`' for key in keys)}.", ""]
    if decision.refused:
        lines += ["They cannot be compared:", "", *(f"- {r}" for r in decision.refused), ""]
    if decision.comparisons:
        head_row = ["metric", "better", "base", "head", "difference", "standard error", "verdict"]
        lines += [*table(head_row, [_cells(c) for c in decision.comparisons]), ""]
    lines += [f"{note}\n" for note in decision.notes]
    lines += ["### Parameters", ""]
    changes = parameter_changes(base, head)
    rows = [[f"`{key}`", _value(one), _value(other)] for key, (one, other) in changes.items()]
    lines += [*table(["key", "base", "head"], rows), ""] if rows else ["The same.", ""]
    if pictures:
        lines += _figures(pictures)
    return "\n".join(lines)


def write(decision: Decision, base: Results, head: Results, folder: Path) -> None:
    """Write a folder with ``comment.md``, ``gate.json`` and the ``figures/`` of the comment."""
    with whole_folder(folder) as temporary:
        for side, run in (("base", base), ("head", head)):
            for name in SHOWN:
                picture = run.figures / f"{name}.png"
                if picture.is_file():
                    (temporary / "figures" / side).mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(picture, temporary / "figures" / side / picture.name)
        text = markdown(decision, base, head, temporary / "figures")
        (temporary / "comment.md").write_text(text)
        write_json(temporary / "gate.json", plain(decision, base, head))


def plain(decision: Decision, base: Results, head: Results) -> dict[str, Any]:
    """Return the same as JSON-able values."""
    return {
        "code": decision.code,
        "base": base.name,
        "head": head.name,
        "refused": decision.refused,
        "notes": decision.notes,
        "metrics": [
            {
                "key": c.key,
                "better": c.better,
                "base": c.base,
                "head": c.head,
                "difference": c.difference,
                "standard_error": c.error if c.error is None or math.isfinite(c.error) else None,
                "verdict": c.verdict,
            }
            for c in decision.comparisons
        ],
        "parameters": {key: list(pair) for key, pair in parameter_changes(base, head).items()},
    }


def parameter_changes(base: Results, head: Results) -> dict[str, tuple[Any, Any]]:
    """Return the parameters that differ, by dotted key; None where a run has no such key."""
    keys = dict.fromkeys([*base.parameters, *head.parameters])
    pairs = {key: (base.parameters.get(key), head.parameters.get(key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table."""
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


def _cells(c: Comparison) -> list[str]:
    verdict = {"same": "same within noise", "worse": "**worse**"}.get(c.verdict, c.verdict)
    numbers = [*map(_number, (c.base, c.head)), _number(c.difference, "+")]
    return [f"`{c.key}`", WAYS[c.better], *numbers, _number(c.error), verdict]


def _number(value: float | None, sign: str = "") -> str:
    if value is None:
        return "-"
    if math.isinf(value):
        return "any"
    return f"{value:{sign}.4g}" if value else "0"


def _value(value: Any) -> str:
    return "-" if value is None else f"`{value}`"


def _figures(pictures: Path) -> list[str]:
    lines = ["### Plots and sheets", ""]
    for name, title in SHOWN.items():
        sides = [pictures / side / f"{name}.png" for side in ("base", "head")]
        if not any(path.exists() for path in sides):
            continue
        cells = [
            f"![{name}, {path.parent.name}]({path.relative_to(pictures.parent).as_posix()})"
            if path.exists()
            else "-"
            for path in sides
        ]
        lines += ["<details>", f"<summary>{title}</summary>", ""]
        lines += [*table(["base", "head"], [cells]), "", "</details>", ""]
    return lines
