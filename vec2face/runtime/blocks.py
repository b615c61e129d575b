"""Long work in numbered blocks: shared among processes, and safe from whatever kills them.

    blocks = Blocks(work, make)           # make(i): the arrays of block i, by its number alone
    blocks.finish(range(n), "features")   # every process comes here; it does its part and waits
    if processes().main:
        result = [blocks[i] for i in range(n)]

A finished block is one file in the work folder, written whole, with its checksum. A rerun takes the
finished ones as they are, on any number of processes. A block depends on its number only, so the
result is that of one process which nobody interrupted. The work folder belongs to one set of
parameters, inputs and code (``vec2face.runtime.resume``) and is seen by all processes.
"""

import hashlib
import io
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from vec2face.runtime.files import sweep, whole_file
from vec2face.runtime.processes import processes
from vec2face.runtime.progress import Progress

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
DIGEST = 32  # bytes of SHA-256 that a block's file begins with


def unfinished(numbers: Sequence[int], done: Callable[[int], bool]) -> list[int]:
    """Return which blocks are not ``done``: to every process the same; they share the looking."""
    group = processes()
    parts = group.gather([i for i in numbers[group.rank :: group.size] if not done(i)])
    return sorted(i for part in parts for i in part)


def share(numbers: Sequence[int], do: Callable[[int], object], what: str) -> None:
    """Call ``do`` for every number, each in one of the processes; return when all are through."""
    group = processes()
    mine = numbers[group.rank :: group.size]
    # One bar is enough: the processes have equally much to do.
    for number in Progress(mine, what, unit="block"):
        do(number)
    group.wait()


class Blocks:
    """The numbered blocks of one piece of work; a block of rows has its first row's number.

    Args:
        folder: where their files are; nothing else has the names ``block-<number>`` there.
        make: ``make(i)`` returns the arrays of block i; a pure function.
    """

    def __init__(self, folder: Path | str, make: Callable[[int], Arrays]) -> None:
        self.folder = Path(folder)
        self._make = make
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, number: int) -> Path:
        """Return the file of a block."""
        return self.folder / f"block-{number:010d}"

    def finish(self, numbers: Sequence[int], what: str) -> None:
        """Make those blocks that are not there, together with the other processes.

        Raises:
            InputError: if the disk is full, naming the file; what is finished stays.
        """
        if processes().main:
            sweep(self.path(0).with_name("block-*"))
            for path in self.folder.glob("block-*"):
                if path.is_dir():  # in a file's place
                    shutil.rmtree(path)
        share(unfinished(numbers, lambda i: self.path(i).is_file()), self._write, what)

    def _write(self, number: int) -> None:
        content = io.BytesIO()
        np.savez(content, **self._make(number))  # type: ignore[arg-type]
        with whole_file(self.path(number)) as temporary:
            temporary.write_bytes(hashlib.sha256(content.getvalue()).digest() + content.getvalue())

    def __getitem__(self, number: int) -> Arrays:
        """Return a block's arrays; one that is gone or damaged is made again."""
        path = self.path(number)
        try:
            return _read(path)
        except Exception as error:  # whatever a damaged file brings about
            log.warning("%s: %s; this block is made again", path, error)
            return self._make(number)

    def join(self, numbers: Iterable[int]) -> Arrays:
        """Return the arrays of several blocks, each kind concatenated in the order given."""
        parts = [self[number] for number in numbers]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _read(path: Path) -> Arrays:
    data = path.read_bytes()
    if hashlib.sha256(data[DIGEST:]).digest() != data[:DIGEST]:
        raise ValueError("its content was altered")
    with np.load(io.BytesIO(data[DIGEST:]), allow_pickle=False) as file:
        return dict(file)


def cut(start: int, stop: int, size: int) -> list[range]:
    """Cut rows start .. stop - 1 into runs of ``size``, of which the last may be shorter."""
    return [range(a, min(a + size, stop)) for a in range(start, stop, size)]
