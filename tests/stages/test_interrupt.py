"""Ctrl-C in a stage and in a command."""

import os
import signal
from pathlib import Path

import pytest

import stages
from vec2face.cli import convert, main
from vec2face.runtime.files import whole_file


@pytest.fixture(autouse=True)
def _heard():
    """A shell's background job ignores Ctrl-C, and so do its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(*_):
    """Half a file, and then Ctrl-C."""
    with whole_file("result.npy") as temporary:
        temporary.write_text("half")
        os.kill(os.getpid(), signal.SIGINT)


def test_a_stage_says_that_it_can_go_on(set_params, capsys):
    set_params()
    with pytest.raises(SystemExit) as ended:
        stages.run(interrupted)
    assert ended.value.code == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert "run it again" in line
    assert [path.name for path in Path().iterdir()] == ["params.yaml"]


def test_a_command_ends_alike(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(convert, "run", interrupted)
    assert main(["convert", "a", "b"]) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
