"""Types of single values: what numbers, paths and names may be.

Numbers are finite. Their upper bounds lie far above all that is published; they are there so that a
slip of the keyboard ends with the key's name and not with the memory.
"""

import os.path
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

LARGEST = 10**9
"""Of all counts and numbers without a bound of their own."""
SMALLEST = 1e-30
"""Of all numbers above 0: far below all that is used, and no square of one vanishes."""


def number(value: Any) -> Any:
    """Refuse true and false, which Python takes for 1 and 0."""
    if value is True or value is False:
        raise ValueError("a number, not true or false")
    return value


def _of_the_system(path: str) -> bool:
    _, *names = Path(path).parts
    return names[:1] in (["proc"], ["sys"]) or (names[:1] == ["dev"] and names[1:2] != ["shm"])


def _place(value: str) -> str:
    names = [name for name in value.split("/") if name not in ("", ".", "..")]
    if not names:
        raise ValueError(f"name a file or a folder, not {value!r}")
    if not value.isprintable() or value != value.strip() or "$" in value:
        raise ValueError(f"a path of printable characters without $, not {value!r}")
    if len(value) > 1000 or any(len(name.encode()) > 255 for name in names):
        raise ValueError("a path is shorter: at most 255 bytes a name, 1000 characters in all")
    if _of_the_system(os.path.normpath(Path.cwd() / value)) or _of_the_system(
        os.path.realpath(value)
    ):
        raise ValueError(f"{value} is the system's, and no data")
    return value


def _place_or_none(value: str) -> str:
    return _place(value) if value else value


Count = Annotated[int, Field(ge=1, le=LARGEST), BeforeValidator(number)]
Several = Annotated[int, Field(ge=2, le=LARGEST), BeforeValidator(number)]
Size = Annotated[int, Field(ge=1, le=16384), BeforeValidator(number)]  # channels, pixels
Depth = Annotated[int, Field(ge=1, le=1000), BeforeValidator(number)]  # blocks one after another
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(number)]
Part = Annotated[float, Field(ge=0, lt=1), BeforeValidator(number)]
Portion = Annotated[float, Field(gt=0, le=1), BeforeValidator(number)]
Positive = Annotated[float, Field(ge=SMALLEST, le=LARGEST), BeforeValidator(number)]
Weight = Annotated[float, Field(ge=0, le=LARGEST), BeforeValidator(number)]
Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST), BeforeValidator(number)]
Edge = Annotated[float, Field(ge=-1, le=2), BeforeValidator(number)]
Percentile = Annotated[str, StringConstraints(pattern=r"\Ap(100|[0-9]{1,2})\z")]
"""``p50`` is the median of what an estimator says of real images."""
Unit = Annotated[str, StringConstraints(pattern=r"\A[a-z][a-z ]*\z", max_length=20)]
Place = Annotated[str, AfterValidator(_place)]
Name = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\z", max_length=64)]
"""Names become file names, prefixes of metrics and arguments in ``dvc.yaml``."""

Seed = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(number)]

Precision = Literal["float32", "bfloat16", "float16"]

Backbone = Literal[
    "iresnet10", "iresnet18", "iresnet34", "iresnet50", "iresnet100", "iresnet152", "iresnet200",
    "se_iresnet10", "se_iresnet18", "se_iresnet34", "se_iresnet50", "se_iresnet100",
    "se_iresnet152", "se_iresnet200", "vit_s", "vit_b", "vit_l", "mobilefacenet",
]  # fmt: skip
Benchmark = Literal[
    "lfw", "cfp_fp", "cplfw", "agedb_30", "calfw", "hadrian", "eclipse", "sllfw", "doppelver"
]
PlaceOrNone = Annotated[str, AfterValidator(_place_or_none)]
"""A path, or "" for none."""
