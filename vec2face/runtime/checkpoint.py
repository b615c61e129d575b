"""Checkpoints: what a killed run needs to go on as if it had never stopped."""

import os
import pickle
import shutil
import time
import zipfile
from pathlib import Path
from typing import Any

import torch

from vec2face.runtime.files import InputError, whole_file
from vec2face.runtime.parallel import agree
from vec2face.runtime.processes import Group

KEPT = 2
SECONDS = 120.0  # between two states, unless VEC2FACE_CHECKPOINT_SECONDS says otherwise


class Checkpoint:
    """The numbered states of one run in one folder, of which the last two are kept.

    Files are written aside and renamed, so a name that exists was written whole; a state that
    cannot be read all the same (a full disk, a broken file system) is passed over for the one
    before it. States are nested dicts and lists of tensors, numbers and strings, and nothing
    else: they are loaded without unpickling objects.

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

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("state-*.pt"))

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write ``state`` as that of ``step`` and remove all but the last two.

        Raises:
            ValueError: if ``step`` is negative.
            InputError: if it cannot be written (a full disk), naming the file; the earlier states
                stay.
        """
        if step < 0:
            raise ValueError(f"a step is >= 0, not {step}")
        for rest in self.folder.glob(".state-*.partial"):  # of a process that was killed here
            rest.unlink(missing_ok=True)
        path = self.folder / f"state-{step:010d}.pt"
        try:
            with whole_file(path) as temporary, temporary.open("wb") as file:
                torch.save(state, file)
                os.fsync(file.fileno())  # some file systems find out only here that they are full
        except (OSError, RuntimeError) as error:  # PyTorch's writer turns one into the other
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            reason = f"{cause.strerror}; the earlier states stay: make room and run again"
            raise InputError(f"{path}: {reason}") from error
        for old in self._files()[:-KEPT]:
            old.unlink(missing_ok=True)
        self._saved = time.monotonic()

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Return the last readable (step, state), or None for a fresh start.

        Tensors are mapped from the file, so that processes of one machine share the memory and each
        reads what it uses. Copy what is kept: the file goes when two newer states are there.
        """
        for path in reversed(self._files()):
            try:
                state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
            except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile):
                continue
            return int(path.stem.split("-")[1]), state
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

    def clear(self) -> None:
        """Remove the folder with all its states, once the result is written."""
        shutil.rmtree(self.folder, ignore_errors=True)
