"""insightface's record files: ``x.rec`` holds the images, ``x.idx`` says where each one starts.

Layout (RecordIO of DMLC, with MXNet's image header), all numbers little-endian:

* index: one line ``key <tab> offset`` a record;
* record: magic, ``part << 29 | length``, ``length`` bytes, zeros up to a multiple of four. Where
  the payload itself holds the magic on a four-byte boundary it is cut there (the magic is left
  out) and written as several records: first part 1, middle parts 2, last part 3. Uncut records are
  part 0;
* payload: ``flag, label, id, id2`` as ``<IfQQ``, then ``flag`` float32 labels if ``flag > 0``, then
  the encoded image;
* if record 0 has ``flag > 0`` and no image it is a header: its first label is one more than the
  last image's key, and later records (one an identity) hold no image. Without it every record is
  an image.

DCFace's files have the label 0 everywhere; ``list.txt`` beside them has lines ``key <tab> path``,
and the folder in the path is the identity.
"""

import mmap
import struct
from pathlib import Path

import numpy as np

from vec2face.runtime.files import InputError

MAGIC = 0xCED7230A
LARGEST_LABEL = 2**24  # above this a float32 skips integers
_MAGIC_BYTES = struct.pack("<I", MAGIC)
_HEAD = struct.Struct("<IfQQ")
_PLAIN = struct.Struct("<III")  # magic, part and length, flag
_LENGTH_BITS = 29
_AT_ONCE = 2**16  # records whose labels are read together
_KEPT = 16  # records read whose pages the map keeps


def pack(data: bytes, label: float, key: int, labels: tuple[float, ...] = ()) -> bytes:
    """Return the payload of one record; ``labels``, if given, replace the single label."""
    head = _HEAD.pack(len(labels), 0.0 if labels else label, key, 0)
    return head + np.asarray(labels, "<f4").tobytes() + data


def unpack(payload: bytes, where: str) -> tuple[np.ndarray, bytes]:
    """Split a payload into its float32 labels (at least one) and the encoded image.

    Raises:
        InputError: if the payload is shorter than its header says; ``where`` names the record.
    """
    if len(payload) >= _HEAD.size:
        flag, label, _, _ = _HEAD.unpack_from(payload)
        start = _HEAD.size + 4 * flag
        if flag == 0:
            return np.array([label], np.float32), payload[start:]
        if start <= len(payload):
            return np.frombuffer(payload, "<f4", flag, _HEAD.size), payload[start:]
    raise InputError(f"{where}: the record is too short for its own header; the file is damaged")


def frame(payload: bytes) -> bytes:
    """Return a payload as it stands in the file: magic, length and padding; cut at inner magics."""
    cuts = _aligned_magics(payload)
    starts, ends = [0, *(c + 4 for c in cuts)], [*cuts, len(payload)]
    pieces = []
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        part = 0 if not cuts else 1 if i == 0 else 3 if i == len(cuts) else 2
        if end - start >= 1 << _LENGTH_BITS:
            raise ValueError("a record holds less than 512 MiB")
        pieces.append(struct.pack("<II", MAGIC, part << _LENGTH_BITS | end - start))
        pieces.append(payload[start:end])
    return b"".join(pieces) + bytes(-len(payload) % 4)


def _aligned_magics(payload: bytes) -> list[int]:
    found, at = [], payload.find(_MAGIC_BYTES)
    while at >= 0:
        if at % 4 == 0:
            found.append(at)
        at = payload.find(_MAGIC_BYTES, at + (4 if at % 4 == 0 else 1))
    return found


