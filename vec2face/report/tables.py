"""Numbers for readers: the flat metrics of a run and tables in the layout of the paper.

What other stages measured (accuracies, separation, reconstruction) is gathered into one flat
dictionary, of which reports/metrics.json has the headline, and into tables that keep our rows apart
from the paper's: a run on rendered faces or on a few thousand photographs is no result beside one
million images of WebFace4M.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vec2face.evaluation.roles import Evaluation, in_order
from vec2face.runtime.files import InputError

STANDARD = ("lfw", "cfp_fp", "cplfw", "agedb_30", "calfw")
"""The five benchmarks the paper averages over, in the order of its columns."""

HARDER = ("hadrian", "eclipse", "sllfw", "doppelver")
"""The benchmarks of the paper's Table 6."""

TITLES = {
    "lfw": "LFW",
    "cfp_fp": "CFP-FP",
    "cplfw": "CPLFW",
    "agedb_30": "AgeDB",
    "calfw": "CALFW",
    "avg": "Avg.",
    "hadrian": "Hadrian",
    "eclipse": "Eclipse",
    "sllfw": "SLLFW",
    "doppelver": "DoppelVer",
}

HEADLINE = (
    "avg",
    "real_avg",
    "untrained_avg",
    "recovery",
    "recovery_over_untrained",
    "quality.separated_share",
    "quality.second_separated_share",
    "quality.second_reconstruction_cosine",
    "labels.mislabelled_vectors",
    "labels.mislabelled_share",
    "leaks.leak_identity_training_flagged",
    "leaks.leak_image_training_flagged",
    "leaks.membership_auc",
)
"""What a person decides by, as DVC prints the keys of reports/metrics.json.

A figure of another stage's file has that file's name before it: DVC would put whole paths before a
key that two files have.
"""

PAPER = Path(__file__).parent / "paper"


def title(benchmark: str) -> str:
    """Return a benchmark's name as the paper prints it; a user's own benchmark keeps its name."""
    return TITLES.get(benchmark, benchmark)


def read_evaluation(path: Path | str) -> Evaluation:
    """Read an evaluation, and turn the shares ``accuracy`` and ``std`` into percent.

    Raises:
        InputError: missing or unreadable file, accuracy outside [0, 1].
    """
    evaluation: dict[str, dict[str, dict[str, float]]] = {}
    for recognizer, benchmarks in read_json(path).items():
        evaluation[recognizer] = {}
        if not isinstance(benchmarks, dict):
            raise InputError(f"{path}: {recognizer}: no benchmarks; run the evaluate stage again")
        for benchmark, result in benchmarks.items():
            accuracy = result.get("accuracy") if isinstance(result, dict) else None
            if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
                raise InputError(
                    f"{path}: {recognizer}/{benchmark}: accuracy {accuracy!r} is no share in "
                    "[0, 1]; run the evaluate stage again"
                )
            std = result.get("std", 0.0)
            if not isinstance(std, int | float):
                raise InputError(
                    f"{path}: {recognizer}/{benchmark}: std {std!r} is no number; "
                    "run the evaluate stage again"
                )
            percent = {"accuracy": 100 * accuracy, "std": 100 * std}
            evaluation[recognizer][benchmark] = {**result, **percent}
    return evaluation


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: the file is missing or holds something else.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error}); run `dvc repro`") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object; run the stage that writes it again")
    return content


def ordered(benchmarks: Sequence[str]) -> list[str]:
    """Sort benchmark names: the five standard ones, the harder ones, then a user's own by name."""
    known = [*STANDARD, *HARDER]
    return [b for b in known if b in benchmarks] + sorted(b for b in benchmarks if b not in known)


def average(accuracies: Mapping[str, float]) -> tuple[float, int]:
    """Return the mean over the standard benchmarks that are present, and how many those are.

    The mean is nan if none is present.
    """
    present = [accuracies[b] for b in STANDARD if b in accuracies]
    return (math.fsum(present) / len(present) if present else math.nan), len(present)


