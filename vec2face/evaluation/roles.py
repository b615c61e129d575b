"""The recognizers that a run compares: what each of them is, and how a reader is told of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import cycle

Evaluation = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Recognizer -> benchmark -> figure -> value, as in reports/evaluation.json.

``comparison.figures`` says which figures. Their shares are in [0, 1]; what shows them has
``accuracy`` and ``std`` in percent (``report.tables.read_evaluation`` turns them).
"""


@dataclass(frozen=True)
class Role:
    """One recognizer of the comparison.

    Attributes:
        name: its key in reports/evaluation.json, in metrics and in file names.
        colour: of its marks in figures.
        label: its name in legends.
        row: its name in tables; ``{originals}`` stands for the kind of the original faces.
        faces: what this run trained it on, in words; empty if this run did not train it.
    """

    name: str
    colour: str
    label: str
    row: str
    faces: str = ""

    @property
    def prefix(self) -> str:
        """What its metrics begin with; the recognizer of the generated set has the bare names."""
        return "" if self.name == "generated" else f"{self.name}_"


ROLES = {
    role.name: role
    for role in (
        Role(
            name="generated",
            colour="#d1495b",
            label="trained on generated faces",
            row="Vec2Face (generated)",
            faces="generated faces",
        ),
        Role(  # the comparison: the same network, on faces that were not generated
            name="real",
            colour="#1f6f8b",
            label="trained on originals",
            row="{originals}",
            faces="originals",
        ),
        Role(  # the floor: the same network with its first weights
            name="untrained",
            colour="#a7adba",
            label="untrained",
            row="none (untrained)",
        ),
        Role(  # ``paths.recognizer``: gives the features, and the identity loss
            name="estimator",
            colour="#8a6fb3",
            label="recognizer of the identity loss",
            row="recognizer of the identity loss",
        ),
        Role(  # ``paths.second_recognizer``: no loss has seen it
            name="second",
            colour="#c99a2e",
            label="second recognizer",
            row="second recognizer",
        ),
    )
}
"""The recognizers of every run, in the order of the tables' rows."""

OTHERS = ("#3f8f5f", "#d97b29", "#4f5d9e", "#9e4f74", "#5c8a8a")
"""Colours of the recognizers that were trained on further sets."""


def in_order(names: Iterable[str]) -> list[Role]:
    """Return the roles of some recognizers: those of every run, then further training sets."""
    names = list(names)
    further = zip(sorted(name for name in names if name not in ROLES), cycle(OTHERS))
    return [role for role in ROLES.values() if role.name in names] + [
        Role(name, colour, f"trained on {name}", name, name) for name, colour in further
    ]
