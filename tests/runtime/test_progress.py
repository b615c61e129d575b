"""Long work says how far it is, on a terminal and without one."""

import io
import logging
import time
from pathlib import Path

import pytest

from tests import ranks
from vec2face.runtime import progress
from vec2face.runtime.processes import processes
from vec2face.runtime.progress import Progress


@pytest.fixture
def clock(monkeypatch, caplog):
    """A clock that moves when it is told to, and the lines written so far."""
    caplog.set_level(logging.INFO)

    class Clock:
        now = 1000.0

        @property
        def lines(self):
            return [record.getMessage() for record in caplog.records]

    monkeypatch.setattr(time, "monotonic", lambda: Clock.now)
    return Clock()


def work(clock, seconds, items, **arguments):
    for item in Progress(items, **arguments):
        clock.__class__.now += seconds
        yield item


def test_short_work_says_nothing(clock):
    assert list(work(clock, 1, range(29), what="pca")) == list(range(29))
    assert clock.lines == []


def test_long_work_writes_a_line_now_and_then_and_one_at_its_end(clock):
    assert list(work(clock, 10, "abcdefgh", what="pca", unit="block")) == list("abcdefgh")
    assert clock.lines == [
        "pca: 3/8, 0.1 block/s, 00:50 left",
        "pca: 6/8, 0.1 block/s, 00:20 left",
        "pca: 8/8, 0.1 block/s, 01:20 in all",
    ]


def test_work_that_ends_with_a_line_writes_no_second_one(clock):
    list(work(clock, 30, range(2), what="pca"))
    assert clock.lines == [
        "pca: 1/2, 0.0333 it/s, 00:30 left",
        "pca: 2/2, 0.0333 it/s, 01:00 in all",
    ]


def test_a_continued_training_counts_what_it_did_itself(clock):
    with Progress(what="generator", total=300, initial=100, unit="step") as bar:
        clock.__class__.now += 40
        bar.set_postfix(mse=0.25)
        bar.update(100)
    assert clock.lines == ["generator: 200/300, 2.5 step/s, 00:40 left, mse=0.25"]


def test_work_of_unknown_length_tells_no_time_left(clock):
    list(work(clock, 31, iter("a"), what="align", unit="picture"))
    assert clock.lines == ["align: 1/?, 0.0323 picture/s"]


def write_lines(folder):
    name = f"{processes().rank}-of-{processes().size}"
    handler = logging.FileHandler(Path(folder) / name)
    progress.log.addHandler(handler)
    progress.log.setLevel(logging.INFO)
    progress.SECONDS = 0
    for _ in Progress(range(2), "features"):
        processes().wait()


def test_only_the_first_of_several_processes_writes(tmp_path):
    assert ranks.finish(ranks.start(write_lines, tmp_path, size=2)) == [0, 0]
    assert (tmp_path / "1-of-2").read_text() == ""
    first, last = (tmp_path / "0-of-2").read_text().splitlines()
    assert first.startswith("features: 1/2, ")
    assert last.startswith("features: 2/2, ")


def test_a_terminal_shows_a_bar(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "SECONDS", 0)
    assert list(Progress(range(3), "pca")) == [0, 1, 2]
    assert "pca: 100%" in terminal.getvalue()
    assert not caplog.records
