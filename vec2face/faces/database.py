"""The authors' LMDB: one file with an entry an image, as their training code reads it.

Keys ``0`` .. ``N-1`` hold msgpack of (image, feature, label) or (image, label), the feature being
the bytes of an ``.npy``; ``__keys__``, ``__len__`` and ``__classnum__`` hold msgpack of the list of
keys, N and the number of identities. msgpack is data only: nothing in it can run.
"""

import ctypes
import io
import mmap
import threading
import weakref
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import lmdb
import msgpack
import numpy as np

from vec2face.runtime.files import InputError

MAGIC = b"\xde\xc0\xef\xbe"  # at byte 16 of the file
_BATCH = 1000  # rows written in one transaction
_AT_ONCE = 2**13  # labels read before memory is given back; each is on a page of its own or two
_c = ctypes.CDLL(None)
_c.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_REMEDY = "copy or make the database again"


class DatabaseSource:
    """Read the authors' LMDB as a source; a folder with ``data.mdb`` is one too.

    Args:
        path: the file, or the folder.
        skip: give the label -1 to entries whose label cannot be read, instead of stopping there.

    Raises:
        InputError: if it is no such database, or is cut off.
    """

    def __init__(self, path: Path | str, *, skip: bool = False):
        self.path = Path(path)
        self.name = self.path.stem
        self._skip = skip
        self._opened = _open(self.path)
        self._keys = self._read_keys()

    def _read_keys(self) -> np.ndarray:
        """Return (N,) byte strings: a list of four million would take 200 MB."""
        unpacker = msgpack.Unpacker(raw=True, max_buffer_size=0)
        try:
            unpacker.feed(self._get(b"__keys__"))
            count = unpacker.read_array_header()
            if count != msgpack.unpackb(self._get(b"__len__")):
                raise InputError(f"{self.path}: __len__ is not the {count} of __keys__; {_REMEDY}")
            keys = (bytes(unpacker.unpack()) for _ in range(count))
            return np.fromiter(keys, "S20", count)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path}: __keys__ is no list of keys; {_REMEDY}") from error

    def _get(self, key: bytes) -> bytes:
        try:
            with self._opened.env.begin() as transaction:
                value = transaction.get(key)
        except lmdb.Error as error:
            raise InputError(f"{self.path}, key {key.decode()}: {error}; {_REMEDY}") from error
        if value is None:
            remedy = f"expected the authors' layout of {{0 .. N-1, __keys__}}; {_REMEDY}"
            raise InputError(f"{self.path}: no entry {key.decode()}; {remedy}")
        return value

    def _row(self, i: int) -> tuple[bytes, bytes | None, int]:
        """Return image, the feature's .npy or None, and label."""
        value = self._get(bytes(self._keys[i]))
        try:
            row: Any = msgpack.unpackb(value, raw=True, use_list=False)
        except (ValueError, msgpack.UnpackException) as error:
            raise InputError(f"{self.where(i)}: no msgpack ({error}); {_REMEDY}") from error
        if isinstance(row, tuple) and len(row) in (2, 3):
            image, feature, label = row[0], row[1] if len(row) == 3 else None, row[-1]
            whole = isinstance(label, int) and not isinstance(label, bool) and label >= 0
            if isinstance(image, bytes) and isinstance(feature, bytes | None) and whole:
                return image, feature, label
        raise InputError(
            f"{self.where(i)}: neither (image, label) nor (image, feature, label); {_REMEDY}"
        )

    def __len__(self) -> int:
        return len(self._keys)

    @cached_property
    def labels(self) -> np.ndarray:
        """(images,) int64, read from every entry once."""
        labels = np.empty(len(self), np.int64)
        for i in range(len(self)):
            try:
                labels[i] = self._row(i)[2]
            except InputError:
                if not self._skip:
                    raise
                labels[i] = -1
            if i % _AT_ONCE == _AT_ONCE - 1:
                self._opened.give_back()
        return labels

    def encoded(self, i: int) -> bytes:
        """Return row i's image as it is stored."""
        return self._row(i)[0]

    def feature(self, i: int) -> np.ndarray | None:
        """Return row i's feature, (D,) float32, or None if the database holds none."""
        data = self._row(i)[1]
        if data is None:
            return None
        try:
            value = np.load(io.BytesIO(data), allow_pickle=False)
            return np.asarray(value, np.float32).reshape(-1)
        except (ValueError, EOFError, TypeError, OSError, AttributeError) as error:
            raise InputError(f"{self.where(i)}: the feature is no .npy ({error})") from error

    def where(self, i: int) -> str:
        """Name row i for an error message."""
        return f"{self.path}, key {bytes(self._keys[i]).decode(errors='replace')}"


