"""A source of faces: labels and encoded images by row, whatever they are stored in."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from vec2face.faces import btree
from vec2face.faces.archive import TarSource, ZipSource
from vec2face.faces.database import DatabaseSource
from vec2face.faces.images import check_square, decode, resize
from vec2face.faces.listing import FolderSource, ListSource, labels_by_key
from vec2face.faces.reading import read_array, reading
from vec2face.faces.record import RecordFile
from vec2face.faces.store import FaceStore
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import cores, processes
from vec2face.runtime.progress import Progress

log = logging.getLogger(__name__)

Corrupt = Literal["stop", "skip"]
"""What to do at an entry that cannot be read: stop with its name, or leave it out and count it."""

KNOWN = (
    "a FaceStore (manifest.json), a .rec with its .idx, a folder with train.rec, the authors' "
    "LMDB, a folder, .zip or .tar of identity/image.jpg, or a .csv of path,label"
)


_TOGETHER = (
    16  # images decoded by a thread at a time; handing it each alone takes as long as decoding
)


class Source(Protocol):
    """Rows of (encoded image, label), and perhaps a feature.

    ``labels`` is (len,) int64; ``where(i)`` names row i for an error message.
    """

    name: str

    @property
    def labels(self) -> np.ndarray:
        """The label of every row."""

    def __len__(self) -> int: ...

    def encoded(self, i: int) -> bytes:
        """Return row i's image as it is stored."""

    def feature(self, i: int) -> np.ndarray | None:
        """Return row i's feature, (D,) float32, or None where there are none."""

    def where(self, i: int) -> str:
        """Name row i for an error message."""


class RecordSource(RecordFile):
    """One ``.rec`` with its ``.idx``, as a source.

    With ``skip``, records whose label cannot be read have the label -1 instead of being an error.
    If all records have one label, those of a ``list.txt`` beside them count (as DCFace has it).
    """

    def __init__(self, path: Path | str, *, skip: bool = False):
        super().__init__(path)
        self.name = self.path.stem
        self._skip = skip

    @cached_property
    def labels(self) -> np.ndarray:
        """(images,) int64, read from the records without decoding an image."""
        labels = self.read_labels(skip=self._skip)
        beside = self.path.with_name("list.txt")
        if len(np.unique(labels[labels >= 0])) < 2 and beside.is_file():
            return np.where(labels < 0, -1, labels_by_key(beside, self.keys))
        return labels

    def feature(self, i: int) -> np.ndarray | None:
        """Return nothing: records hold no features."""
        return None


