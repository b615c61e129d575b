"""A table of the study as CSV, Markdown and flat metrics, with the paper's row beside ours."""

import csv
import io
import statistics
from collections.abc import Iterable, Mapping, Sequence

from ablations.study import Row, Table
from vec2face.report.tables import HARDER, STANDARD, paper_table
from vec2face.runtime.files import InputError

ACCURACIES = {*STANDARD, *HARDER, "avg"}
"""Metrics that every recognizer has; the others are those of the generated faces."""

Results = Mapping[tuple[str, int], Mapping[str, float] | None]
"""(variant, seed) -> metrics; None, or not there, if it was not made."""
Cells = dict[str, dict[str, dict[int, float]]]
"""Row -> column -> seed -> value."""


def cells(table: Table, results: Results) -> Cells:
    """Return the values of a table; a row without any result has none."""
    found: Cells = {}
    for name, row in table.rows.items():
        made = {seed: results.get((row.variant or name, seed)) or {} for seed in table.seeds}
        keys = {column: _key(row, metric) for column, metric in table.columns.items()}
        found[name] = {
            column: {seed: run[key] for seed, run in made.items() if key in run}
            for column, key in keys.items()
        }
    return found


def _key(row: Row, metric: str) -> str:
    if row.of == "generated":
        return metric
    return f"{row.of}_{metric}" if metric in ACCURACIES else ""


def flat(name: str, found: Cells) -> dict[str, float]:
    """Return ``<table>.<row>.<column>``, the mean, and with ``_std`` the standard deviation."""
    metrics = {}
    for row, columns in found.items():
        for column, by_seed in columns.items():
            values = list(by_seed.values())
            if values:
                metrics[f"{name}.{row}.{column}"] = round(statistics.fmean(values), 4)
            if values[1:]:
                metrics[f"{name}.{row}.{column}_std"] = round(statistics.stdev(values), 4)
    return metrics


def paper_row(number: int | None, lead: Sequence[str]) -> dict[str, str]:
    """Return the paper's row that begins with some cells, by column; {} if none are given.

    Raises:
        InputError: the paper has no such row.
    """
    if number is None or not lead:
        return {}
    printed = paper_table(number)
    for row in printed.to_numpy().tolist():
        if row[: len(lead)] == list(lead):
            return dict(zip(printed.columns, row, strict=True))
    raise InputError(f"table {number} of the paper has no row that begins with {', '.join(lead)}")


def to_csv(table: Table, found: Cells) -> str:
    """Return rows of ours, their standard deviation over seeds, and the paper's, by column."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [head for column in table.columns for head in (column, f"{column}_std")]
    writer.writerow(["row", "seeds", *heads, "paper_row", *(f"{c}_paper" for c in table.columns)])
    for name, row in table.rows.items():
        ours: list[str] = []
        for column in table.columns:
            values = list(found[name][column].values())
            ours += [_number(statistics.fmean(values)) if values else ""]
            ours += [_number(statistics.stdev(values)) if values[1:] else ""]
        printed = paper_row(table.paper, row.paper)
        theirs = [printed.get(column, "") for column in table.columns]
        writer.writerow([name, _seeds(found[name]), *ours, " ".join(row.paper), *theirs])
    return text.getvalue()


def to_markdown(table: Table, found: Cells, world: str) -> str:
    """Return the same to read, under what it is: a stand-in's level is not the paper's."""
    mark = "Ours" if world == "paper" else f"Ours ({world} faces, not of the paper's level)"
    heads = ["", *(f"{column}, {who}" for column in table.columns for who in ("ours", "paper"))]
    lines = [heads, ["---"] * len(heads)]
    for name, row in table.rows.items():
        printed = paper_row(table.paper, row.paper)
        line = [f"{name}{f' ({row.about})' if row.about else ''}"]
        for column in table.columns:
            line += [spread(found[name][column].values()), printed.get(column, "")]
        lines.append(line)
    most = max(map(_seeds, found.values()))
    title = f"Table {table.paper}: {table.title}" if table.paper else table.title
    over = "one seed" if most == 1 else f"{most} seeds, mean ± standard deviation"
    about = f"{mark}: {over}; seeds are those of sampling and FR training."
    rows = ["| " + " | ".join(cell or "-" for cell in line) + " |" for line in lines]
    rows[0] = "| " + " | ".join(heads) + " |"
    notes = [f"\n{table.note}"] if table.note else []
    return "\n".join([f"# {title}\n", f"{about}\n", *rows, *notes]) + "\n"


def spread(numbers: Iterable[float]) -> str:
    """Return a mean and a standard deviation in words; "" for no numbers."""
    values = list(numbers)
    if not values:
        return ""
    deviation = f" ± {_number(statistics.stdev(values))}" if values[1:] else ""
    return _number(statistics.fmean(values)) + deviation


def _seeds(columns: Mapping[str, Mapping[int, float]]) -> int:
    return max(map(len, columns.values()), default=0)


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3g}"
