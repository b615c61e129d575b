"""Unfinished work: where a stage keeps it, how a rerun finds it, and that one run at a time has it.

    with resume("features", settings={"size": 56}, inputs=[path]) as work:
        ...  # finished parts lie in ``work``; a rerun takes them as they are

The folder is named by all that the result depends on: the stage's settings, the state of its inputs
and its code. So a changed parameter, input or function never continues from a foreign state. The
folder holds nothing that cannot be made again, and it is removed when the stage has ended well.
"""

import contextlib
import errno
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

MADE_OF, LOCK, AWAITED = "made_of.json", "lock", "awaited"
LARGE, MANY = 4 * 2**30, 1000
"""What has more bytes, or more files, is told apart by sizes and times instead of content."""


@contextlib.contextmanager
def resume(
    stage: str, settings: Any, inputs: Sequence[Path | str] = (), root: Path | str = "work"
) -> Iterator[Path]:
    """Yield the folder of a stage's work; remove it at the end, unless an error ends the block.

    Every process of the group enters it and gets the same folder. Where another run has it, this
    one waits until that has ended, and finds what that has finished: the other one may have run in
    another workspace, whose outputs are not here.

    Args:
        stage: its program's name in ``stages/``; the code counts that it reaches.
        settings: the parameters that the result depends on, as plain JSON.
        inputs: files and folders it depends on; see ``state``.
        root: where work folders live.
    """
    group = processes()
    with contextlib.ExitStack() as stack:
        folder = None
        while group.main and folder is None:
            found = _folder(stage, settings, inputs, Path(root))
            if _hold(found, stack):
                folder = found
        folder = group.gather(folder)[0]
        yield folder
        group.wait()
        if group.main and not _awaited(folder):
            shutil.rmtree(folder.rename(_aside(folder)))  # nobody is to find a part of it


def state(path: Path | str) -> Any:
    """Tell two states of an input apart, as plain JSON, without reading very much.

    A FaceStore has the checksum of its manifest, which has those of the store. A file has its own,
    like the files of any other folder; what is large has sizes and times of change.
    """
    path = Path(path)
    if (path / "manifest.json").is_file():
        return sha256(path / "manifest.json")
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        large = len(files) > MANY or sum(file.stat().st_size for file in files) > LARGE
        of = _size_and_time if large else sha256
        return [[file.relative_to(path).as_posix(), of(file)] for file in files]
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
    if folder.is_dir():
        return folder
    for other in sorted(root.glob(f"{stage}-*/{MADE_OF}")):
        try:
            changed = _changes(json.loads(other.read_text()), made_of)
        except (OSError, ValueError, RecursionError):
            changed = ["what it says of itself, which is damaged"]
        log.warning(
            "%s is of another run of this stage, which differs in %s; this one starts afresh in "
            "%s. Delete what no run needs any more.",
            *(other.parent, ", ".join(changed[:5]), folder),
        )
    # At once with what is in it: another run may have the folder, and remove it, at any time.
    new = _aside(folder)
    try:
        write_json(new / MADE_OF, made_of)
        new.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # else another run made it
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{os.getpid()}.partial")


def _hold(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Lock a work folder until the stack ends; return False if another run has removed it."""
    try:
        lock = stack.enter_context((folder / LOCK).open("a+", errors="replace"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with (folder / AWAITED).open("a") as awaited:
                fcntl.flock(awaited, fcntl.LOCK_SH)
                lock.seek(0)
                log.warning("%s: waiting for another run of this work (%s)", folder, lock.read(200))
                fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat()):
            return False
    except FileNotFoundError:
        return False
    _sign(lock)
    return True


def _awaited(folder: Path) -> bool:
    """Tell whether another run waits for a folder that this one holds; that one will remove it."""
    with (folder / AWAITED).open("a") as awaited:
        try:
            fcntl.flock(awaited, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


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
