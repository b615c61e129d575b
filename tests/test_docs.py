"""What the documentation lists is what there is."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = set(re.findall(r"`([\w.]+)`", (ROOT / "docs/measures.md").read_text()))
EXPLAINED = {name for name in NAMES if not name.endswith("...")}
PREFIXES = tuple(name.removesuffix("...") for name in NAMES if name.endswith("..."))
PREFIXES += ("second_", "held_out_")


def explained(key):
    """Whether a key is listed, as it is or after prefixes that are."""
    return key in EXPLAINED or any(
        key.startswith(p) and explained(key.removeprefix(p)) for p in PREFIXES
    )


def read(name):
    return json.loads((ROOT / f"reports/{name}.json").read_text())


@pytest.mark.parametrize("name", ["metrics", "quality", "sampling", "perturbation"])
def test_every_key_of_the_reports_is_explained(name):
    evaluation = read("evaluation")  # whose benchmarks and further sets a user names
    marks = {b for results in evaluation.values() for b in results} | {"avg", "avg_benchmarks"}
    named = marks | {f"{recognizer}_{mark}" for recognizer in evaluation for mark in marks}
    assert not [key for key in read(name) if key not in named and not explained(key)]


def test_every_figure_of_an_evaluation_is_explained():
    figures = {key for marks in read("evaluation").values() for m in marks.values() for key in m}
    assert figures
    assert figures <= EXPLAINED
