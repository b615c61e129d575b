"""The study: variants of the parameters, and the tables whose rows they fill, as data.

``variants.yaml`` holds both; everything in it is checked when it is read.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from ablations.pipeline import Own, Stage, value_at
from ablations.roots import Root, overridden
from vec2face.config.bounds import Count, Name, Seed, Share
from vec2face.config.document import read_yaml
from vec2face.config.params import OWN_SETS
from vec2face.config.sections import Section
from vec2face.runtime.files import InputError

FILE = Path(__file__).with_name("variants.yaml")
STUDY = "params/study.yaml"
SHOWN = {"certificates.mislabelled_features": 1}  # a table shows them and does not end at them


class Set(Section):
    """A training set made of the generated one; see ``ablations.sets``."""

    people: Count | None = None  # its first identities; null for all
    images: Count | None = None  # so many of each, drawn at random; null for all
    beside: str | None = None  # a store that is added

    def stage(self, name: str) -> Stage:
        """Return what makes it."""
        options = "".join(f" --{key} {value}" for key, value in self if value is not None)
        reads = ["data/code/subset", "ablations/sets.py", "data/generated"]
        return Stage(
            f"set@{name}",
            f"python -m ablations.sets {name}{options}",
            ("seed", "sampling.seed"),
            (*reads, *filter(None, [self.beside])),
            (f"data/sets/{name}",),
        )


class Variant(Section):
    """What a variant changes, and which stages it asks for.

    Attributes:
        parameters: the file that it changes.
        changes: dotted keys and their values.
        alike: the mean cosine between its identity vectors (``ablations.alike``); null for those
            that the stage ``identities`` samples.
        sets: further training sets, by name.
        stages: what is to be made.
    """

    parameters: str = STUDY
    changes: dict[str, Any] = Field(default_factory=dict)
    alike: Share | None = None
    sets: dict[Name, Set] = Field(default_factory=dict)
    stages: tuple[str, ...] = ("evaluate",)

    def seeded(self, base: Path, seed: int) -> dict[str, Any]:
        """Return its changes with a seed of sampling and FR training, and its training sets."""
        paths = {f"training_sets.{name}": f"data/sets/{name}" for name in self.sets}
        changes = {**SHOWN, **paths, **self.changes}
        return with_seed(read_yaml(base / self.parameters), changes, seed)

    def root(self, folder: Path, base: Path, seed: int, own: Own | None = None) -> Root:
        """Set up its folder for a seed."""
        further = [made.stage(name) for name, made in self.sets.items()]
        programs = {}
        if self.alike is not None:
            programs["identities"] = f"python -m ablations.alike {self.alike:g}"
        return Root(
            folder,
            base,
            self.seeded(base, seed),
            parameters=base / self.parameters,
            programs=programs,
            further=further,
            own=own,
        )


class Row(Section):
    """A row of a table.

    Attributes:
        variant: whose figures it shows; by default that of the row's own name.
        of: the recognizer, by what it was trained on.
        paper: the first cells of the paper's row, as printed.
        about: more than the name says.
    """

    variant: Name | None = None
    of: Name = "generated"
    paper: tuple[str, ...] = ()
    about: str = ""


class Table(Section):
    """A table.

    Attributes:
        paper: the number of the paper's table; null for one that it does not have.
        title: what it shows.
        seeds: of sampling and FR training; every variant is run with each.
        columns: names, the paper's where it has such a column, and the metrics that they show.
        rows: by name.
        others: a variant whose other training sets, of its parameter file, get a row each.
        note: what differs from the paper.
    """

    paper: Count | None = None
    title: str
    seeds: tuple[Seed, ...] = (0, 1, 2)
    columns: dict[str, str]
    rows: dict[Name, Row] = Field(min_length=1)
    others: Name | None = None
    note: str = ""

    def variants(self) -> list[str]:
        """Return the names of its variants, each once."""
        return list(dict.fromkeys(row.variant or name for name, row in self.rows.items()))


class Study(Section):
    """All variants and tables, by name."""

    variants: dict[Name, Variant]
    tables: dict[Name, Table]

    @model_validator(mode="after")
    def _rows_have_variants(self) -> Self:
        for name, table in self.tables.items():
            if unknown := set(table.variants()) - self.variants.keys():
                raise ValueError(f"{name}: variants has no {sorted(unknown)[0]}")
        return self

    def table(self, name: str, base: Path = Path()) -> Table:
        """Return a table, with its rows of other training sets.

        Raises:
            InputError: there is none of this name.
        """
        if name not in self.tables:
            raise InputError(f"no table {name!r}; there are {', '.join(self.tables)}")
        table = self.tables[name]
        if table.others is None:
            return table
        content = read_yaml(base / self.variants[table.others].parameters)
        further = {*content["training_sets"], *content["masked_sets"]} - {*OWN_SETS}
        rows = {name: Row(variant=table.others, of=name) for name in sorted(further)}
        return table.model_copy(update={"rows": {**table.rows, **rows}})


def read_study(path: Path = FILE) -> Study:
    """Read the variants and tables.

    Raises:
        InputError: the file is missing or says something impossible, with its place.
    """
    try:
        return Study.model_validate(read_yaml(path))
    except ValidationError as error:
        lines = [".".join(map(str, e["loc"])) + f": {e['msg']}" for e in error.errors()]
        raise InputError(f"{path}: change this:\n  " + "\n  ".join(lines)) from error


def with_seed(content: Mapping[str, Any], changes: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return changes with the seeds of sampling and FR training, where those are others yet.

    A seed of null means ``seed``. Written as a number it would rerun its stages for the same bytes.
    """
    now = overridden(content, changes)
    keys = ("sampling.seed", "fr.seed")
    values = {key: value_at(now, key) for key in keys}
    effective = {key: now["seed"] if value is None else value for key, value in values.items()}
    return {**changes, **{key: seed for key in keys if effective[key] != seed}}
