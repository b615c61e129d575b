"""What the study says of the paper's statements.

Every statement (``statements.yaml``) is one or several claims about rows of the tables. The test is
Welch's, one-sided, over the seeds of the two sides, at 5 %; for a rise it is that of the
slope of a line through all seeds of all rows. A statement

- holds if every claim is significant,
- does not hold if one is significant the other way round,
- is within noise otherwise (that one value is no more than another holds then),
- cannot be tested here if it says why, or a row of it has fewer than two seeds.

Three seeds find differences of some standard deviations only; within noise is no refutation.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import TypeAdapter, ValidationError, model_validator
from scipy import stats

from ablations.layout import Cells, spread
from vec2face.config.document import read_yaml
from vec2face.config.sections import Section
from vec2face.runtime.files import InputError

FILE = Path(__file__).with_name("statements.yaml")
LEVEL = 0.05
Outcome = Literal["holds", "does not hold", "within noise", "cannot be tested here"]


class Claim(Section):
    """Exactly one of these, about values ``table.row.column``, or differences ``a - b`` of two.

    Attributes:
        more: the first is above the second.
        no_more: the first is not above the second.
        rises: from each to the next, on the whole.
    """

    more: tuple[str, str] | None = None
    no_more: tuple[str, str] | None = None
    rises: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("one of more, no_more and rises")
        return self

    @property
    def kind(self) -> str:
        """Return which it is."""
        return next(iter(self.model_fields_set))

    @property
    def values(self) -> tuple[str, ...]:
        """Return what it is about."""
        return getattr(self, self.kind)


class Statement(Section):
    """A statement of the paper.

    Attributes:
        where: its place in the paper.
        says: in words.
        claims: what it claims of our tables.
        cannot: why it cannot be tested here; "" if it can.
    """

    where: str
    says: str
    claims: tuple[Claim, ...] = ()
    cannot: str = ""

    @model_validator(mode="after")
    def _testable_or_not(self) -> Self:
        if bool(self.claims) == bool(self.cannot):
            raise ValueError("either claims or cannot")
        return self


class Verdict(NamedTuple):
    """What came of a statement, and by which numbers."""

    outcome: Outcome
    because: str


def read_statements(path: Path = FILE) -> dict[str, Statement]:
    """Read the statements, by name.

    Raises:
        InputError: the file is missing or says something impossible, with its place.
    """
    try:
        return TypeAdapter(dict[str, Statement]).validate_python(read_yaml(path))
    except ValidationError as error:
        lines = [".".join(map(str, e["loc"])) + f": {e['msg']}" for e in error.errors()]
        raise InputError(f"{path}: change this:\n  " + "\n  ".join(lines)) from error


def judge(statement: Statement, tables: Mapping[str, Cells]) -> Verdict:
    """Judge a statement by the tables' values."""
    if statement.cannot:
        return Verdict("cannot be tested here", statement.cannot)
    outcomes: list[Outcome] = []
    numbers = []
    for claim in statement.claims:
        samples = [list(sample(value, tables).values()) for value in claim.values]
        short = [v for v, s in zip(claim.values, samples, strict=True) if len(s) < 2]
        if short:
            return Verdict("cannot be tested here", f"fewer than two seeds of {', '.join(short)}")
        p, other_way = chances(claim.kind, samples)
        outcomes.append(_outcome(claim.kind, p, other_way))
        sign = " -> " if claim.rises else " > " if claim.more else " <= "
        told = (f"{v} {spread(s)}" for v, s in zip(claim.values, samples, strict=True))
        numbers.append(f"{sign.join(told)} (p {p:.2g}, {outcomes[-1]})")
    worst: list[Outcome] = ["does not hold", "within noise", "holds"]
    return Verdict(min(outcomes, key=worst.index), "; ".join(numbers))


def _outcome(kind: str, p: float, other_way: float) -> Outcome:
    if kind == "no_more":
        return "does not hold" if p < LEVEL else "holds"
    return "holds" if p < LEVEL else "does not hold" if other_way < LEVEL else "within noise"


def sample(value: str, tables: Mapping[str, Cells]) -> dict[int, float]:
    """Return the values ``table.row.column`` by seed, or the differences ``a - b`` of two."""
    first, _, second = value.partition(" - ")
    if second:
        a, b = sample(first, tables), sample(second, tables)
        return {seed: a[seed] - b[seed] for seed in a if seed in b}
    table, row, column = value.split(".")
    return tables.get(table, {}).get(row, {}).get(column, {})


def chances(kind: str, samples: list[list[float]]) -> tuple[float, float]:
    """Return the p-values of a claim and of its opposite."""
    if kind == "rises":
        rank = np.repeat(np.arange(len(samples)), [len(s) for s in samples])
        p = float(stats.linregress(rank, np.concatenate(samples), alternative="greater").pvalue)
    else:
        a, b = (np.array(s) for s in samples)
        if not np.ptp(a) and not np.ptp(b):  # no noise at all
            p = float(0.5 - 0.5 * np.sign(a[0] - b[0]))
        else:
            p = float(stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue)
    return p, 1 - p


def to_markdown(judged: Mapping[str, tuple[Statement, Verdict]]) -> str:
    """Return the verdicts to read."""
    lines = ["# The paper's statements", "", (__doc__ or "").partition("\n\n")[2].strip(), ""]
    lines += ["| statement | where | verdict | numbers, or why not |", "| --- | --- | --- | --- |"]
    for statement, verdict in judged.values():
        cells = (statement.says, statement.where, verdict.outcome, verdict.because)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
