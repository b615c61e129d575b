"""Whether the parameters of a file are the paper's Table 10: settings of the recognizer's training.

python -m ablations table10
"""

from collections.abc import Callable
from typing import NamedTuple

from vec2face.config.params import Params
from vec2face.report.tables import paper_table

Ours = Callable[[Params], str]
KEYS: dict[str, Ours | None] = {
    "Head": lambda p: {"arcface": "ArcFace"}.get(p.fr.head, p.fr.head),
    "Backbone": lambda p: p.fr.backbone.replace("se_iresnet", "SE-IR"),
    "Input Size": lambda p: f"{p.image_size}x{p.image_size}",
    "Batch Size": lambda p: str(p.fr.batch),
    "Learning Rate": lambda p: f"{p.fr.lr:g}",
    "Weight Decay": lambda p: f"{p.fr.weight_decay:.0e}".replace("e-0", "e-"),
    "Momentum": lambda p: f"{p.fr.momentum:g}",
    "Epochs": lambda p: str(p.fr.epochs),
    "Margin": lambda p: f"{p.fr.margin:g}",
    "FP16": lambda p: str(p.fr.precision == "float16"),
    "Sample Rate": lambda p: f"{p.fr.sample_rate:.1f}",
    "Reduce Learning Rate": lambda p: (
        f"[{', '.join(f'{epoch:g}' for epoch in p.fr.milestones)}]"
        if p.fr.schedule == "milestones"
        else p.fr.schedule
    ),
    "Augmentation": lambda p: " and ".join(
        words
        for words, shares in (
            ("Random aug.", [p.fr.augment.crop, p.fr.augment.photometric]),
            ("Random erase", [p.fr.augment.erasing]),
        )
        if any(shares)
    ),
    "Optimizer": lambda p: "SGD",  # the only one
    "Workers": None,
    "GPU": None,
}
"""Setting -> how a parameter file says it, in the words of the table; None for hardware."""


class Setting(NamedTuple):
    """One line of the table."""

    name: str
    paper: str
    ours: str

    @property
    def verdict(self) -> str:
        """Say whether both are the same."""
        return "not a parameter" if not self.ours else "same" if self.same else "differs"

    @property
    def same(self) -> bool:
        """Whether both are the same, or it is no parameter."""
        return not self.ours or self.ours == self.paper


def settings(p: Params) -> list[Setting]:
    """Return every setting of the table, as printed and as the parameters have it."""
    printed = paper_table(10).to_numpy().tolist()
    return [
        Setting(name, value, said(p) if (said := KEYS[name]) else "") for name, value in printed
    ]


def to_markdown(found: list[Setting], file: str) -> str:
    """Return the settings to read."""
    lines = [f"# Table 10: settings of the recognizer's training, and {file}\n"]
    lines += ["| setting | paper | ours | |", "| --- | --- | --- | --- |"]
    lines += [f"| {s.name} | {s.paper} | {s.ours or '-'} | {s.verdict} |" for s in found]
    return "\n".join(lines) + "\n"


def to_csv(found: list[Setting]) -> str:
    """Return the settings as CSV."""
    rows = [f'{s.name},"{s.paper}","{s.ours}",{s.verdict}' for s in found]
    return "\n".join(["setting,paper,ours,verdict", *rows]) + "\n"
