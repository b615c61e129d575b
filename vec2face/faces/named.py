"""Faces that have names: one rule for folders, archives and lists.

Images lie in ``identity/image.jpg``; rows stand in the order of their sorted names.
"""

import logging
import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from vec2face.faces.headers import START, is_read
from vec2face.runtime.files import InputError

log = logging.getLogger(__name__)

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff")


class Names:
    """Many strings in one piece of memory: four million paths take what their letters take."""

    def __init__(self, names: Iterable[str]):
        self._letters, ends = bytearray(), array("q")
        for name in names:
            self._letters += os.fsencode(name)
            ends.append(len(self._letters))
        self._ends = np.frombuffer(ends, np.int64) if ends else np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, i: int) -> str:
        start = self._ends[i - 1] if i else 0
        return os.fsdecode(bytes(self._letters[start : self._ends[i]]))

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))

    def order(self) -> np.ndarray:
        """Return the (len,) int64 positions that sort the names by code points."""
        if all(self[i] <= self[i + 1] for i in range(len(self) - 1)):
            return np.arange(len(self))
        return np.array(sorted(range(len(self)), key=self.__getitem__), np.int64)


class NamedFaces:
    """Images with names, as a source: rows stand in the order of their sorted names.

    Attributes:
        path: the folder, archive or list.
        name: its name without the ending.
        names: (images,) with ``/`` between folders and image.
        labels: (images,) int64.
    """

    path: Path
    name: str
    names: Names
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def feature(self, i: int) -> np.ndarray | None:
        """Return nothing: such files hold no features."""
        return None

    def where(self, i: int) -> str:
        """Name row i for an error message."""
        return f"{self.path}, {self.names[i]}"


class Images:
    """Tells images from other files of a folder or archive, and counts those: ``others``."""

    def __init__(self, path: Path):
        self._path, self.others, self._first = path, 0, ""

    def take(self, name: str, start: Callable[[int], bytes]) -> bool:
        """Tell whether a file is taken: it has an image's ending, or an image's content.

        Args:
            name: its path with ``/``. Hidden files are neither taken nor counted; Apple's ``._x``
                beside every ``x`` is one.
            start: gives so many bytes of its start; called only if the ending says nothing.
        """
        if is_hidden(name):
            return False
        if name.lower().endswith(IMAGES) or is_read(start(START)):
            return True
        self._first = self._first or name
        self.others += 1
        return False

    def report(self) -> None:
        """Say how many files were left out."""
        if self.others:
            log.warning(
                "%s: %d files left out that are no JPEG, PNG, BMP, WebP, TIFF, GIF or PPM; the "
                "first: %s",
                *(self._path, self.others, self._first),
            )


def is_hidden(name: str) -> bool:
    """Tell whether a path has a hidden part, or lies where Apple's archives put such files."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def label_by_folder(names: Names, path: Path) -> np.ndarray:
    """Number the folders of ``names`` in the order of their first appearance: (len,) int64.

    An identity is the folder an image lies in. If there are more of these than outer folders, as
    in person/video/frame.jpg, a warning says so: the outer ones may be the people.

    Raises:
        InputError: if there are no names, or one is in no folder.
    """
    numbers: dict[str, int] = {}
    labels = np.empty(len(names), np.int64)
    for i, name in enumerate(names):
        folder, _, _ = name.rpartition("/")
        if not folder:
            raise InputError(
                f"{path}, {name}: lies in no identity's folder; expected identity/image.jpg"
            )
        labels[i] = numbers.setdefault(folder, len(numbers))
    if not len(labels):
        raise InputError(f"{path}: no images there; expected identity/image.jpg")
    parts = [folder.split("/") for folder in numbers]
    common = 0
    while common < min(map(len, parts)) and len({some[common] for some in parts}) == 1:
        common += 1
    outer = {tuple(some[: common + 1]) for some in parts}
    if len(outer) < len(parts) and len(outer) > 1:
        log.warning(
            "%s: images lie in %d folders within %d others; each of the %d counts as an identity. "
            "If the outer ones do, give a .csv of path,label",
            *(path, len(parts), len(outer), len(parts)),
        )
    return labels