class Selection:
    """Some rows of a source, as a source.

    Args:
        source: where the rows are.
        rows: (n,) which ones, in which order.
        skipped: messages that name the entries left out because they cannot be read.
    """

    def __init__(self, source: Source, rows: np.ndarray, skipped: Sequence[str] = ()):
        self.name, self.skipped = source.name, list(skipped)
        self._source, self._rows = source, np.asarray(rows, np.int64)

    @cached_property
    def labels(self) -> np.ndarray:
        """(n,) int64."""
        return self._source.labels[self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def encoded(self, i: int) -> bytes:
        """Return row i's image as it is stored."""
        return self._source.encoded(int(self._rows[i]))

    def feature(self, i: int) -> np.ndarray | None:
        """Return row i's feature, or None."""
        return self._source.feature(int(self._rows[i]))

    def where(self, i: int) -> str:
        """Name row i for an error message."""
        return self._source.where(int(self._rows[i]))


def open_source(
    path: Path | str,
    *,
    verify: bool = True,
    corrupt: Corrupt = "stop",
    mask: Path | str | None = None,
) -> Source:
    """Open faces, whatever form they have (docs/formats.md), by what the path holds.

    Args:
        path: a file or folder.
        verify: whether a FaceStore's files are compared with their SHA-256.
        corrupt: with ``"skip"``, entries whose label cannot be read are left out, and the source
            is a ``Selection`` that names them. Images are not decoded here: see ``readable``.
        mask: an ``.npy`` of row positions; only these rows, in this order, are the source, and a
            row named twice is there twice.

    Raises:
        InputError: if there is nothing of the kind, or it is incomplete, damaged or altered.
    """
    path = Path(path)
    with reading(path):
        source = _open(path, verify, corrupt == "skip")
    if corrupt == "skip" and isinstance(source, RecordSource | DatabaseSource):
        bad = np.flatnonzero(source.labels < 0)
        if len(bad):
            if mask is not None:
                raise InputError(f"{path}: a mask needs all rows; set corrupt to stop")
            names = [f"{source.where(int(i))}: the entry is damaged" for i in bad]
            log.warning("%d entries skipped; the first: %s", len(names), names[0])
            return Selection(source, np.flatnonzero(source.labels >= 0), names)
    return source if mask is None else Selection(source, _load_mask(Path(mask), len(source)))


def _open(path: Path, verify: bool, skip: bool) -> Source:
    if (path / "manifest.json").is_file():
        store = FaceStore(path)
        return store.verify() if verify else store
    if path.is_dir():
        for name in ("train.rec", "file.rec"):  # insightface's, DCFace's
            if (path / name).is_file():
                return RecordSource(path / name, skip=skip)
        return DatabaseSource(path, skip=skip) if (path / "data.mdb").is_file() else _folder(path)
    if path.suffix == ".rec":
        return RecordSource(path, skip=skip)
    if path.is_file():
        with path.open("rb") as file:
            start = file.read(512)
        if start[16:20] == btree.MAGIC:
            return DatabaseSource(path, skip=skip)
        if start.startswith((b"PK\3\4", b"PK\5\6")):
            return ZipSource(path)
        if start.startswith((b"\x1f\x8b", b"\xfd7zXZ", b"BZh")):
            raise InputError(
                f"{path}: compressed as one piece, so no image can be read alone; unpack it"
            )
        if start[257:262] == b"ustar" or path.suffix == ".tar":  # the oldest form has no mark
            return TarSource(path)
        if path.suffix in (".csv", ".tsv", ".txt"):
            return ListSource(path)
    state = "not a known form of faces" if path.exists() else "no faces there"
    raise InputError(f"{path}: {state}; expected {KNOWN}")


def _folder(path: Path) -> FolderSource:
    try:
        return FolderSource(path)
    except InputError as error:
        raise InputError(f"{error}; or {KNOWN}") from error


def _load_mask(path: Path, rows: int) -> np.ndarray:
    """Return the row positions of a mask, checked against the number of rows."""
    mask = np.array(read_array(path))
    if mask.ndim != 1 or mask.dtype.kind not in "iu" or not len(mask):
        raise InputError(f"{path}: {mask.dtype} {mask.shape}; a mask is a row of whole numbers")
    if mask.min() < 0 or mask.max() >= rows:
        raise InputError(f"{path}: row {mask.max()} of {rows}; the mask belongs to another set")
    return mask.astype(np.int64)


def load_images(
    source: Source, size: int, indices: Sequence[int] | np.ndarray | None = None
) -> np.ndarray:
    """Decode rows (all, or ``indices``) to (N, size, size, 3) uint8 RGB, in threads.

    Raises:
        InputError: naming the record of an image that cannot be decoded or is not square.
    """
    rows = range(len(source)) if indices is None else [int(i) for i in indices]
    images = np.empty((len(rows), size, size, 3), np.uint8)

    def load(first: int) -> None:
        same = False  # whether the image before had the size asked: then this one may, too
        for n in range(first, min(first + _TOGETHER, len(rows))):
            place = images[n]
            into = place if same else None
            image = decode(source.encoded(rows[n]), source.where(rows[n]), into=into)
            same = image.shape == place.shape
            if into is None or not same:
                check_square(image, source.where(rows[n]))
                place[...] = resize(image, size)

    starts = range(0, len(rows), _TOGETHER)
    threads = min(8, cores(), len(starts))
    if threads < 2:
        for start in starts:
            load(start)
        return images
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(load, starts):
            pass
    return images


def readable(
    source: Source, rows: Sequence[int] | np.ndarray | None = None, *, corrupt: Corrupt
) -> tuple[np.ndarray, list[str]]:
    """Decode rows (all, or ``rows``) once to see whether they can be.

    Several processes share the rows, and each gets the whole result.

    Returns:
        The rows that can, (n,) int64, and messages naming those that cannot, among them the
        entries that ``open_source`` has already left out.

    Raises:
        InputError: at the first that cannot, if ``corrupt`` is ``"stop"``; if none can.
    """
    rows = np.arange(len(source)) if rows is None else np.asarray(rows, np.int64)
    group = processes()
    mine = group.share(len(rows))
    faults: dict[int, str] = {}  # of the rows at these places

    def fault(i: int) -> str | None:
        try:
            decode(source.encoded(i), source.where(i))
        except InputError as error:
            return str(error)
        return None

    with (
        ThreadPoolExecutor(min(8, cores())) as pool,
        Progress(what=f"checking {source.name}", total=len(mine), unit="img") as bar,
    ):
        for first in mine[::4096]:
            some = range(first, min(first + 4096, mine.stop))
            found = pool.map(fault, rows[some.start : some.stop].tolist())
            faults |= {n: message for n, message in zip(some, found, strict=True) if message}
            bar.update(len(some))
            if faults and corrupt == "stop":
                break
    faults = {n: message for part in group.gather(faults) for n, message in part.items()}
    if faults and corrupt == "stop":
        raise InputError(f"{next(iter(faults.values()))}; or set corrupt to skip")
    if len(faults) == len(rows):
        why = next(iter(faults.values()), "there are none")
        raise InputError(f"{source.name}: none of {len(rows)} images can be read; {why}")
    skipped = [*getattr(source, "skipped", ()), *faults.values()]
    if skipped and group.main:
        log.warning("%d entries skipped; the first: %s", len(skipped), skipped[0])
    return np.delete(rows, list(faults)), skipped


def open_readable(path: Path | str, *, corrupt: Corrupt) -> Source:
    """Open faces whose images are about to be decoded all: without the corrupt ones, if skipped.

    With ``"stop"`` nothing is decoded here; the reader that comes upon a corrupt image names it.
    Of several processes, the first verifies a FaceStore, and all share the decoding.
    """
    source = open_source(path, verify=processes().main, corrupt=corrupt)
    return source if corrupt == "stop" else Selection(source, *readable(source, corrupt=corrupt))
