"""Unfinished work: where a stage keeps it, how a rerun finds it, and that only one run has it.

    with resume("features", settings={"size": 56}, inputs=[path]) as work:
        ...  # finished parts lie in ``work``; a rerun takes them as they are

The folder is named by all that the result depends on: the stage's settings, the state of its inputs
and its code. So a changed parameter, input or function never continues from a foreign state. The
folder holds nothing that cannot be made again, and it is removed when the stage has ended well.
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from vec2face.runtime.code import code_of
from vec2face.runtime.files import fingerprint, sha256, write_json
from vec2face.runtime.processes import processes

log = logging.getLogger(__name__)

MADE_OF = "made_of.json"
LARGE = 4 * 2**30
"""Files of more bytes are told apart by size and time instead of content."""


class FinishedElsewhereError(Exception):
    """Another run of the same work finished it while this one waited."""


@contextlib.contextmanager
def resume(
    stage: str, settings: Any, inputs: Sequence[Path | str] = (), root: Path | str = "work"
) -> Iterator[Path]:
    """Yield the folder of a stage's work; remove it at the end, unless an error ends the block.

    Every process of the group enters it and gets the same folder. Where another run has the folder,
    this one waits until that has ended.

    Args:
        stage: its program's name in ``stages/``; the code counts that it reaches.
        settings: the parameters that the result depends on, as plain JSON.
        inputs: files and folders it depends on; see ``state``.
        root: where work folders live.

    Raises:
        FinishedElsewhereError: the run that this one waited for has done all of it.
    """
    group = processes()
    with contextlib.ExitStack() as stack:
        folder = None
        if group.main:
            folder = stack.enter_context(_held(_folder(stage, settings, inputs, Path(root))))
        folder = group.gather(folder)[0]
        if folder is None:
            raise FinishedElsewhereError(f"{stage}: the other run has finished this work")
        yield folder
        group.wait()
        if group.main:
            shutil.rmtree(folder)


def state(path: Path | str) -> Any:
    """Tell two states of an input apart, as plain JSON, without reading very much.

    A FaceStore has the checksum of its manifest, which has those of the store. A file has its own,
    a very large one its size and time of change, like the files of any other folder.
    """
    path = Path(path)
    if (path / "manifest.json").is_file():
        return sha256(path / "manifest.json")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return [[file.relative_to(path).as_posix(), *_size_and_time(file)] for file in files]
    if not path.is_file():
        return None
    if path.stat().st_size > LARGE:
        beside = [file for file in [path.with_suffix(".idx")] if file.is_file()]
        return [_size_and_time(file) for file in [path, *beside]]
    return sha256(path)


def _size_and_time(file: Path) -> list[int]:
    about = file.stat()
    return [about.st_size, about.st_mtime_ns]


def _folder(stage: str, settings: Any, inputs: Sequence[Path | str], root: Path) -> Path:
    """Create the folder; say how it differs from what another run has left."""
    code = (line.split("  ") for line in code_of(stage).splitlines())
    made_of = {
        "settings": settings,
        "inputs": {str(path): state(path) for path in inputs},
        "code": {name: checksum for checksum, name in code},
    }
    made_of = json.loads(json.dumps(made_of))
    folder = root / f"{stage}-{fingerprint(made_of)}"
    if (folder / MADE_OF).is_file():
        return folder
    for other in sorted(root.glob(f"{stage}-*/{MADE_OF}")):
        try:
            changed = _changes(json.loads(other.read_text()), made_of)
        except (OSError, ValueError, RecursionError):
            changed = ["what it says of itself, which is damaged"]
        log.warning(
            "%s was left by another run of this stage, which differs in %s; this one starts "
            "afresh in %s. Delete what you no longer need.",
            *(other.parent, ", ".join(changed[:5]), folder),
        )
    write_json(folder / MADE_OF, made_of)
    return folder


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[Path | None]:
    """Hold a work folder against other runs; yield None if one was waited for that removed it."""
    with (folder / "lock").open("a+", errors="replace") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            log.warning("%s: waiting for another run of this work (%s)", folder, lock.read(200))
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "lock").exists():
                yield None
                return
        _sign(lock)
        yield folder


def _sign(lock: TextIO) -> None:
    lock.truncate(0)
    lock.write(f"process {os.getpid()} on {socket.gethostname()}")
    lock.flush()


def _changes(one: Any, other: Any, place: str = "") -> list[str]:
    """Say where two JSON values differ, and how."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        one, other = dict(enumerate(one)), dict(enumerate(other))
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [*one, *(key for key in other if key not in one)]
        inner = (_changes(one.get(k), other.get(k), f"{place}.{k}".lstrip(".")) for k in keys)
        return [change for changes in inner for change in changes]
    return [] if one == other else [f"{place} ({str(one)[:40]} -> {str(other)[:40]})"]