def recovery(generated: float, real: float, floor: float = 50.0) -> float:
    """Return the share of the gain that generated faces recover.

    It is (generated - floor) / (real - floor), where the floor is chance or the untrained network;
    nan where the recognizer of originals gains nothing.
    """
    return (generated - floor) / (real - floor) if real > floor else math.nan


def flat_metrics(
    evaluation: Evaluation, *others: Mapping[str, Any], digits: int = 4
) -> dict[str, float | int]:
    """Gather all numbers of a run under flat keys.

    Args:
        evaluation: accuracies in percent.
        others: flat dictionaries of the other stages (sampling, quality); only their finite numbers
            are taken, not text, lists, nan or the seed.
        digits: decimals kept.

    Returns:
        ``lfw`` ... ``doppelver`` and ``avg`` for the recognizer trained on generated faces, the
        same with the prefix ``<recognizer>_`` for the others, ``<prefix>avg_benchmarks`` (how many
        of the five the average is over), ``recovery``, ``recovery_over_untrained``, and the
        numbers of ``others``. What was not measured is absent.

    Raises:
        InputError: two sources give the same key.
    """
    metrics: dict[str, float | int] = {}
    averages: dict[str, float] = {}
    for role in in_order(evaluation):
        results = evaluation[role.name]
        accuracies = {b: results[b]["accuracy"] for b in ordered([*results])}
        metrics |= {role.prefix + b: round(a, digits) for b, a in accuracies.items()}
        mean, count = average(accuracies)
        if count:
            averages[role.name] = mean
            metrics[f"{role.prefix}avg"] = round(mean, digits)
            metrics[f"{role.prefix}avg_benchmarks"] = count
    if {"generated", "real"} <= averages.keys():
        floors = {"recovery": 50.0, "recovery_over_untrained": averages.get("untrained", math.nan)}
        for key, floor in floors.items():
            value = recovery(averages["generated"], averages["real"], floor)
            if math.isfinite(value):
                metrics[key] = round(value, digits)
    for other in others:
        for key, value in other.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or key == "seed":
                continue
            if key in metrics:
                raise InputError(f"two stages report a metric called {key!r}; rename one of them")
            metrics[key] = round(value, digits) if isinstance(value, float) else value
    return metrics


def headline(metrics: Mapping[str, float], trained: Iterable[str] = ()) -> dict[str, Any]:
    """Choose ``HEADLINE`` from flat metrics, and the average of each set that was trained on.

    Args:
        metrics: the flat metrics; what was not measured is absent.
        trained: names of the training sets.

    Returns:
        As reports/metrics.json has it: ``{"avg": ..., "labels": {"mislabelled_share": ...}, ...}``.
    """
    found: dict[str, Any] = {}
    for name in dict.fromkeys([*HEADLINE, *(f"{role.prefix}avg" for role in in_order(trained))]):
        file, _, key = name.rpartition(".")
        if key in metrics:
            place = found.setdefault(file, {}) if file else found
            place[key] = metrics[key]
    return found


def paper_table(number: int) -> pd.DataFrame:
    """Read one of the paper's printed tables (1 to 10); cells are text, as printed.

    Raises:
        InputError: there is no such table.
    """
    path = PAPER / f"table{number}.csv"
    if not path.is_file():
        raise InputError(f"{path}: the paper's tables are numbered 1 to 10")
    return pd.read_csv(path, dtype=str, keep_default_na=False)


