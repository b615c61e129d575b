"""A source of faces: labels and encoded images by row, whatever they are stored in."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from vec2face.faces.images import decode
from vec2face.faces.record import RecordFile
from vec2face.faces.store import FaceStore
from vec2face.files import InputError


class Source(Protocol):
    """Rows of (encoded image, label).

    ``labels`` is (len,) int64; ``where(i)`` names row i for an error message.
    """

    name: str

    @property
    def labels(self) -> np.ndarray:
        """The label of every row."""

    def __len__(self) -> int: ...

    def encoded(self, i: int) -> bytes:
        """Return row i's image as it is stored."""

    def where(self, i: int) -> str:
        """Name row i for an error message."""


class RecordSource(RecordFile):
    """One ``.rec`` with its ``.idx``, as a source."""

    def __init__(self, path: Path | str):
        super().__init__(path)
        self.name = self.path.stem

    @cached_property
    def labels(self) -> np.ndarray:
        """(images,) int64, read from the records without decoding an image."""
        return self.read_labels()


def open_source(path: Path | str, *, verify: bool = True) -> Source:
    """Open a FaceStore folder, a ``.rec`` file, or a folder that holds ``train.rec``.

    A FaceStore's files are compared with their SHA-256 unless ``verify`` is false.

    Raises:
        InputError: if there is nothing of the kind, or it is incomplete, damaged or altered.
    """
    path = Path(path)
    if (path / "manifest.json").is_file():
        store = FaceStore(path)
        return store.verify() if verify else store
    if (path / "train.rec").is_file():
        return RecordSource(path / "train.rec")
    if path.suffix == ".rec":
        return RecordSource(path)
    raise InputError(
        f"{path}: no faces there; expected a FaceStore (manifest.json), a .rec file with its .idx, "
        "or a folder with train.rec"
    )


def load_images(
    source: Source, size: int, indices: Sequence[int] | np.ndarray | None = None
) -> np.ndarray:
    """Decode rows (all, or ``indices``) to (N, size, size, 3) uint8 RGB, in threads.

    Raises:
        InputError: naming the record of an image that cannot be decoded.
    """
    rows = range(len(source)) if indices is None else [int(i) for i in indices]
    images = np.empty((len(rows), size, size, 3), np.uint8)

    def load(n: int) -> None:
        i = rows[n]
        images[n] = decode(source.encoded(i), source.where(i), size)

    with ThreadPoolExecutor(min(8, len(os.sched_getaffinity(0)))) as pool:
        for _ in pool.map(load, range(len(rows))):
            pass
    return images
