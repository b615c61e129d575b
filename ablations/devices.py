"""Who computes on which GPU: every running stage of the ablations holds one, by a locked file."""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from vec2face.runtime.processes import cores

CPU = "cpu"
WAIT = 1.0  # seconds until the locks are tried again


@cache
def devices() -> tuple[str, ...]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them.

    Without a GPU it is ``CPU`` alone, so that stages run one after the other.
    """
    import torch  # noqa: PLC0415 - seconds, for what needs no result

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else map(str, range(count))
    return tuple(names)[:count] or (CPU,)


@contextlib.contextmanager
def held(folder: Path, names: tuple[str, ...] | None = None) -> Iterator[dict[str, str]]:
    """Wait until a device is free and hold it.

    Args:
        folder: where the locks lie, for all programs that share the devices of this machine.
        names: the devices; by default ``devices()``.

    Yields:
        Variables of the environment for a program that is to use it.
    """
    names = names or devices()
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        host = socket.gethostname()
        locks = {n: stack.enter_context((folder / f"{host}-{n}").open("a")) for n in names}
        name = None
        while (name := _take(locks)) is None:
            time.sleep(WAIT)
        variables = {} if name == CPU else {"CUDA_VISIBLE_DEVICES": name}
        if len(names) > 1:
            variables["OMP_NUM_THREADS"] = str(max(1, cores() // len(names)))
        yield variables


def _take(locks: dict) -> str | None:
    for name, lock in locks.items():
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return name
    return None