@dataclass(frozen=True)
class Table:
    """A table in the paper's layout: its printed rows, and our rows in a block of their own."""

    columns: list[str]  # keys, the first is training_set
    paper: list[list[str]]
    ours: list[list[str]]
    world: str
    notes: list[str]  # about our rows

    @property
    def titles(self) -> list[str]:
        """Column headings as the paper prints them."""
        words = {"training_set": "Training set", "kind": "Kind", "images": "# images"}
        return [words.get(c, title(c)) for c in self.columns]

    @property
    def mark(self) -> str:
        """What our rows are: never the paper's setting."""
        if self.world == "rendered":
            return "stand-in: rendered faces, not comparable with the paper's figures"
        if self.world == "paper":
            return "this run, in the paper's setting"
        return f"this run, world {self.world}: other faces and another scale than the paper's"

    def csv(self) -> str:
        """All rows as CSV with a leading column that says whose row it is."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["source", *self.columns])
        source = "stand-in" if self.world == "rendered" else self.world
        writer.writerows(["paper", *row] for row in self.paper)
        writer.writerows([source, *row] for row in self.ours)
        return text.getvalue()

    def markdown(self) -> str:
        """Return two tables, one under the other, each under its heading."""
        blocks = []
        for heading, rows in (
            (self.mark[0].upper() + self.mark[1:], self.ours),
            ("The paper (arXiv 2409.02979)", self.paper),
        ):
            cells = [self.titles, ["---"] * len(self.columns), *rows]
            lines = ["| " + " | ".join(cell or "-" for cell in row) + " |" for row in cells]
            blocks.append(f"### {heading}\n\n" + "\n".join(lines) + "\n")
            if rows is self.ours:
                blocks += [f"{note}\n" for note in self.notes]
        return "\n".join(blocks)


def tables(
    evaluation: Evaluation, world: str, generated_images: int, real_images: int
) -> dict[int, Table]:
    """Lay out Table 1, and Table 6 if any of its benchmarks was measured; see ``table``."""
    measured = {benchmark for results in evaluation.values() for benchmark in results}
    numbers = (1, 6) if measured & {*HARDER} else (1,)
    return {n: table(n, evaluation, world, generated_images, real_images) for n in numbers}


def table(
    number: int, evaluation: Evaluation, world: str, generated_images: int, real_images: int
) -> Table:
    """Lay a run out as the paper's Table 1 (the five benchmarks) or Table 6 (the harder ones).

    Args:
        number: 1 or 6.
        evaluation: accuracies in percent.
        world: ``params.world``; marks our rows.
        generated_images: images in the generated set.
        real_images: images the comparison recognizer was trained on.

    Returns:
        The table. The average stands only in rows that have all five benchmarks, since one over
        fewer would be another quantity in the same column.

    Raises:
        InputError: another table's number.
    """
    if number not in (1, 6):
        raise InputError(f"table {number} has another layout; 1 and 6 are laid out here")
    printed = paper_table(number)
    originals, kind = {"rendered": ("rendered faces", "rendered")}.get(
        world, ("photographs", "real")
    )
    made = "gan" if world == "paper" else "generated"  # what the paper calls it, in its setting
    kind_and_images = {
        "generated": [made, _count(generated_images)],
        "real": [kind, _count(real_images)],
        "untrained": ["", "0"],
    }
    columns = [*printed.columns]
    lead = 3 if number == 1 else 1
    ours, notes = [], []
    for role in in_order(evaluation):
        head = [role.row.format(originals=originals), *kind_and_images.get(role.name, ["", ""])]
        values = {b: r["accuracy"] for b, r in evaluation[role.name].items()}
        mean, count = average(values)
        if number == 1 and count == len(STANDARD):
            values["avg"] = mean
        cells = [f"{values[c]:.2f}" if c in values else "" for c in columns[lead:]]
        if any(cells):
            ours.append([*head[:lead], *cells])
        if number == 1 and role.name == "generated" and count < len(STANDARD):
            notes.append(
                f"No average: {count} of its {len(STANDARD)} benchmarks are in `paths.benchmarks`."
            )
    return Table(columns, printed.to_numpy().tolist(), ours, world, notes)


def _count(images: int) -> str:
    """Write a number of images as the paper does (0.5M), and in full below 100 000."""
    return f"{images / 1e6:.2g}M" if images >= 100_000 else f"{images:,}".replace(",", " ")
