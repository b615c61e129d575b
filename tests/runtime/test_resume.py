"""Work folders: found again by the same work, by no other, and by one run at a time."""

import fcntl
import multiprocessing
import os
import signal

import numpy as np
import pytest

from tests import ranks
from vec2face.faces.images import encode
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.runtime import resume as module
from vec2face.runtime.resume import resume, state


def folder_of(root, *arguments, stage="pca"):
    """Return the name that some work gets, and leave the folder as a killed run does."""
    with pytest.raises(KeyboardInterrupt), resume(stage, *arguments, root=root) as work:
        raise KeyboardInterrupt
    assert work.is_dir()
    return work


def test_work_is_named_by_settings_inputs_and_code(tmp_path, monkeypatch):
    (tmp_path / "input").write_text("1")
    inputs = [tmp_path / "input"]
    first = folder_of(tmp_path, {"lr": 0.1}, inputs)
    assert folder_of(tmp_path, {"lr": 0.1}, inputs) == first
    assert folder_of(tmp_path, {"lr": 0.2}, inputs) != first
    assert folder_of(tmp_path, {"lr": 0.1}, inputs, stage="measure") != first
    (tmp_path / "input").write_text("2")
    assert folder_of(tmp_path, {"lr": 0.1}, inputs) != first
    (tmp_path / "input").write_text("1")
    assert folder_of(tmp_path, {"lr": 0.1}, inputs) == first
    monkeypatch.setattr(module, "code_of", lambda stage: f"{0:064}  stages/{stage}.py\n")
    assert folder_of(tmp_path, {"lr": 0.1}, inputs) != first


def test_what_differs_is_said(tmp_path, caplog):
    folder_of(tmp_path, {"lr": 0.1, "losses": {"mse": 1.0}})
    folder_of(tmp_path, {"lr": 0.1, "losses": {"mse": 2.0}})
    assert "settings.losses.mse (1.0 -> 2.0)" in caplog.text


def test_finished_work_is_removed_and_unfinished_is_kept(tmp_path):
    with resume("pca", 1, root=tmp_path) as work:
        (work / "part").touch()
    assert not list(tmp_path.iterdir())
    left = folder_of(tmp_path, 1)
    (left / "part").touch()
    with resume("pca", 1, root=tmp_path) as work:
        assert (work / "part").exists()


def test_a_store_a_folder_and_a_file_have_states(tmp_path, monkeypatch):
    for seed in (0, 1):
        with FaceStoreWriter(tmp_path / f"{seed}", image_size=8, seed=0, made_by="test") as store:
            store.append(encode(np.full((8, 8, 3), 100 * seed, np.uint8)), 0)
    assert state(tmp_path / "0") != state(tmp_path / "1")
    (tmp_path / "folder/inner").mkdir(parents=True)
    (tmp_path / "folder/inner/a.jpg").write_bytes(b"12")
    before = state(tmp_path / "folder")
    assert state(tmp_path / "folder") == before
    os.utime(tmp_path / "folder/inner/a.jpg", (0, 0))  # as a copy in another workspace has it
    assert state(tmp_path / "folder") == before
    monkeypatch.setattr(module, "LARGE", 1)
    assert state(tmp_path / "folder") != before
    before = state(tmp_path / "folder")
    (tmp_path / "folder/inner/b.jpg").write_bytes(b"12")
    assert state(tmp_path / "folder") != before
    assert state(tmp_path / "nothing") is None


def hold(root, say):
    with resume("pca", 1, root=root) as work:
        say.send(str(work))
        (work / "part").touch()
        say.recv()


@pytest.fixture
def holder(tmp_path):
    """Another run of the same work, which ends when it is told to."""
    here, there = multiprocessing.Pipe()
    (process,) = ranks.start(hold, tmp_path, there)
    here.recv()
    yield process, here
    ranks.kill([process])


def wait_for(root, say):
    lock = fcntl.flock

    def told(file, operation):
        if operation == fcntl.LOCK_EX:
            say.send("waiting")
        lock(file, operation)

    fcntl.flock = told
    with resume("pca", 1, root=root) as work:
        say.send([path.name for path in work.iterdir()])


@pytest.mark.parametrize("runs", [1, 2])
def test_who_waits_finds_finished_work_and_the_last_removes_it(tmp_path, holder, runs):
    process, holding = holder
    here, there = multiprocessing.Pipe()
    waiting = [ranks.start(wait_for, tmp_path, there)[0] for _ in range(runs)]
    assert [here.recv() for _ in waiting] == ["waiting"] * runs
    holding.send("end")
    assert all("part" in here.recv() for _ in waiting)
    assert ranks.finish([process, *waiting]) == [0] * (1 + runs)
    assert not list(tmp_path.iterdir())


def begin(root):
    for _ in range(5):
        with resume("pca", 1, root=root) as work:
            assert not (work / "mine").exists()
            (work / "mine").touch()
            (work / "mine").unlink()


def test_runs_that_come_and_go_never_share_a_folder(tmp_path):
    assert ranks.finish([ranks.start(begin, tmp_path)[0] for _ in range(3)]) == [0] * 3
    assert not list(tmp_path.iterdir())


def test_the_second_goes_on_where_a_dead_one_stopped(tmp_path, holder):
    process, _ = holder
    here, there = multiprocessing.Pipe()
    (second,) = ranks.start(wait_for, tmp_path, there)
    assert here.recv() == "waiting"
    os.kill(process.pid, signal.SIGKILL)
    assert "part" in here.recv()
    assert ranks.finish([second]) == [0]
