"""Processes that share the work of one stage, on a laptop, on GPUs or on a cluster.

    python -m stages.generator                        # one process for each GPU of this machine
    VEC2FACE_PROCESSES=2 python -m stages.generator   # two processes, on GPUs or on the CPU
    torchrun --nnodes=2 ... -m stages.generator       # one stage, started by hand on both nodes
    VEC2FACE_LAUNCH="srun torchrun --nnodes=2 ... --no-python" dvc repro   # every stage, by SLURM

If a stage should run in several processes, the first one hands over to torchrun, which starts them
all (``launch``). They find each other through the variables that torchrun sets (``join``). A single
process needs no torchrun and pays nothing for any of this, so a trainer has one loop for all cases.
"""

import contextlib
import ctypes
import os
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

_ALONE = "VEC2FACE_THREADS_ALONE"  # how many threads a single process would have

_PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent dies


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
        """Wait until every process has called this."""
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
    """Return this process among the others; it is alone unless ``join`` found others."""
    joined = dist.is_initialized()
    if not torch.cuda.is_available():
        device = torch.device("cpu")
    else:
        device = torch.device("cuda", torch.cuda.current_device())
    return Group(dist.get_rank() if joined else 0, dist.get_world_size() if joined else 1, device)


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))  # noqa: TID251
    return os.cpu_count() or 1


def threads() -> int:
    """Return the threads of an onnxruntime session: ``VEC2FACE_THREADS``, by default all cores.

    Raises:
        InputError: a bad number.
    """
    return number("VEC2FACE_THREADS", cores())


def number(variable: str, default: int) -> int:
    """Return the number from 1 that an environment variable has.

    Raises:
        InputError: it has something else.
    """
    value = os.environ.get(variable) or str(default)
    if not value.isdecimal() or int(value) == 0:
        raise InputError(f"{variable}: a number from 1, not {value!r}")
    return int(value)


@contextlib.contextmanager
def join() -> Iterator[Group]:
    """Meet the other processes, if torchrun started any, and leave them at the end."""
    if not started_by_torchrun():
        yield processes()
        return
    if sys.platform == "linux":
        # Otherwise this process would outlive a killed torchrun, and a rerun would collide with it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    # A process may wait for hours while another one reads a store or finishes its blocks. The
    # timeout need not notice a dead process, because torchrun does.
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(days=1)
    )
    yield processes()
    # This is skipped after a failure: NCCL would wait here for processes that wait elsewhere, and
    # torchrun would never learn of the failure.
    dist.destroy_process_group()


def launch(main: Callable[..., None], *arguments: str, units: int | None = None) -> None:
    """Run ``main(*arguments)`` in as many processes as the environment asks for.

    If that is more than one, this process is replaced by the program that starts them, and this
    function does not return.

    Args:
        main: the work.
        arguments: of ``main``.
        units: see ``starter``.

    Raises:
        InputError: a bad variable, or SLURM has started several processes without torchrun.
    """
    command = [] if started_by_torchrun() else starter(units)
    if not command:
        with join():
            main(*arguments)
        return
    module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    command += [sys.executable, "-m", module, *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "VEC2FACE_LAUNCH"}
    environment["VEC2FACE_PROCESSES"] = "1"
    blas_threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # one number for each level
    environment[_ALONE] = blas_threads or str(cores())
    try:
        # The starter replaces this process, so a signal to the stage reaches it.
        os.execvpe(command[0], command, environment)  # noqa: S606
    except OSError as error:
        raise InputError(f"{command[0]}: cannot be started: {error.strerror}") from error


def starter(units: int | None = None) -> list[str]:
    """Return the command that starts its arguments as several processes; empty if one is enough.

    It is ``VEC2FACE_LAUNCH`` if that is set, otherwise torchrun with ``VEC2FACE_PROCESSES``
    processes on this machine.

    Args:
        units: equal parts that the work consists of. By default there is one process for each GPU,
            or for as many GPUs as divide the units.

    Raises:
        InputError: a bad variable, or SLURM has started several processes without torchrun.
    """
    if os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        raise InputError(
            "srun has started several processes that do not know each other: let it start torchrun "
            "once on each node (docs/scale.md)"
        )
    if command := os.environ.get("VEC2FACE_LAUNCH"):
        try:
            return shlex.split(command)
        except ValueError as error:
            raise InputError(f"VEC2FACE_LAUNCH: {error}") from error
    gpus = range(1, max(1, torch.cuda.device_count()) + 1)
    usual = max(n for n in gpus if units is None or units % n == 0)
    count = number("VEC2FACE_PROCESSES", usual)
    if count == 1:
        return []
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--no-python"]
    return [*torchrun, f"--nproc-per-node={count}"]


def started_by_torchrun() -> bool:
    """Tell whether this is one of several processes that torchrun has started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextlib.contextmanager
def as_if_alone() -> Iterator[None]:
    """Give BLAS as many threads as in a stage of one process, for work that only one process does.

    torchrun gives each of several processes one thread. The number of threads changes how a matrix
    product is rounded, so without this the last bits of a fit would depend on the processes.
    """
    limit = int(os.environ[_ALONE]) if processes().size > 1 and _ALONE in os.environ else None
    with threadpool_limits(limit, user_api="blas"):
        yield
