"""Checkpoints: what a killed run needs to go on as if it had never stopped."""

import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import torch

from vec2face.runtime.files import InputError, is_sealed, seal, sweep, whole_file
from vec2face.runtime.parallel import agree
from vec2face.runtime.processes import Group, processes

log = logging.getLogger(__name__)

KEPT = 2
SECONDS = 120.0  # between two states, unless VEC2FACE_CHECKPOINT_SECONDS says otherwise


class Checkpoint:
    """The numbered states of one run in one folder, of which the last two are kept.

    Files are written aside and renamed, and each has its checksum beside it. A state that is not
    what was written (a broken disk, another program) is passed over for the one before it. States
    are nested dicts and lists of tensors, numbers and strings, and nothing else: they are loaded
    without unpickling objects.

    Args:
        folder: of one run alone, the same for all of its processes.

    Raises:
        InputError: if ``VEC2FACE_CHECKPOINT_SECONDS`` is no number.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        given = os.environ.get("VEC2FACE_CHECKPOINT_SECONDS", SECONDS)
        try:
            self.seconds = float(given)
        except ValueError:
            raise InputError(f"VEC2FACE_CHECKPOINT_SECONDS: a number, not {given!r}") from None
        self._saved = time.monotonic()

    def due(self, group: Group) -> bool:
        """Return whether it is time to save again, by the clock of the first process.

        The answer is the same on every process; they all have to ask.
        """
        late = group.main and time.monotonic() - self._saved >= self.seconds
        return not agree(group, not late)

    def _steps(self) -> list[int]:
        names = (path.stem.removeprefix("state-") for path in self.folder.glob("state-*.pt"))
        return sorted(int(name) for name in names if name.isascii() and name.isdecimal())

    def _path(self, step: int) -> Path:
        return self.folder / f"state-{step:010d}.pt"

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write ``state`` as that of ``step``; keep it and the one before it, no others.

        Raises:
            ValueError: if ``step`` is negative.
            InputError: if it cannot be written (a full disk), naming the file; the earlier states
                stay.
        """
        if step < 0:
            raise ValueError(f"a step is >= 0, not {step}")
        sweep(self.folder / "state-*")  # of a process that was killed here
        path = self._path(step)
        if self.folder.exists() and not self.folder.is_dir():
            self.folder.unlink()
        if not is_sealed(path):
            _remove(path)
        try:
            with whole_file(path) as temporary, temporary.open("wb") as file:
                torch.save(state, file)
                os.fsync(file.fileno())  # some file systems find out only here that they are full
            seal(path)
        except (OSError, RuntimeError) as error:  # PyTorch's writer turns one into the other
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            reason = f"{cause.strerror}; the earlier states stay: make room and run again"
            raise InputError(f"{path}: {reason}") from error
        steps = self._steps()
        earlier = [s for s in steps if s <= step]  # later ones could not be read
        for old in set(steps) - set(earlier[-KEPT:]):
            _remove(self._path(old))
        self._saved = time.monotonic()

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Return the last whole (step, state), or None for a fresh start; name damaged ones.

        Tensors are mapped from the file, so that processes of one machine share the memory and each
        reads what it uses. Copy what is kept: the file goes when two newer states are there.
        """
        for step in reversed(self._steps()):
            path = self._path(step)
            try:
                if is_sealed(path):
                    return step, torch.load(path, map_location="cpu", mmap=True, weights_only=True)
                reason = "is not what was written"
            except Exception as error:  # a reader may raise anything at damaged bytes
                reason = f"cannot be read ({type(error).__name__})"
            if processes().main:
                log.warning("%s: %s; it is passed over for the state before it", path, reason)
        return None

    def resume(self, group: Group) -> tuple[int, dict[str, Any]]:
        """Return ``load``'s step and state, (0, {}) for a fresh start; all processes call this.

        Raises:
            InputError: if they find different states.
        """
        step, state = self.load() or (0, {})
        found = group.gather(step)
        if len(set(found)) > 1:
            raise InputError(
                f"{self.folder}: the processes found states of steps {found}; it must lie on a "
                "file system that all of them share"
            )
        return step, state


def _remove(path: Path) -> None:
    """Remove a state with its checksum, also a folder in its place."""
    for each in (path, path.with_name(f"{path.name}.sha256")):
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each)
        else:
            each.unlink(missing_ok=True)
