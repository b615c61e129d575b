"""Stages side by side: no two of them have a core or a GPU in common."""

import multiprocessing
import multiprocessing.connection
import os
import signal
from pathlib import Path

import pytest
import torch

from tests import ranks
from vec2face.runtime.files import InputError
from vec2face.runtime.places import place
from vec2face.runtime.processes import cores

CORES = cores()


def work(folder, say, gpus, workers):
    os.environ |= {"VEC2FACE_WORKERS": str(workers), "CUDA_VISIBLE_DEVICES": ",".join(gpus)}
    torch.cuda.device_count = lambda: len(gpus)
    with place(folder):
        gpus = os.environ["CUDA_VISIBLE_DEVICES"]
        say.send((os.sched_getaffinity(0), set(filter(None, gpus.split(",")))))  # noqa: TID251
        say.recv()


@pytest.fixture
def begin(tmp_path):
    """A function that starts a worker and returns it with the pipe to it."""
    started = []

    def start(gpus=(), workers=2):
        here, there = multiprocessing.Pipe()
        started.extend(ranks.start(work, tmp_path / "places", there, gpus, workers))
        return started[-1], here

    yield start
    ranks.kill(started)


@pytest.mark.parametrize("gpus", [(), ("3", "5", "6", "7")])
def test_two_workers_share_the_machine_and_a_third_waits_for_a_place(begin, gpus):
    (first, to_first), (_, to_second) = begin(gpus), begin(gpus)
    one, other = to_first.recv(), to_second.recv()
    for mine, theirs, all_ in zip(one, other, (set(range(CORES)), set(gpus)), strict=True):
        assert len(mine) == len(theirs) == len(all_) // 2
        assert not mine & theirs
    _, to_third = begin(gpus)
    assert not to_third.poll(1.5)
    os.kill(first.pid, signal.SIGKILL)
    assert to_third.recv() == one


def test_one_gpu_goes_to_one_worker(begin):
    (_, to_first), (_, to_second) = begin(("1",)), begin(("1",))
    found = multiprocessing.connection.wait([to_first, to_second])
    assert len(found) == 1
    assert found[0].recv()[1] == {"1"}
    assert len(multiprocessing.connection.wait([to_first, to_second], 1.5)) == 0
    found[0].send("end")
    (left,) = {to_first, to_second} - {found[0]}
    assert left.recv()[1] == {"1"}


def test_a_bad_number_of_workers_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("VEC2FACE_WORKERS", "two")
    with pytest.raises(InputError, match="VEC2FACE_WORKERS"), place(Path(tmp_path)):
        pass


def test_one_worker_has_the_whole_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("VEC2FACE_WORKERS", "1")
    with place(tmp_path / "places"):
        assert cores() == CORES
    assert not (tmp_path / "places").exists()
