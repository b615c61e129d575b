"""Several processes find each other, split work without gaps, and pass failures on."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vec2face.runtime.files import InputError
from vec2face.runtime.processes import Group, cores, processes, starter, threads

ROOT = Path(__file__).parents[2]
TORCHRUN = f"{sys.executable} -m torch.distributed.run"
PROGRAM = """
import os, sys, time
from pathlib import Path
import torch
from vec2face.runtime.processes import launch, processes

def main(folder, fails="no"):
    w = processes()
    total = w.sum(torch.tensor([w.rank + 1.0])).item()
    names = w.gather(f"rank {w.rank}")
    Path(folder, f"{w.rank}-of-{w.size}").write_text(f"{total} {names}")
    if "LOCAL_RANK" in os.environ:
        Path(folder, f"local-{w.rank}").write_text(os.environ["LOCAL_RANK"])
    if fails == "yes" and not w.main:
        sys.exit("error: this rank fails")
    if fails == "never":
        Path(folder, f"pid-{w.rank}").write_text(str(os.getpid()))
        time.sleep(600)
    w.wait()

if __name__ == "__main__":
    launch(main, *sys.argv[1:])
"""
ELSEWHERE = """
import ctypes, os, sys
import program
from vec2face.runtime.processes import launch

class Library(ctypes.CDLL):
    def __init__(self, name, *options, **others):
        super().__init__(name or "no library of the program itself", *options, **others)

del os.sched_getaffinity
sys.platform, ctypes.CDLL = "elsewhere", Library

if __name__ == "__main__":
    launch(program.main, *sys.argv[1:])
"""
SRUN = """#!/bin/sh
# Starts its arguments on two nodes and fails if one of them does.
"$@" & one=$!
"$@" & other=$!
wait $one; code=$?
wait $other || code=$?
exit $code
"""


@pytest.fixture
def start(tmp_path):
    """Start the program; what still runs at the test's end is killed."""
    (tmp_path / "program.py").write_text(PROGRAM)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "VEC2FACE_"))}
    clean["PYTHONPATH"] = f"{ROOT}{os.pathsep}{tmp_path}"
    started = []

    def begin(*arguments, program="program", **environment):
        command = [sys.executable, "-m", program, str(tmp_path), *arguments]
        process = subprocess.Popen(
            command, env=clean | environment, text=True, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=60)


def finish(process, seconds=300):
    """Return the exit code and what was said on stderr."""
    said = process.communicate(timeout=seconds)[1]
    return process.returncode, said


def written(tmp_path):
    return {p.name: p.read_text() for p in tmp_path.glob("*-of-*")}


@pytest.mark.parametrize(
    "environment",
    [
        {"VEC2FACE_PROCESSES": "2"},
        {"VEC2FACE_LAUNCH": f"{TORCHRUN} --standalone --no-python --nproc-per-node=2"},
    ],
)
def test_one_command_starts_the_others(start, tmp_path, environment):
    code, said = finish(start(**environment))
    assert code == 0, said
    expected = "3.0 ['rank 0', 'rank 1']"
    assert written(tmp_path) == {"0-of-2": expected, "1-of-2": expected}


def test_a_failing_process_ends_the_stage_with_its_word(start):
    code, said = finish(start("yes", VEC2FACE_PROCESSES="2"))
    assert code != 0
    assert "error: this rank fails" in said


def wait_until(true, seconds=300):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def runs(pid):
    try:
        return "(zombie)" not in Path("/proc", pid, "status").read_text()
    except OSError:  # it is gone, perhaps while this was read
        return False


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_command_that_was_killed(start, tmp_path, end):
    process = start("never", VEC2FACE_PROCESSES="2")
    files = [tmp_path / "pid-0", tmp_path / "pid-1"]
    wait_until(lambda: all(f.exists() and f.read_text() for f in files))
    process.send_signal(end)
    finish(process)
    wait_until(lambda: not any(runs(f.read_text()) for f in files))


