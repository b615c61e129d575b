"""The rows of a piece, in a process of their own, which may fail, hang or die.

A row is a function that returns figures. What it raises becomes its result, and the next row goes
on. A row that ends its process or outlasts its time costs this row only: a new process takes the
rows that are left. Results are written after every row, so that a killed piece goes on.
"""

import gc
import json
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from vec2face.runtime.files import write_json

Figures = dict[str, Any]
Row = Callable[[], Figures]
Rows = Callable[..., dict[str, Row]]

GRACE = 20.0
"""Seconds that a row may go on when the piece's time is over."""
START = 120.0
"""Seconds that a process may take until it begins a row."""


def run_piece(
    file: Path,
    rows: Rows,
    arguments: tuple[Any, ...] = (),
    *,
    about: Figures | None = None,
    seconds: float = 540.0,
    row_seconds: float = 200.0,
    only: str = "",
) -> Figures | None:
    """Run what is left of a piece and return its results; None if something is still left.

    Args:
        file: the results, a JSON file; written when every row is through. Until then they lie in
            ``.part.json`` beside it.
        rows: a module's function; ``rows(*arguments)`` gives the rows by name, in their order.
        arguments: of ``rows``; they are pickled.
        about: is put beside the rows.
        seconds: no row begins later.
        row_seconds: of one row.
        only: rows whose name holds this; then the piece is never through.
    """
    if file.is_file():
        print(f"{file}: there already")
        return json.loads(file.read_text())
    part = file.with_suffix(".part.json")
    found: dict[str, Figures] = json.loads(part.read_text())["rows"] if part.is_file() else {}
    piece = _Piece(file.stem, rows, arguments, time.monotonic() + seconds, row_seconds, only)

    def keep(name: str, figures: Figures) -> None:
        found[name] = figures
        print(line(f"{file.stem}: {name}", figures), flush=True)
        write_json(part, {"about": about or {}, "rows": found})

    while piece.attempt(set(found), keep):
        pass
    if not piece.through or only:
        print(f"{file.stem}: not all rows are there; the same command goes on with the rest")
        return None
    write_json(file, {"about": about or {}, "rows": found})
    part.unlink(missing_ok=True)
    return json.loads(file.read_text())


class _Piece:
    """One piece's processes, one after the other.

    Attributes:
        through: whether the last one came to the end of the rows.
    """

    def __init__(
        self,
        name: str,
        rows: Rows,
        arguments: tuple[Any, ...],
        deadline: float,
        row_seconds: float,
        only: str,
    ) -> None:
        self.name, self.rows, self.arguments = name, rows, arguments
        self.deadline, self.row_seconds, self.only = deadline, row_seconds, only
        self.through = False

    def attempt(self, done: set[str], keep: Callable[[str, Figures], None]) -> bool:
        """Run rows in a new process; return whether it ended early and another has to go on."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_work,
            args=(theirs, self.rows, self.arguments, done, self.deadline, self.only),
        )
        process.start()
        theirs.close()
        current, began = "", time.monotonic()
        try:
            while True:
                allowed = self.row_seconds if current else START
                limit = min(began + allowed, self.deadline + GRACE)
                if not ours.poll(max(0.0, limit - time.monotonic())):
                    fault = f"stopped after {time.monotonic() - began:.0f} s"
                    break
                kind, value = ours.recv()
                if kind == "begins":
                    current, began = value, time.monotonic()
                elif kind == "ends":
                    keep(current, value)
                    current, began = "", time.monotonic()
                else:  # the last word: whether all rows are through
                    self.through = value
                    process.join(10)
                    return False
        except EOFError:
            process.join()
            fault = f"its process ended with exit code {process.exitcode}"
        finally:
            _end(process)
        late = time.monotonic() > self.deadline + GRACE  # the piece, not this row
        if late or not current:  # between rows the next process would fare no better
            print(f"{self.name}: {fault}", flush=True)
            return False
        keep(current, {"passed": False, "error": fault})
        return True


def _end(process: BaseProcess) -> None:
    """End a process and those that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    process.kill()  # should it have ended up in no group of its own
    process.join()


def _work(
    pipe: Connection,
    rows: Rows,
    arguments: tuple[Any, ...],
    done: set[str],
    deadline: float,
    only: str,
) -> None:
    """Run the rows that are not ``done`` and tell of each; at last, whether that was all."""
    warnings.simplefilter("ignore")  # the results are long enough
    logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    os.setpgid(0, 0)  # one group with what rows start, to be ended together
    for name, row in rows(*arguments).items():
        if name in done or only not in name:
            continue
        if time.monotonic() > deadline:
            pipe.send(("through", False))
            return
        pipe.send(("begins", name))
        pipe.send(("ends", _figures(row)))
        if not _sound():
            sys.exit(3)  # a fault of the card stays with the process
    pipe.send(("through", True))


def _figures(row: Row) -> Figures:
    """Return a row's figures, its seconds and its peak memory; or what it raised."""
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    try:
        figures = row()
    except Exception:
        figures = {"passed": False, "error": traceback.format_exc()}
    figures["seconds"] = round(time.perf_counter() - began, 2)
    with suppress(Exception):
        if gpu:
            figures["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 3)
        if "torch._dynamo" in sys.modules:
            torch.compiler.reset()
        gc.collect()
        torch.cuda.empty_cache()
    return figures


def _sound() -> bool:
    """Say whether the card still answers this process."""
    try:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def line(name: str, figures: Figures) -> str:
    """Return one line of text, and what went wrong below it."""
    marks = {True: "passed  ", False: "FAILED  ", None: ""}
    hidden = ("passed", "error", "text", "first_call_seconds", "gflop_per_image", "bytes_of_a_jpeg")
    rest = [
        f"{key} {_short(value)}"
        for key, value in figures.items()
        if key not in hidden and not key.endswith("_limit") and not isinstance(value, dict | list)
    ]
    text = f"{name}: {marks[figures.get('passed')]}{', '.join(rest)}"
    if "error" in figures:
        text += "\n    " + "\n    ".join(figures["error"].strip().splitlines()[-6:])
    return text + "".join(f"\n    {row}" for row in figures.get("text", "").splitlines())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
