"""Equal parts of one machine, for stages that run beside one another.

    VEC2FACE_WORKERS=2 dvc queue start --jobs 2

Each stage then takes one of two places, which have half of the cores and half of the GPUs each.
There are never more places than GPUs: with a single one, a stage waits until the other has ended. A
place is a locked file, so that it is free again whatever ends the stage.
"""

import contextlib
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

import torch
from threadpoolctl import threadpool_limits

from vec2face.runtime.processes import number, started_by_torchrun

log = logging.getLogger(__name__)

SECONDS = 1.0  # between two looks for a free place

_T = TypeVar("_T")


@contextlib.contextmanager
def place(folder: Path) -> Iterator[None]:
    """Keep this process and its children to one of ``VEC2FACE_WORKERS`` places, waiting for it.

    To be called before anything computes. Processes that torchrun starts have their parent's place.

    Args:
        folder: of the locked files; the same for all workers.

    Raises:
        InputError: ``VEC2FACE_WORKERS`` is no number.
    """
    workers = number("VEC2FACE_WORKERS", 1)
    if workers == 1 or started_by_torchrun():
        yield
        return
    gpus = _gpus()
    places = min(workers, len(gpus)) or workers
    with contextlib.ExitStack() as stack:
        mine = _free(folder, places, stack)
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_part(gpus, mine, places))
        if hasattr(os, "sched_setaffinity"):  # Linux only
            cores = _part(sorted(os.sched_getaffinity(0)), mine, places)  # noqa: TID251
            os.sched_setaffinity(0, cores)
            if "OMP_NUM_THREADS" not in os.environ:
                torch.set_num_threads(len(cores))
                threadpool_limits(len(cores))
        yield


def _gpus() -> list[str]:
    """Return the names of the GPUs that this process may use."""
    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (given.split(",") if given else [str(gpu) for gpu in range(count)])[:count]


def _part(things: Sequence[_T], mine: int, places: int) -> list[_T]:
    """Return the things of a place: equally many each, one of them where there are too few."""
    if len(things) < places:
        return [things[mine % len(things)]]
    return list(things[len(things) * mine // places : len(things) * (mine + 1) // places])


def _free(folder: Path, places: int, stack: contextlib.ExitStack) -> int:
    """Return the number of a free place, locked until the stack ends."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        stack.enter_context((folder / f"{socket.gethostname()}-{i}").open("a"))
        for i in range(places)
    ]
    waiting = False
    while True:
        for i, file in enumerate(files):
            if _lock(file):
                # torchrun, which replaces this process, is to keep the place.
                os.set_inheritable(file.fileno(), True)
                return i
        if not waiting:
            waiting = True
            log.info("all %d places of %s are taken; waiting for one", places, folder)
        time.sleep(SECONDS)


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
