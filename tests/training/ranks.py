"""Processes for tests: they start in milliseconds, from a server that has imported torch once."""

import contextlib
import multiprocessing
import os
import socket
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from vec2face.distributed import join

server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["tests.training.ranks", "vec2face.training.generator"])


def start(target: Callable[..., Any], *arguments: Any, size: int = 1) -> list[BaseProcess]:
    """Start ``target(*arguments)`` in ``size`` processes that find each other with ``world()``."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        server.Process(target=_join, args=(rank, size, port, target, arguments), daemon=True)
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def finish(processes: list[BaseProcess], seconds: float = 300) -> list[int]:
    """Wait for all; return their exit codes (negative: the signal that ended them)."""
    for process in processes:
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in processes]


def _join(rank: int, size: int, port: int, target: Callable[..., Any], arguments: Any) -> None:
    os.environ["VEC2FACE_PROCESSES"] = "1"
    if size > 1:
        place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_PORT": port}
        os.environ |= {k: str(v) for k, v in place.items()} | {"MASTER_ADDR": "localhost"}
    with join() if size > 1 else contextlib.nullcontext():
        target(*arguments)
