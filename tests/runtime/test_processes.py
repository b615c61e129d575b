"""Several processes find each other, split work without gaps, and pass failures on."""

import contextlib
import os
import random
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
from vec2face.runtime.processes import Group, _launcher, _place, first_host, processes

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
    if fails == "yes" and not w.main:
        sys.exit("error: this rank fails")
    if fails == "never":
        Path(folder, f"pid-{w.rank}").write_text(str(os.getpid()))
        time.sleep(600)
    w.wait()

if __name__ == "__main__":
    launch(main, *sys.argv[1:])
"""


@pytest.fixture
def start(tmp_path):
    """Start the program; what still runs at the test's end is killed."""
    (tmp_path / "program.py").write_text(PROGRAM)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "VEC2FACE_"))}
    clean["PYTHONPATH"] = f"{ROOT}{os.pathsep}{tmp_path}"
    started = []

    def begin(*arguments, **environment):
        command = [sys.executable, "-m", "program", str(tmp_path), *arguments]
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


def free_job():
    """Return a job's number whose port is free."""
    while True:
        job = random.randrange(12_000)  # below the ports that connections get
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("", 20_000 + job))
            return str(job)


def test_processes_of_srun_meet(start, tmp_path):
    step = {
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_JOB_ID": free_job(),
    }
    both = [finish(p) for p in [start(**step, SLURM_PROCID=r, SLURM_LOCALID=r) for r in "01"]]
    assert [code for code, _ in both] == [0, 0], both
    assert written(tmp_path)["1-of-2"] == "3.0 ['rank 0', 'rank 1']"


def test_a_batch_script_of_slurm_is_not_one_of_its_tasks():
    assert _place({"SLURM_PROCID": "0", "SLURM_NTASKS": "64", "SLURM_JOB_NODELIST": "n1"}) is None


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("gpu[03-05,9],cpu1", "gpu03"),
        ("a,b", "a"),
        ("rack[1-2]node[07-9]", "rack1node07"),
    ],
)
def test_the_first_host_of_a_list(nodes, first):
    assert first_host(nodes) == first


@pytest.mark.parametrize("asked", ["0", "-1", "two", "1.5"])
def test_a_bad_number_of_processes_is_named(asked):
    with pytest.raises(InputError, match="VEC2FACE_PROCESSES"):
        _launcher({"VEC2FACE_PROCESSES": asked})


@pytest.mark.parametrize(("gpus", "units", "used"), [(0, 5, 1), (8, None, 8), (8, 6, 6), (2, 1, 1)])
def test_gpus_that_would_have_nothing_to_do_get_no_process(monkeypatch, gpus, units, used):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    command = _launcher({}, units)
    assert command[-1:] == ([f"--nproc-per-node={used}"] if used > 1 else [])


@given(st.integers(0, 1000), st.integers(1, 40))
def test_shares_cover_the_work_evenly(count, size):
    shares = [Group(rank, size, torch.device("cpu")).share(count) for rank in range(size)]
    assert [i for share in shares for i in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_is_the_default():
    assert (processes().rank, processes().size, processes().main) == (0, 1, True)
