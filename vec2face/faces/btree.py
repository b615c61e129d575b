"""LMDB's file, read without mapping it: a damaged page is an error, not the end of the process.

The library maps the file and follows what stands in it, so that a wrong number reads beyond the
map and the system kills the process. Here every number is compared with the page or file it must
lie in. Layout, little-endian, of a file that a 64-bit machine wrote (LMDB 0.9):

* pages of equal size, each with a header: number ``<Q``, 2 bytes, flags, end of the node table,
  start of the nodes ``<HHH``; after it the node table, ``<H`` each, sorted by key;
* pages 0 and 1 say where the tree starts; the one with the later transaction counts;
* node: ``<HHHH`` and the key. In a branch the first three are the child's page; in a leaf the
  first two are the value's size, the third is 1 if the value lies on pages of its own, and then
  their number ``<Q`` stands in its place.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MAGIC = b"\xde\xc0\xef\xbe"
"""Bytes 16 to 19 of the file."""

_HEADER = struct.Struct("<QHHHH")
_META = struct.Struct("<IIQQ")  # magic, version, address, size of the map
_TREE = struct.Struct("<IHHQQQQQ")  # page size, flags, depth, three counts, entries, root
_NODE = struct.Struct("<HHHH")
_BRANCH, _LEAF = 1, 2
_ON_ITS_OWN = 1
_NOWHERE = 2**64 - 1
_DEEPEST = 64


class BTree:
    """The main tree of an LMDB file; threads may share it.

    Raises:
        ValueError: if the file is none, is cut off, or has another byte order or kind of keys.
    """

    def __init__(self, file: Path):
        self._file = file.open("rb", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        first = self.read(0, 512)
        self._page_size = _TREE.unpack_from(first, 40)[0]
        if first[16:20] != MAGIC or self._page_size not in (2**n for n in range(9, 17)):
            raise ValueError("not an LMDB of this kind of machine")
        metas = [self.read(n * self._page_size, 152) for n in (0, 1)]
        whole = [m for m in metas if _META.unpack_from(m, 16)[:2] == (0xBEEFC0DE, 1)]
        if not whole:
            raise ValueError("not an LMDB of this version")
        last = max(whole, key=lambda meta: struct.unpack_from("<Q", meta, 144))
        _, flags, _, _, _, _, self.entries, self._root = _TREE.unpack_from(last, 88)
        if flags:
            raise ValueError("its keys are numbers, reversed or repeated")
        needed = (struct.unpack_from("<Q", last, 136)[0] + 1) * self._page_size
        if needed > self._size:
            raise ValueError(f"truncated: {self._size} bytes, not {needed}; copy it again")

    def get(self, key: bytes) -> bytes | None:
        """Return a key's value, or None if there is no such key.

        Raises:
            ValueError: if a page on the way is damaged.
        """
        number = self._root
        if number == _NOWHERE:
            return None
        for _ in range(_DEEPEST):
            page, nodes, leaf = self._read_page(number)
            at, found = _search(page, nodes, key, leaf)
            low, middle, high, length = _NODE.unpack_from(page, at)
            if not leaf:
                number = low | middle << 16 | high << 32
                continue
            return self._value(page, at + 8 + length, low | middle << 16, high) if found else None
        raise ValueError("pages lead in a circle")

    def places(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where the values of keys stand in the file, for ``read``.

        Args:
            keys: (N,) byte strings of a numpy type that is wide enough for all of them.

        Returns:
            Offsets (N,) and sizes (N,), int64; the offset is -1 if there is no such key.

        Raises:
            ValueError: if a page of the tree is damaged.
        """
        parts = [self._leaf(number, keys.dtype) for number in self._leaves()]
        if not parts:
            return np.full(len(keys), -1), np.zeros(len(keys), np.int64)
        there, offsets, sizes = (np.concatenate(column) for column in zip(*parts, strict=True))
        at = np.minimum(np.searchsorted(there, keys), len(there) - 1)
        return np.where(there[at] == keys, offsets[at], -1), sizes[at]

    def _leaves(self) -> Iterator[int]:
        waiting, left = [self._root] * (self._root != _NOWHERE), self._size // self._page_size
        while waiting:
            number, left = waiting.pop(), left - 1
            page, nodes, leaf = self._read_page(number)
            if left < 0:
                raise ValueError("pages lead in a circle")
            if leaf:
                yield number
                continue
            for at in reversed(nodes):
                low, middle, high, _ = _NODE.unpack_from(page, at)
                waiting.append(low | middle << 16 | high << 32)

    def _leaf(self, number: int, kind: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the keys of a leaf, and offsets and sizes of their values in the file."""
        page, found, _ = self._read_page(number)
        width = kind.itemsize
        letters = np.frombuffer(page + bytes(width + 8), np.uint8)
        nodes = np.array(found)
        low, high, flags, length = letters[nodes[:, None] + np.arange(8)].view("<u2").T.astype(int)
        starts = nodes + 8 + length
        sizes = low | high << 16
        apart = flags == _ON_ITS_OWN
        if (starts + np.where(apart, 8, sizes) > len(page)).any() or (flags & ~_ON_ITS_OWN).any():
            raise ValueError(f"page {number} is damaged")
        away = letters[starts[:, None] + np.arange(8)].view("<u8")[:, 0]
        if (away[apart] > self._size // self._page_size).any():
            raise ValueError(f"page {number} is damaged")
        inside = number * self._page_size + starts
        offsets = np.where(apart, away.astype(int) * self._page_size + _HEADER.size, inside)
        keys = letters[nodes[:, None] + 8 + np.arange(width)]
        keys[np.arange(width) >= length[:, None]] = 0
        short = length <= width
        return keys.view(kind)[short, 0], offsets[short], sizes[short]

    def _value(self, page: bytes, at: int, size: int, flags: int) -> bytes:
        if flags == 0 and at + size <= len(page):
            return page[at : at + size]
        if flags == _ON_ITS_OWN and at + 8 <= len(page):
            (number,) = struct.unpack_from("<Q", page, at)
            return self.read(number * self._page_size + _HEADER.size, size)
        raise ValueError("a value lies outside of its page")

    def _read_page(self, number: int) -> tuple[bytes, tuple[int, ...], bool]:
        """Return a page, where its nodes are, and whether it is a leaf."""
        page = self.read(number * self._page_size, self._page_size)
        own, _, flags, end, _ = _HEADER.unpack_from(page)
        count = (end - _HEADER.size) // 2
        if own != number or flags not in (_BRANCH, _LEAF) or not 0 < count < len(page) // 2:
            raise ValueError(f"page {number} is damaged")
        nodes = struct.unpack_from(f"<{count}H", page, _HEADER.size)
        if min(nodes) < end or max(nodes) > len(page) - _NODE.size:
            raise ValueError(f"page {number} is damaged")
        return page, nodes, flags == _LEAF

    def read(self, offset: int, size: int) -> bytes:
        """Return so many bytes of the file.

        Raises:
            ValueError: if it does not have them.
        """
        if offset + size > self._size:
            raise ValueError(f"damaged or cut off: byte {offset} of {self._size}")
        data = os.pread(self._file.fileno(), size, offset)
        if len(data) != size:
            raise ValueError(f"cut off at byte {offset + len(data)}")
        return data


def _search(page: bytes, nodes: tuple[int, ...], key: bytes, leaf: bool) -> tuple[int, bool]:
    """Return where the last node is whose key is at most ``key``, and whether it has that key.

    The first node of a branch stands for all smaller keys, whatever it says.
    """
    low, high = 0 if leaf else 1, len(nodes)
    while low < high:
        middle = (low + high) // 2
        at = nodes[middle]
        (length,) = struct.unpack_from("<H", page, at + 6)
        if page[at + 8 : at + 8 + length] <= key:
            low = middle + 1
        else:
            high = middle
    at = nodes[max(low - 1, 0)]
    (length,) = struct.unpack_from("<H", page, at + 6)
    return at, page[at + 8 : at + 8 + length] == key and at + 8 + length <= len(page)
