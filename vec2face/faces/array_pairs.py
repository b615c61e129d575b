"""Verification pairs as an array: the test sets of the authors' code, name.npy and issame.txt.

``name.npy`` is uint8 (2P, 3, S, S), RGB; pictures 2p and 2p + 1 form pair p. ``issame.txt`` beside
it has a line a pair, 1 for one person and 0 for two.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np

from vec2face.faces.reading import read_array, reading, regular
from vec2face.runtime.files import InputError

FLAGS = "issame.txt"


class ArrayPictures(Sequence[bytes]):
    """Pictures of an array (N, 3, S, S) as PPM files, which are made when they are asked for.

    ``decode`` gives the array's pixels back.
    """

    def __init__(self, pictures: np.ndarray) -> None:
        self._pictures = pictures
        self._header = b"P6\n%d %d\n255\n" % pictures.shape[:1:-1]

    def __len__(self) -> int:
        return len(self._pictures)

    @overload
    def __getitem__(self, i: int) -> bytes: ...

    @overload
    def __getitem__(self, i: slice) -> list[bytes]: ...

    def __getitem__(self, i: int | slice) -> bytes | list[bytes]:
        """Return a picture, or several."""
        if isinstance(i, slice):
            return [self[row] for row in range(*i.indices(len(self)))]
        return self._header + self._pictures[i].transpose(1, 2, 0).tobytes()


def read_array_pairs(path: Path) -> tuple[ArrayPictures, np.ndarray]:
    """Read a test set, given its ``.npy``; the pictures stay on disk.

    Returns:
        2P encoded pictures; (P,) bool, whether a pair shows one person.

    Raises:
        InputError: if the array has another type or shape, ``issame.txt`` is missing or has another
            line than 0 or 1, or their numbers do not fit.
    """
    pictures = read_array(path)
    side = pictures.shape[-1] if pictures.ndim else 0
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (3, side, side) or not side:
        raise InputError(
            f"{path}: {pictures.dtype} {pictures.shape}; expected uint8 (pictures, 3, side, side)"
        )
    beside = path.with_name(FLAGS)
    if not beside.exists():
        raise InputError(f"{path}: there is no {FLAGS} beside it; put it there")
    with reading(beside):
        lines = regular(beside).read_text(encoding="utf-8-sig").splitlines()
    same = []
    for number, line in enumerate(lines, 1):
        flag = {"0": False, "1": True}.get(line.strip())
        if flag is None:
            raise InputError(f"{beside}, line {number}: '{line.strip():.40}'; expected 0 or 1")
        same.append(flag)
    if not same or len(pictures) != 2 * len(same):
        raise InputError(
            f"{path}: {len(pictures)} pictures for {len(same)} lines of {FLAGS}; "
            "expected two a line"
        )
    return ArrayPictures(pictures), np.array(same, bool)
