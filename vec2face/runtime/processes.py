"""Processes that share the work of one stage: one command on a laptop, on GPUs, on a cluster.

    python -m stages.generator                        # one process for each GPU of this machine
    VEC2FACE_PROCESSES=2 python -m stages.generator   # as many as said, on GPUs or the CPU
    VEC2FACE_LAUNCH="srun --ntasks=64" dvc repro      # every stage that can, by SLURM
    torchrun --nnodes=2 ... -m stages.generator       # or started by hand on every node

A process that finds itself alone and ought not to be starts the others (``launch``); those find
each other through the variables of torchrun or of SLURM's ``srun`` (``join``). All of this works in
a single process too, where it costs nothing, so that a trainer has one loop for all cases.
"""

import contextlib
import ctypes
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from threadpoolctl import threadpool_limits
from torch import Tensor

from vec2face.runtime.files import InputError

_ALONE = "VEC2FACE_THREADS_ALONE"  # the threads a single process would have had, for the others

_PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that the parent's death sends


@dataclass(frozen=True)
class Group:
    """This process among those that share the work.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        device: what it computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this is the process that writes results."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return this process's part of ``range(count)``: contiguous; sizes differ by at most 1."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def wait(self) -> None:
        """Return once every process has come here."""
        if self.size > 1:
            dist.barrier()

    def sum(self, tensor: Tensor) -> Tensor:
        """Add up ``tensor`` over all processes, in place; every process gets the sum."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in the order of their ranks, to every process.

        Values are plain objects of this program's own processes (they are pickled on the way).
        """
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values


def processes() -> Group:
    """Return this process's place; alone unless ``join`` says otherwise."""
    joined = dist.is_initialized()
    if not torch.cuda.is_available():
        device = torch.device("cpu")
    else:
        device = torch.device("cuda", torch.cuda.current_device())
    return Group(dist.get_rank() if joined else 0, dist.get_world_size() if joined else 1, device)


@contextlib.contextmanager
def join() -> Iterator[Group]:
    """Meet the other processes, if torchrun or srun started any; part from them at the end."""
    place = _place(os.environ)
    if place is None:
        yield processes()
        return
    os.environ.update({name: str(value) for name, value in place.items()})
    if sys.platform == "linux":  # else a rerun would meet processes whose starter was killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(place["LOCAL_RANK"]) % torch.cuda.device_count())
    # A process may wait for hours until another has read a store or finished its blocks; that one
    # has died is noticed by what started them.
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(days=1)
    )
    yield processes()
    # Not after a failure: NCCL would wait here for processes that wait elsewhere, and what started
    # this one would never learn of it.
    dist.destroy_process_group()


def launch(main: Callable[..., None], *arguments: str, units: int | None = None) -> None:
    """Run ``main(*arguments)`` in as many processes as the environment asks for.

    ``VEC2FACE_LAUNCH`` is a command that starts its arguments as several processes;
    ``VEC2FACE_PROCESSES`` a number of processes on this machine. What starts them takes this
    process's place, so that in that case this does not return.

    Args:
        main: the work.
        arguments: of ``main``.
        units: parts that the work comes in, each process taking equally many. By default there is
            a process for each GPU, or for as many of them as divide the units.

    Raises:
        InputError: a bad number.
    """
    prefix = [] if _place(os.environ) else _launcher(os.environ, units)
    if not prefix:
        with join():
            main(*arguments)
        return
    module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    environment = {k: v for k, v in os.environ.items() if k != "VEC2FACE_LAUNCH"}
    command = [*prefix, sys.executable, "-m", module, *arguments]
    environment["VEC2FACE_PROCESSES"] = "1"
    threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # a number for each level
    environment[_ALONE] = threads or str(len(os.sched_getaffinity(0)))
    # In this process's place, so that what ends it ends them, too.
    os.execvpe(command[0], command, environment)  # noqa: S606


@contextlib.contextmanager
def as_if_alone() -> Iterator[None]:
    """Give BLAS the threads it has where a stage is one process, for work that only one does.

    torchrun leaves each of several processes one thread, and sums of matrix products are rounded by
    the number of threads: without this a fit would differ in its last bits.
    """
    limit = int(os.environ[_ALONE]) if processes().size > 1 and _ALONE in os.environ else None
    with threadpool_limits(limit, user_api="blas"):
        yield


def _launcher(environment: Any, units: int | None = None) -> list[str]:
    """Return the command that starts several processes, or nothing where one is enough."""
    if command := environment.get("VEC2FACE_LAUNCH"):
        return shlex.split(command)
    able = range(1, max(1, torch.cuda.device_count()) + 1)
    usual = max(n for n in able if units is None or units % n == 0)
    asked = environment.get("VEC2FACE_PROCESSES", str(usual))
    if not asked.isdecimal() or asked == "0":
        raise InputError(f"VEC2FACE_PROCESSES: a number of processes from 1, not {asked!r}")
    if asked == "1":
        return []
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python"]
    return [*torchrun, f"--nproc-per-node={asked}"]


def _place(environment: Any) -> dict[str, Any] | None:
    """Return torchrun's variables of this process, also when srun started it; None if alone."""
    if "RANK" in environment and "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        return {name: environment[name] for name in names}
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) < 2:  # srun's alone, not the batch script's
        return None
    nodes = environment.get("SLURM_STEP_NODELIST", environment["SLURM_JOB_NODELIST"])
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "MASTER_ADDR": first_host(nodes),
        "MASTER_PORT": 20000 + int(environment["SLURM_JOB_ID"]) % 20000,
    }


def first_host(nodes: str) -> str:
    """Return the first host of SLURM's compressed list: ``gpu[03-05,9],cpu1`` -> ``gpu03``."""
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", re.match(r"(?:[^,[]|\[[^]]*\])+", nodes)[0])  # type: ignore[index]
