"""The rows of a measurement may fail, hang and die; the rest is measured all the same."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from benchmarks.gpu.runner import line, run_piece


def noted(file, name):
    """Return figures, and note in a file that this ran."""
    with file.open("a") as notes:
        notes.write(f"{name}\n")
    return {"name": name}


def rows(file):
    def row(name):
        return lambda: noted(file, name)

    def fail():
        noted(file, "fails")
        raise ValueError("no such path")

    def die():
        noted(file, "dies")
        os.kill(os.getpid(), signal.SIGKILL)

    def hang():
        noted(file, "hangs")
        time.sleep(1000)

    order = {"first": row("first"), "fails": fail, "dies": die, "middle": row("middle")}
    return order | {"hangs": hang, "last": row("last")}


def few(file):
    return {name: lambda name=name: noted(file, name) for name in ("one", "two", "three")}


@pytest.fixture
def notes(tmp_path):
    return tmp_path / "notes"


def test_every_row_runs_once_whatever_the_others_do(tmp_path, notes):
    file = tmp_path / "piece.json"
    found = run_piece(file, rows, (notes,), about={"card": "x"}, row_seconds=8)
    assert found == json.loads(file.read_text())
    assert notes.read_text().split() == ["first", "fails", "dies", "middle", "hangs", "last"]
    assert set(found["rows"]) == {"first", "fails", "dies", "middle", "hangs", "last"}
    assert found["about"] == {"card": "x"}
    assert all(found["rows"][name]["name"] == name for name in ("first", "middle", "last"))
    errors = {name: figures.get("error") for name, figures in found["rows"].items()}
    assert "no such path" in errors["fails"]
    assert "Traceback" in errors["fails"]
    assert "-9" in errors["dies"]
    assert "stopped" in errors["hangs"]
    assert list(tmp_path.glob("*.part.json")) == []
    assert "no such path" in line("fails", found["rows"]["fails"])


def test_a_piece_goes_on_where_it_was_left_and_is_left_out_when_it_is_there(tmp_path, notes):
    file = tmp_path / "piece.json"
    assert run_piece(file, few, (notes,), only="two") is None  # never the whole piece
    assert not file.exists()
    assert set(json.loads(Path(tmp_path, "piece.part.json").read_text())["rows"]) == {"two"}
    assert run_piece(file, few, (notes,), seconds=-1) is None  # no time for another row
    assert notes.read_text().split() == ["two"]
    assert set(run_piece(file, few, (notes,))["rows"]) == {"one", "two", "three"}
    assert notes.read_text().split() == ["two", "one", "three"]
    run_piece(file, few, (notes,))
    assert notes.read_text().split() == ["two", "one", "three"]
