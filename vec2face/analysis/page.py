"""The report: one HTML file with everything in it, readable from a mail attachment.

Pictures are data URIs; no script, no font and no address outside the file; no date, so that the
same results give the same bytes.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vec2face.analysis.tables import STANDARD, Table, title


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows."""

    path: Path
    caption: str

    @property
    def uri(self) -> str:
        """The file's content as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode()


@dataclass(frozen=True)
class Section:
    """A chapter of the report; one without pictures and tables is left out."""

    title: str
    text: str
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Card:
    """A headline figure."""

    value: str
    label: str
    note: str = ""
    strong: bool = field(default=False)


def cards(metrics: Mapping[str, float]) -> list[Card]:
    """Choose the figures a reader wants first; what was not measured is left out."""
    averaged = int(metrics.get("avg_benchmarks", 0))
    over = f"mean of {averaged} of the 5 standard benchmarks"
    if averaged == 1:
        over = title(next(b for b in STANDARD if b in metrics))
    elif averaged == len(STANDARD):
        over = "mean of the 5 standard benchmarks"
    known = [
        ("avg", "{:.1f} %", "recognizer trained on generated faces", over, True),
        ("real_avg", "{:.1f} %", "trained on as many originals", over, False),
        ("untrained_avg", "{:.1f} %", "untrained network", over, False),
        ("recovery", "{:.0f} %", "recovery", "gain over chance, generated / originals", True),
        (
            "separated_share",
            "{:.0f} %",
            "identities kept apart",
            "cosine < 0.4 to all others",
            False,
        ),
        (
            "image_to_identity_mean",
            "{:.2f}",
            "image to its identity",
            "cosine to the mean of its images",
            False,
        ),
        (
            "second_reconstruction_cosine",
            "{:.2f}",
            "held-out reconstructions",
            "cosine, a recognizer no loss has seen",
            False,
        ),
        (
            "reconstruction_cosine",
            "{:.2f}",
            "held-out reconstructions",
            "cosine, the recognizer of the loss",
            False,
        ),
    ]
    return [
        Card(
            pattern.format(metrics[key] * (100 if key in ("recovery", "separated_share") else 1)),
            label,
            note,
            strong,
        )
        for key, pattern, label, note, strong in known
        if key in metrics
    ]


def page(
    *,
    world: str,
    metrics: Mapping[str, float],
    sections: Sequence[Section],
    settings: Mapping[str, Any],
) -> str:
    """Return the report as HTML.

    Args:
        world: ``params.world``; anything but the paper's data is marked at the top.
        metrics: the flat metrics; all are listed, the headline ones as cards.
        sections: chapters in reading order.
        settings: parameters worth knowing when reading the figures.
    """
    environment = Environment(
        loader=PackageLoader("vec2face.analysis"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html.jinja").render(
        world=world,
        cards=cards(metrics),
        sections=[s for s in sections if s.pictures or s.tables],
        metrics=sorted(metrics.items()),
        settings=settings,
    )
