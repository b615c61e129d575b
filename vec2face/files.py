"""Files: whole or not at all, and named by what is in them."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class InputError(ValueError):
    """Something from outside is wrong; the message names the file, the place and the remedy."""


@contextlib.contextmanager
def whole_file(path: Path | str) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; rename it to ``path`` only if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; it replaces ``path`` only if the block succeeds."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def fingerprint(*parts: Any) -> str:
    """Return 16 hexadecimal digits that name ``parts``: JSON-able values, and paths by content."""

    def plain(part: Any) -> Any:
        if not isinstance(part, Path):
            return part
        files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
        return [[str(p.relative_to(part)) if p != part else p.name, sha256(p)] for p in files]

    text = json.dumps([plain(p) for p in parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
