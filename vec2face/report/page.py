"""The report: one HTML file with everything in it, readable from a mail attachment.

Pictures are data URIs; no script, no font and no address outside the file; no date, so that the
same results give the same bytes.
"""

import base64
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from vec2face.config.params import Params
from vec2face.evaluation.roles import in_order
from vec2face.report.tables import STANDARD, Table, title


@dataclass(frozen=True)
class Card:
    """A headline figure, and lines that say how to read it."""

    value: str
    label: str
    notes: Sequence[str] = ()
    strong: bool = False


def cards(metrics: Mapping[str, float], world: str) -> list[Card]:
    """Choose the figures a reader wants first; what was not measured is left out.

    Args:
        metrics: the flat metrics.
        world: ``params.world``; away from the paper's, recovery is marked as rough.
    """
    averaged = int(metrics.get("avg_benchmarks", 0))
    over = f"mean of {averaged} of the 5 standard benchmarks"
    if averaged == 1:
        over = title(next(b for b in STANDARD if b in metrics))
    elif averaged == len(STANDARD):
        over = "mean of the 5 standard benchmarks"
    scatter = ["one run, one seed: docs/laptop-scale.md says how widely it scatters"]
    known = [  # key, its form, label, notes, strong
        ("avg", "{:.1f}%", "recognizer trained on generated faces", [over], True),
        ("real_avg", "{:.1f}%", "trained on originals", [over], False),
        ("untrained_avg", "{:.1f}%", "untrained network", [over], False),
        (
            "recovery",
            "{:.0%}",
            "recovery",
            [
                "gain over chance, generated / originals",
                "over the untrained network {recovery_over_untrained:.0%}",
                *(scatter if world != "paper" else []),
            ],
            True,
        ),
        (
            "separated_share",
            "{:.0%}",
            "generated people kept apart",
            [
                "cosine of their images' mean < 0.4 to all others",
                "without perturbation {pure_separated_share:.0%}",
                "held-out originals among themselves {held_out_separated_share:.0%}",
                "tau bounds vectors, not their images",
            ],
            False,
        ),
        (
            "second_separated_share",
            "{:.0%}",
            "kept apart for a second judge",
            [
                "a recognizer no loss has seen",
                "held-out originals among themselves {second_held_out_separated_share:.0%}",
                "with another person above 0.7: {second_inter_noise:.0%}",
                "of the held-out originals {second_held_out_inter_noise:.0%}",
            ],
            False,
        ),
        (
            "image_to_identity_mean",
            "{:.2f}",
            "image to its identity",
            ["cosine to the mean of its images"],
            False,
        ),
        (
            "second_reconstruction_cosine",
            "{:.2f}",
            "held-out reconstructions",
            ["cosine, a recognizer no loss has seen"],
            False,
        ),
        (
            "reconstruction_cosine",
            "{:.2f}",
            "held-out reconstructions",
            ["cosine, the recognizer of the loss"],
            False,
        ),
    ]
    return [
        Card(_spaced(form.format(metrics[key])), label, _filled(notes, metrics), strong)
        for key, form, label, notes, strong in known
        if key in metrics
    ]


def _filled(notes: Sequence[str], metrics: Mapping[str, float]) -> list[str]:
    """Put figures into notes; a note whose figure was not measured is left out."""
    filled = []
    for note in notes:
        with contextlib.suppress(KeyError):
            filled.append(_spaced(note.format_map(metrics)))
    return filled


def _spaced(text: str) -> str:
    return text.replace("%", " %")


def page(
    p: Params,
    metrics: Mapping[str, float],
    tables: Iterable[Table],
    pictures: Mapping[str, Path],
) -> str:
    """Return the report as HTML; its words are those of the template.

    Args:
        p: the run's parameters; anything but the paper's data is marked at the top.
        metrics: the flat metrics; all are listed, the headline ones as cards.
        tables: those in the paper's layout.
        pictures: PNG files by name, all that the template shows.
    """
    environment = Environment(
        loader=PackageLoader("vec2face.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html.jinja").render(
        p=p,
        cards=cards(metrics, p.world),
        metrics=sorted(metrics.items()),
        tables=tables,
        pictures={name: _data_uri(path) for name, path in pictures.items()},
        trained=in_order(p.sets),
    )


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
