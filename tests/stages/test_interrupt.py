"""Ctrl-C in a stage and in a command."""

import os
import signal
from pathlib import Path

import pytest

import stages
from stages.artifacts import artifacts
from tests import ranks
from vec2face.cli import convert, main
from vec2face.runtime.files import whole_file, whole_folder


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


def killed(folder):
    """Half of an output's file and folder, and then SIGKILL."""
    os.chdir(folder)
    with whole_file(artifacts.pca) as file, whole_folder(artifacts.generated) as half:
        file.write_text("half")
        (half / "part").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_stage_left_beside_its_outputs_is_removed_by_the_next(set_params, tmp_path):
    set_params()
    assert ranks.finish(ranks.start(killed, tmp_path)) == [-signal.SIGKILL]
    left = list(tmp_path.rglob("*.partial"))
    assert {path.parent.name for path in left} == {"models", "data"}
    with whole_file("models/another.npz") as used:
        used.write_text("by a run that is alive")
        stages.run(lambda: None)
        assert list(tmp_path.rglob("*.partial")) == [tmp_path / used]


def test_a_command_ends_alike(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(convert, "run", interrupted)
    assert main(["convert", "a", "b"]) == 130
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