class _Opened:
    """An open environment; LMDB allows one a file and process, so sources share it."""

    def __init__(self, path: Path):
        self.env = lmdb.open(
            str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False
        )
        self._file = str((path / "data.mdb" if path.is_dir() else path).resolve())

    def give_back(self) -> None:
        """Let the pages of the map that were read go, so that memory stays flat.

        They come again when they are needed; lmdb has no call for it.
        """
        maps = Path("/proc/self/maps")
        if not maps.is_file():  # only Linux has it
            return
        for line in maps.read_text().splitlines():
            span, *_, file = line.split(maxsplit=5)
            if file == self._file:
                start, end = (int(place, 16) for place in span.split("-"))
                _c.madvise(start, end - start, mmap.MADV_DONTNEED)


_open_now: weakref.WeakValueDictionary[tuple[Path, int], _Opened] = weakref.WeakValueDictionary()
_one_at_a_time = threading.Lock()


def _open(path: Path) -> _Opened:
    file = path / "data.mdb" if path.is_dir() else path
    try:
        key = file.resolve(), file.stat().st_ino
        with _one_at_a_time:
            opened = _open_now.get(key)
            if opened is None:
                opened = _open_now[key] = _Opened(path)
        pages = opened.env.info()["last_pgno"] + 1
        needed, found = pages * opened.env.stat()["psize"], file.stat().st_size
    except (lmdb.Error, OSError) as error:
        raise InputError(f"{path}: not an LMDB: {error}; {_REMEDY}") from error
    if found < needed:  # reading beyond the end of a mapped file would kill the process
        raise InputError(f"{path}: truncated: {found} bytes, not {needed}; copy it again")
    return opened


class DatabaseWriter:
    """Write the authors' LMDB into one file; keys are the rows' numbers.

    A context manager. The file is complete only after the block has ended well.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.images, self._classes = 0, 0
        self._waiting: list[tuple[bytes, bytes]] = []
        self._env = lmdb.open(
            str(self.path), subdir=False, lock=False, sync=False, map_size=2**24, readahead=False
        )

    def append(self, data: bytes, label: int, feature: np.ndarray | None = None) -> None:
        """Add one encoded image, with its (D,) feature if given."""
        row: tuple[Any, ...] = (data, label)
        if feature is not None:
            file = io.BytesIO()
            np.save(file, np.asarray(feature, np.float32), allow_pickle=False)
            row = (data, file.getvalue(), label)
        self._put(b"%d" % self.images, msgpack.packb(row))
        self.images += 1
        self._classes = max(self._classes, label + 1)

    def _put(self, key: bytes, value: bytes) -> None:
        self._waiting.append((key, value))
        if len(self._waiting) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            try:
                with self._env.begin(write=True) as transaction:
                    for key, value in self._waiting:
                        transaction.put(key, value)
                self._waiting.clear()
            except lmdb.MapFullError:
                self._env.set_mapsize(2 * self._env.info()["map_size"])

    def close(self) -> None:
        """Add the three entries about the whole."""
        packer = msgpack.Packer()
        keys = bytearray(packer.pack_array_header(self.images))
        for i in range(self.images):
            keys += packer.pack(b"%d" % i)
        self._put(b"__keys__", bytes(keys))
        self._put(b"__len__", packer.pack(self.images))
        self._put(b"__classnum__", packer.pack(self._classes))
        self._flush()
        self._env.close()

    def discard(self) -> None:
        """Close an unfinished file, which stays unreadable: it has no ``__keys__``."""
        self._env.close()

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