class RecordFile:
    """The images of one ``.rec`` in the order of its index, read at random through a memory map.

    Attributes:
        path: the ``.rec``.
        keys: (images,) int64, the images' keys.

    Raises:
        InputError: if the index is missing or is none, or the file ends before its last record.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        keys, offsets = read_index(self.path)
        with self.path.open("rb") as file:
            if self.path.stat().st_size < 8:
                raise InputError(f"{self.path}: an empty file; copy it again")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._reads = 0
        self._words = np.frombuffer(self._map, "<u4", len(self._map) // 4)
        late = keys[offsets + 8 > len(self._map)]
        if len(late):
            raise InputError(
                f"{self.path}: truncated: {len(self._map)} bytes, but {len(late)} records start "
                f"beyond them (the first has key {late[0]}); copy the file again"
            )
        self._payload(int(offsets.max()), f"key {keys[offsets.argmax()]}")  # is the last one whole?
        self.keys, self._offsets = self._images_only(keys, offsets)

    def _images_only(self, keys: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        zero = np.flatnonzero(keys == 0)
        if not len(zero):
            return keys, offsets
        payload = self._payload(int(offsets[zero[0]]), "key 0")
        labels, image = unpack(payload, f"{self.path}, key 0")
        if image or _HEAD.unpack_from(payload)[0] == 0:
            return keys, offsets
        if not 2 <= labels[0] < 2**32 or labels[0] != int(labels[0]):
            raise InputError(
                f"{self.path}: the header record counts {labels[0] - 1:g} images; copy or make the "
                "file again"
            )
        order = np.argsort(keys, kind="stable")
        keys, offsets = keys[order], offsets[order]
        end = self._end(keys, offsets, int(labels[0]))
        images = (keys >= 1) & (keys < end)
        if np.count_nonzero(images) != end - 1:
            raise InputError(
                f"{self.path}: the header record counts {end - 1} images, the index "
                f"holds {np.count_nonzero(images)}; the two files do not belong together"
            )
        return keys[images], offsets[images]

    def _end(self, keys: np.ndarray, offsets: np.ndarray, end: int) -> int:
        """Return the key after the last image; ``end`` is a float32, whole numbers to 2^24 only.

        An identity's record, which follows the images, holds no bytes.
        """

        def holds_image(key: int) -> bool:
            i = int(np.searchsorted(keys, key))
            if i == len(keys) or keys[i] != key:
                return False
            payload = self._payload(int(offsets[i]), f"key {key}")
            return len(unpack(payload, f"{self.path}, key {key}")[1]) > 0

        rounding = int(np.spacing(np.float32(end)))  # what the header may be off by
        if rounding > 1:
            near = range(end - rounding, end + rounding + 1)
            end = max((key + 1 for key in near if holds_image(key)), default=end)
        return end

    def __len__(self) -> int:
        return len(self.keys)

    def where(self, i: int) -> str:
        """Name image i for an error message."""
        return f"{self.path}, key {self.keys[i]}"

    def encoded(self, i: int) -> bytes:
        """Return image i as it is stored (JPEG or PNG)."""
        offset = int(self._offsets[i])
        if offset + _PLAIN.size <= len(self._map):
            magic, word, flag = _PLAIN.unpack_from(self._map, offset)
            end = offset + 8 + word  # in a record that is whole, the word is the length alone
            uncut = magic == MAGIC and _HEAD.size <= word < 1 << _LENGTH_BITS
            if uncut and not flag and end <= len(self._map):
                image = self._map[offset + 8 + _HEAD.size : end]
                self._give_back()
                return image
        return self.read(i)[1]

    def read(self, i: int) -> tuple[np.ndarray, bytes]:
        """Return image i's float32 labels and its encoded bytes."""
        return unpack(self._payload(int(self._offsets[i]), f"key {self.keys[i]}"), self.where(i))

    def read_labels(self, *, skip: bool = False) -> np.ndarray:
        """Return (images,) int64: each record's label, or the first of its labels.

        Raises:
            InputError: at a record that cannot be read or whose label is no whole number >= 0;
                with ``skip`` its label is -1 instead.
        """
        labels = np.empty(len(self), np.int64)
        for first in range(0, len(self), _AT_ONCE):
            some = slice(first, first + _AT_ONCE)
            labels[some] = self._some_labels(first, self._offsets[some], skip)
            # Records touch every page of the map: give them back, so that memory stays flat.
            self._map.madvise(mmap.MADV_DONTNEED)
        return labels

    def _some_labels(self, first: int, offsets: np.ndarray, skip: bool) -> np.ndarray:
        words, at = self._words, offsets // 4
        if len(words) < 9:
            words = np.pad(words, (0, 9 - len(words)))
        whole = len(self._words) - at >= 9  # two words of frame, six of header, one label
        at = np.where(whole, at, 0)
        flags, length = words[at + 2], words[at + 1]
        values = words[np.where(flags > 0, at + 8, at + 3)].view("<f4").astype(np.float64)
        plain = whole & (words[at] == MAGIC) & (length >= _HEAD.size + 4) & (length >> 29 == 0)
        for n in np.flatnonzero(~plain | (offsets % 4 != 0)):  # cut or damaged: the long way
            try:
                values[n] = self.read(first + int(n))[0][0]
            except InputError:
                if not skip:
                    raise
                values[n] = -1
        wrong = ~(values >= 0) | (values != np.floor(values)) | (values > LARGEST_LABEL)
        if wrong.any() and not skip:
            i = int(wrong.argmax())
            raise InputError(
                f"{self.where(first + i)}: the label {values[i]} is not a whole number >= 0"
            )
        return np.where(wrong, -1, values).astype(np.int64)

    def _payload(self, offset: int, key: str) -> bytes:
        parts: list[bytes] = []
        while True:
            if offset + 8 > len(self._map):
                raise InputError(f"{self.path}, {key}: truncated; copy the file again")
            magic, word = struct.unpack_from("<II", self._map, offset)
            part, length = word >> _LENGTH_BITS, word & (1 << _LENGTH_BITS) - 1
            if magic != MAGIC or part not in ((2, 3) if parts else (0, 1)):
                raise InputError(
                    f"{self.path}, {key}: no record starts at byte {offset}; the file is damaged "
                    f"or {self.path.with_suffix('.idx').name} belongs to another one"
                )
            start = offset + 8
            if start + length > len(self._map):
                raise InputError(f"{self.path}, {key}: truncated; copy the file again")
            parts.append(self._map[start : start + length])
            if part in (0, 3):
                self._give_back()
                return _MAGIC_BYTES.join(parts)
            offset = start + (length + 3) // 4 * 4

    def _give_back(self) -> None:
        """Count a read, and now and then give the map's pages back.

        They would count as this process's memory for as long as the map lives; the system still
        has them in its cache.
        """
        self._reads += 1
        if self._reads % _KEPT == 0:
            self._map.madvise(mmap.MADV_DONTNEED)


def read_index(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys and offsets, both (records,) int64, of the index beside a ``.rec``."""
    index = path.with_suffix(".idx")
    for needed in (path, index):
        if not needed.is_file():
            raise InputError(f"{needed}: no such file; a record file needs its index beside it")
    try:
        numbers = np.fromstring(index.read_text("ascii"), np.int64, sep=" ")
    except (ValueError, DeprecationWarning) as error:
        raise InputError(f"{index}: not an index of lines 'key offset': {error}") from error
    if not len(numbers) or len(numbers) % 2 or (numbers < 0).any():
        raise InputError(f"{index}: not an index of lines 'key offset'; copy it again")
    return numbers[0::2], numbers[1::2]
