"""FaceStore: a folder of record shards with a manifest, written whole or not at all.

``part-00000.rec/.idx``, ... each open as an insightface record file on their own; ``labels.npy``
holds the label of every row (so that no reader walks millions of records for them), and
``features.npy``, if there, the feature of every row; ``manifest.json`` says what the store holds,
how it was made, every file's size and SHA-256, and its own. ``store_writer`` makes them.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import numpy as np

from vec2face.faces.reading import read_array, reading
from vec2face.faces.record import RecordFile
from vec2face.runtime.files import InputError, sha256

_REMEDY = "make the store again"


class FaceStore:
    """Read a store; a ``Source`` (see ``vec2face.faces.source``).

    Opening compares the size of every file with the manifest, which costs nothing; ``verify`` also
    compares the SHA-256. ``open_source`` verifies, so every stage does; workers that are handed an
    already verified path need not.

    Attributes:
        name: the folder's name.
        manifest: the content of ``manifest.json``.
        labels: (images,) int64.

    Raises:
        InputError: if the folder is no store, is incomplete, or was altered.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.name = self.path.name
        file = self.path / "manifest.json"
        if not file.is_file():
            raise InputError(f"{self.path}: no manifest.json, so no store; {_REMEDY}")
        with reading(f"{file}: not a store's manifest", _REMEDY):
            self.manifest: dict[str, Any] = json.loads(file.read_text())
            counts = self._counts()
        for entry in self._files:
            file = self.path / entry["name"]
            found = file.stat().st_size if file.is_file() else None
            if found != entry["bytes"]:
                state = (
                    "is missing" if found is None else f"has {found} bytes, not {entry['bytes']}"
                )
                raise InputError(f"{file}: {state}; the store was altered, {_REMEDY}")
        self.labels = self._load_labels(sum(counts))
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._features: np.ndarray | None = None
        if "features" in self.manifest:
            file = self.path / "features.npy"
            self._features = read_array(file)
            if self._features.ndim != 2 or len(self._features) != len(self):
                raise InputError(f"{file}: {self._features.shape} for {len(self)} rows; {_REMEDY}")
        self._shards: list[RecordFile | None] = [None] * len(counts)

    def _counts(self) -> list[int]:
        """Return the images of every shard; compare the manifest with what it must be.

        Its entries are those of a writer, by name and order, so that no other file can be put in
        the place of one, and none left out.
        """
        shards = self.manifest["shards"]
        names = [
            f"part-{number:05d}.{kind}" for kind in ("rec", "idx") for number in range(len(shards))
        ]
        names += ["labels.npy"]
        self._files = [*shards, *self.manifest["indices"], self.manifest["labels"]]
        if "features" in self.manifest or (self.path / "features.npy").exists():
            names += ["features.npy"]
            self._files += [self.manifest["features"]]
        if [entry["name"] for entry in self._files] != names:
            raise ValueError("its parts are not those of a store")
        if "sha256" in self.manifest and self.manifest["sha256"] != checksum(self.manifest):
            raise ValueError("its own checksum differs")
        counts = [shard["images"] for shard in shards]
        sizes = [entry["bytes"] for entry in self._files]
        if not all(type(number) is int and number >= 0 for number in counts + sizes):
            raise ValueError("a count is no whole number >= 0")
        if self.manifest["images"] != sum(counts):
            raise ValueError(f"{self.manifest['images']} images, but {sum(counts)} in its parts")
        return counts

    def _load_labels(self, images: int) -> np.ndarray:
        file = self.path / "labels.npy"
        labels = np.array(read_array(file))
        if labels.dtype.kind != "i" or labels.shape != (images,) or labels.min(initial=0) < 0:
            raise InputError(f"{file}: no {images} labels of whole numbers >= 0; {_REMEDY}")
        people = len(np.unique(labels))
        if people != self.manifest.get("identities"):
            raise InputError(
                f"{file}: {people} people, but the manifest says {self.manifest.get('identities')};"
                f" the store was altered, {_REMEDY}"
            )
        return labels.astype(np.int64)

    def verify(self) -> Self:
        """Compare every file's SHA-256 with the manifest.

        Raises:
            InputError: naming the first file that differs.
        """
        for entry in self._files:
            if sha256(self.path / entry["name"]) != entry.get("sha256"):
                file = self.path / entry["name"]
                raise InputError(f"{file}: the content was altered (SHA-256 differs); {_REMEDY}")
        return self

    def __len__(self) -> int:
        return len(self.labels)

    def encoded(self, i: int) -> bytes:
        """Return row i's image as it is stored."""
        shard, row = self._locate(i)
        return shard.encoded(row)

    def feature(self, i: int) -> np.ndarray | None:
        """Return row i's feature, (D,) float32, or None if the store holds none."""
        return None if self._features is None else np.array(self._features[i], np.float32)

    @property
    def feature_table(self) -> np.ndarray:
        """All features, (images, D) float32, as a memory map; (images, 0) if there are none."""
        return np.empty((len(self), 0), np.float32) if self._features is None else self._features

    def where(self, i: int) -> str:
        """Name row i for an error message."""
        shard, row = self._locate(i)
        return shard.where(row)

    def _locate(self, i: int) -> tuple[RecordFile, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path} holds rows 0 .. {len(self) - 1}, not {i}")
        s = int(np.searchsorted(self._ends, i, side="right"))
        shard = self._shards[s]
        if shard is None:
            entry = self.manifest["shards"][s]
            shard = self._shards[s] = RecordFile(self.path / entry["name"])
            if len(shard) != entry["images"]:
                raise InputError(f"{shard.path}: {len(shard)} images, not {entry['images']}")
        return shard, i - int(self._ends[s]) + len(shard)


def checksum(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of all of a manifest but its own ``sha256``."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def is_whole(path: Path | str) -> bool:
    """Tell whether a store is there, complete and unaltered."""
    try:
        FaceStore(path).verify()
    except InputError:
        return False
    return True
