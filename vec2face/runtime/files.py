"""Files: whole or not at all, and named by what is in them."""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())
_DAY = 86400  # seconds
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class InputError(ValueError):
    """Something from outside is wrong; the message names the file, the place and the remedy."""


@contextlib.contextmanager
def _making(path: Path) -> Iterator[None]:
    """Name the output whose folder or name the system refuses."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{path}: cannot be made: {reason}; choose another place, or change what stands there"
        ) from error


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Name the file that a full disk refuses: the system's own message does not."""
    try:
        yield
    except OSError as error:
        # numpy counts what it could not write, and gives no number of the error.
        if error.errno in _FULL or (error.errno is None and "requested and" in str(error)):
            reason = error.strerror or f"only part of it ({error})"
            message = f"{path}: cannot be written: {reason}; make room on its disk and run again"
            raise InputError(message) from error
        raise


def _flush(path: Path) -> None:
    """Have a file on the disk before it gets its name; a crash could leave the name alone."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it to ``path`` only if the block succeeds.

    Raises:
        InputError: before the block if no file can be made there; if the disk is full.
    """
    path = Path(path)
    temporary = _temporary(path)
    with _making(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        temporary.touch()
    try:
        with _writing(path):
            yield temporary
            _flush(temporary)
        with _making(path):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it replaces ``path`` only if the block succeeds.

    Raises:
        InputError: before the block if no folder can be made there; if the disk is full.
    """
    path = Path(path)
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    with _making(path):
        temporary.mkdir(parents=True)
    try:
        with _writing(path):
            yield temporary
            for file in temporary.rglob("*"):
                _flush(file)
        with _making(path):
            if os.path.lexists(path):
                _remove(path)
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Unfinished:
    """What writes a file in a ``with`` block: completed if the block ends well, else given up."""

    def close(self) -> None:
        """Complete the file."""
        raise NotImplementedError

    def discard(self) -> None:
        """Close the file as it is; no reader takes it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def sweep(*paths: Path | str) -> None:
    """Remove what killed processes left of ``paths`` under temporary names; a name may hold *."""
    for path in map(Path, paths):
        for leftover in path.parent.glob(f".{path.name}.*.partial"):
            _remove(leftover)


def sweep_killed(folder: Path) -> None:
    """Remove what killed processes left of a folder's files under temporary names.

    Those of this machine are known to have ended; what others left goes when it is a day old.
    """
    for leftover in folder.glob(".*.*.partial"):
        host, _, number = leftover.name.split(".")[-2].rpartition("-")
        with contextlib.suppress(OSError):  # another process removed it, or it is another user's
            if host == _HOST:
                ended = number.isdecimal() and not _runs(int(number))
            else:
                ended = time.time() - leftover.stat().st_mtime > _DAY
            if ended:
                _remove(leftover)


def check_writable(folder: Path | str) -> None:
    """Try whether files can be written to a folder, or to that in which it will be made.

    Raises:
        InputError: if not; nothing is left there.
    """
    nearest = Path(folder)
    try:
        while not nearest.exists() and not nearest.is_symlink() and nearest != nearest.parent:
            nearest = nearest.parent
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"{folder}: cannot be written to: {nearest}: {reason}; change its rights or remove it"
        ) from error


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}.partial")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def link(source: Path, target: Path) -> None:
    """Give a file a second name, at no cost of disk; on another file system, copy it."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


@contextlib.contextmanager
def row_file(path: Path | str, rows: int, width: int) -> Iterator[Callable[[np.ndarray], None]]:
    """Write an ``.npy`` (rows, width) float32 part by part, without ever holding it.

    Yields what appends some rows. (A memory map would do, but on a full disk it kills the process.)

    Raises:
        InputError: if the disk is full.
        ValueError: if the parts are of another width, or together of another number of rows.
    """
    found = 0
    with whole_file(path) as temporary, temporary.open("wb") as file:
        about = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
        np.lib.format.write_array_header_1_0(file, about)

        def append(part: np.ndarray) -> None:
            nonlocal found
            if part.shape[1:] != (width,):
                raise ValueError(f"{path}: rows of {part.shape[1:]}, not of {width}")
            found += len(part)
            file.write(np.ascontiguousarray(part, "<f4").tobytes())

        yield append
        if found != rows:
            raise ValueError(f"{path}: {found} rows came, not {rows}")


def seal(path: Path) -> None:
    """Write a file's checksum beside it, for ``is_sealed``."""
    with whole_file(_seal_of(path)) as temporary:
        temporary.write_text(sha256(path))


def is_sealed(path: Path) -> bool:
    """Tell whether a file is there and has the content that it was sealed with."""
    try:
        return _seal_of(path).read_text() == sha256(path)
    except (OSError, ValueError):
        return False


def _seal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def inside(folder: Path, name: str) -> Path:
    """Return ``folder / name``; names come from outside and must not lead out of the folder.

    Raises:
        InputError: if the name is absolute or leaves the folder through ``..``.
    """
    clean = Path(os.path.normpath(name))
    if clean.is_absolute() or ".." in clean.parts:
        raise InputError(f"{name}: leads out of {folder}; give paths below it")
    return folder / clean


def write_json(path: Path | str, content: Any) -> None:
    """Write ``content`` as JSON with sorted keys and a final newline, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def sha256(path: Path | str) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def described(*parts: Any) -> list[Any]:
    """Return ``parts``, JSON-able values and paths, as plain JSON, with paths by content."""

    def plain(part: Any) -> Any:
        if not isinstance(part, Path):
            return part
        files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
        return [[str(p.relative_to(part)) if p != part else p.name, sha256(p)] for p in files]

    text = json.dumps([plain(p) for p in parts], sort_keys=True, default=str)
    return json.loads(text)


def fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits that name ``parts``; see ``described``."""
    text = json.dumps(described(*parts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