def test_srun_starts_torchrun_on_each_node(start, tmp_path):
    """Two nodes of two processes each: the second node's first process is rank 2."""
    code, said = finish(start(**srun(tmp_path, "--nproc-per-node=2")))
    assert code == 0, said
    expected = "10.0 ['rank 0', 'rank 1', 'rank 2', 'rank 3']"
    assert written(tmp_path) == {f"{rank}-of-4": expected for rank in range(4)}
    assert sorted(p.read_text() for p in tmp_path.glob("local-*")) == ["0", "0", "1", "1"]


def test_a_failure_on_one_node_ends_both(start, tmp_path):
    code, said = finish(start("yes", **srun(tmp_path, "--nproc-per-node=1")))
    assert code != 0
    assert "error: this rank fails" in said


def srun(tmp_path, processes):
    """Return what starts the stage with a program like SLURM's, on two nodes that are this one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "srun").write_text(SRUN)
    (folder / "srun").chmod(0o755)
    meet = f"--rdzv-backend=c10d --rdzv-id=1 --rdzv-endpoint=localhost:{free_port()}"
    return {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "VEC2FACE_LAUNCH": f"srun {TORCHRUN} --nnodes=2 {processes} {meet} --no-python",
    }


def free_port():
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return one.getsockname()[1]


def test_copies_that_srun_started_without_torchrun_are_refused(start, tmp_path):
    code, said = finish(start(SLURM_STEP_NUM_TASKS="2", SLURM_PROCID="0"))
    assert code != 0
    assert "let it start torchrun" in said
    assert not written(tmp_path)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program -n 2", "no-such-program: cannot be started"),
        ("srun 'x", "VEC2FACE_LAUNCH"),
    ],
)
def test_a_launch_command_that_cannot_be_run_is_named(start, command, message):
    code, said = finish(start(VEC2FACE_LAUNCH=command))
    assert code != 0
    assert f"InputError: {message}" in said


def test_two_processes_meet_where_the_system_is_not_linux(start, tmp_path):
    (tmp_path / "elsewhere.py").write_text(ELSEWHERE)
    code, said = finish(start(program="elsewhere", VEC2FACE_PROCESSES="2"))
    assert code == 0, said
    assert written(tmp_path).keys() == {"0-of-2", "1-of-2"}


def test_cores_and_threads_are_known_where_the_system_is_not_linux(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.delenv("VEC2FACE_THREADS", raising=False)
    assert cores() == threads() == 6
    monkeypatch.setenv("VEC2FACE_THREADS", "3")
    assert threads() == 3


@pytest.mark.parametrize("asked", ["0", "-1", "two", "1.5"])
def test_a_bad_number_of_processes_or_threads_is_named(monkeypatch, asked):
    monkeypatch.setenv("VEC2FACE_PROCESSES", asked)
    with pytest.raises(InputError, match="VEC2FACE_PROCESSES"):
        starter()
    monkeypatch.setenv("VEC2FACE_THREADS", asked)
    with pytest.raises(InputError, match="VEC2FACE_THREADS"):
        threads()


@pytest.mark.parametrize(("gpus", "units", "used"), [(0, 5, 1), (8, None, 8), (8, 6, 6), (2, 1, 1)])
def test_gpus_that_would_have_nothing_to_do_get_no_process(monkeypatch, gpus, units, used):
    for name in ("VEC2FACE_PROCESSES", "VEC2FACE_LAUNCH", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    command = starter(units)
    assert command[-1:] == ([f"--nproc-per-node={used}"] if used > 1 else [])


@given(st.integers(0, 1000), st.integers(1, 40))
def test_shares_cover_the_work_evenly(count, size):
    shares = [Group(rank, size, torch.device("cpu")).share(count) for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_is_the_default():
    assert (processes().rank, processes().size, processes().main) == (0, 1, True)
