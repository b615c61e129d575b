"""The authors' LMDB: one file with an entry an image, as their training code reads it.

Keys ``0`` .. ``N-1`` hold msgpack of (image, feature, label) or (image, label), the feature being
the bytes of an ``.npy``; ``__keys__``, ``__len__`` and ``__classnum__`` hold msgpack of the list of
keys, N and the number of identities. msgpack is data only: nothing in it can run.
"""

import io
from functools import cached_property
from pathlib import Path
from typing import Any

import lmdb
import msgpack
import numpy as np

from vec2face.faces.btree import BTree
from vec2face.faces.reading import array_of, reading
from vec2face.runtime.files import InputError, Unfinished

_BATCH = 1000  # rows written in one transaction
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
        with reading(self.path, _REMEDY):
            self._tree = BTree(self.path / "data.mdb" if self.path.is_dir() else self.path)
            self._keys = self._read_keys()
            self._offsets, self._sizes = self._tree.places(self._keys)

    def _read_keys(self) -> np.ndarray:
        """Return (N,) byte strings: a list of four million would take 200 MB."""
        unpacker = msgpack.Unpacker(raw=True, max_buffer_size=0)
        unpacker.feed(self._get(b"__keys__"))
        with reading(f"{self.path}: __keys__ is no list of keys", _REMEDY):
            count = unpacker.read_array_header()
            stated = msgpack.unpackb(self._get(b"__len__"))
            if count != stated or count > self._tree.entries:
                raise InputError(
                    f"{self.path}: __len__ is not the {count} of __keys__, or so many entries are "
                    f"not there; {_REMEDY}"
                )
            return np.fromiter(map(self._key, (unpacker.unpack() for _ in range(count))), "S20")

    def _key(self, key: Any) -> bytes:
        if not isinstance(key, bytes) or not 0 < len(key) <= 20 or key.endswith(b"\0"):
            raise InputError(f"{self.path}: __keys__ holds {key!r:.40}; {_REMEDY}")
        return key

    def _get(self, key: bytes) -> bytes:
        with reading(f"{self.path}, key {key.decode()}", _REMEDY):
            value = self._tree.get(key)
        if value is None:
            raise self._missing(key)
        return value

    def _missing(self, key: bytes) -> InputError:
        expected = f"expected the authors' layout of {{0 .. N-1, __keys__}}; {_REMEDY}"
        return InputError(f"{self.path}: no entry {key.decode(errors='replace')}; {expected}")

    def _row(self, i: int) -> tuple[bytes, bytes | None, int]:
        """Return image, the feature's .npy or None, and label."""
        if self._offsets[i] < 0:
            raise self._missing(bytes(self._keys[i]))
        with reading(f"{self.where(i)}: no msgpack", _REMEDY):
            value = self._tree.read(int(self._offsets[i]), int(self._sizes[i]))
            row: Any = msgpack.unpackb(value, raw=True, use_list=False)
        if isinstance(row, tuple) and len(row) in (2, 3):
            image, feature, label = row[0], row[1] if len(row) == 3 else None, row[-1]
            whole = isinstance(label, int) and not isinstance(label, bool) and 0 <= label < 2**63
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
        return labels

    def encoded(self, i: int) -> bytes:
        """Return row i's image as it is stored."""
        return self._row(i)[0]

    def feature(self, i: int) -> np.ndarray | None:
        """Return row i's feature, (D,) float32, or None if the database holds none."""
        data = self._row(i)[1]
        if data is None:
            return None
        with reading(f"{self.where(i)}: the feature is no .npy", _REMEDY):
            return np.array(array_of(data), np.float32).reshape(-1)

    def where(self, i: int) -> str:
        """Name row i for an error message."""
        return f"{self.path}, key {bytes(self._keys[i]).decode(errors='replace')}"


class DatabaseWriter(Unfinished):
    """Write the authors' LMDB into one file; keys are the rows' numbers.

    The file is complete only after the block has ended well.
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
