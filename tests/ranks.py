"""Processes for tests: started in milliseconds, from a server that has imported what they need."""

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore

from vec2face.runtime.processes import join

STAGES = (
    "subset", "features", "pca", "identities", "dataset", "measure", "labels", "leaks", "evaluate",
)  # fmt: skip
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "VEC2FACE_THREADS": "1"}
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    ["tests.ranks", "vec2face.generator.training", *(f"stages.{stage}" for stage in STAGES)]
)
_meeting_points: list[TCPStore] = []  # open as long as they are here


def start(target: Callable[..., Any], *arguments: Any, size: int = 1) -> list[BaseProcess]:
    """Start ``target(*arguments)`` in ``size`` processes that find each other with ``processes()``.

    They meet at a port that this process holds, so that no other program can take it meanwhile.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (_ONE_THREAD | {"PYTHONPATH": str(Path(__file__).parents[1])}).items():
            patch.setenv(name, value)
        forkserver.ensure_running()
    place = {"WORLD_SIZE": size, "MASTER_ADDR": "localhost", "TORCHELASTIC_USE_AGENT_STORE": True}
    if size > 1:
        _meeting_points.append(TCPStore("localhost", 0, is_master=True, wait_for_workers=False))
        place["MASTER_PORT"] = _meeting_points[-1].port
    processes: list[BaseProcess] = [
        _server.Process(
            target=_run,
            args=(place | {"RANK": rank, "LOCAL_RANK": rank}, target, arguments),
            daemon=True,
        )
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def _run(place: dict[str, Any], target: Callable[..., Any], arguments: Any) -> None:
    os.environ["VEC2FACE_PROCESSES"] = "1"
    if place["WORLD_SIZE"] > 1:
        os.environ.update({name: str(value) for name, value in place.items()})
    with join():
        target(*arguments)


def finish(processes: list[BaseProcess], seconds: float = 300) -> list[int]:
    """Wait for all; return their exit codes (negative: the signal that ended them).

    Raises:
        AssertionError: some still run after so many seconds; they are killed.
    """
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0, end - time.monotonic()))
    late = [process.name for process in processes if process.is_alive()]
    kill(processes)
    assert not late, f"{late} of {len(processes)} did not end"
    return [process.exitcode or 0 for process in processes]


def kill(processes: list[BaseProcess]) -> None:
    """Kill those that still run, and wait until they are gone."""
    for process in processes:
        process.kill()
    for process in processes:
        process.join()
