"""FaceStore: a folder of record shards with a manifest, written whole or not at all.

``part-00000.rec/.idx``, ... each open as an insightface record file on their own; ``labels.npy``
holds the label of every row (so that no reader walks millions of records for them), and
``features.npy``, if there, the feature of every row; ``manifest.json`` says what the store holds,
how it was made, and every file's size and SHA-256. ``store_writer`` makes them.
"""

import json
from pathlib import Path
from typing import Any, Self

import numpy as np

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
        try:
            self.manifest: dict[str, Any] = json.loads((self.path / "manifest.json").read_text())
            self._files: list[dict[str, Any]] = [
                *self.manifest["shards"],
                *self.manifest["indices"],
                self.manifest["labels"],
                *([self.manifest["features"]] if "features" in self.manifest else []),
            ]
            sizes = {str(entry["name"]): int(entry["bytes"]) for entry in self._files}
            counts = [int(shard["images"]) for shard in self.manifest["shards"]]
        except FileNotFoundError as error:
            raise InputError(f"{self.path}: no manifest.json, so no store; {_REMEDY}") from error
        except (ValueError, KeyError, TypeError) as error:
            message = f"{self.path / 'manifest.json'}: not a store's manifest ({error}); {_REMEDY}"
            raise InputError(message) from error
        for name, size in sizes.items():
            file = self.path / name
            found = file.stat().st_size if file.is_file() else None
            if found != size:
                state = "is missing" if found is None else f"has {found} bytes, not {size}"
                raise InputError(f"{file}: {state}; the store was altered, {_REMEDY}")
        file = self.path / self.manifest["labels"]["name"]
        try:
            self.labels = np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InputError(f"{file}: not an array of labels ({error}); {_REMEDY}") from error
        self._ends = np.cumsum(counts, dtype=np.int64)
        if len(self.labels) != sum(counts):
            message = f"{self.path}: {len(self.labels)} labels for {sum(counts)} images; {_REMEDY}"
            raise InputError(message)
        self._features: np.ndarray | None = None
        if "features" in self.manifest:
            file = self.path / self.manifest["features"]["name"]
            self._features = np.load(file, mmap_mode="r", allow_pickle=False)
            if self._features.ndim != 2 or len(self._features) != len(self):
                raise InputError(f"{file}: {self._features.shape} for {len(self)} rows; {_REMEDY}")
        self._shards: list[RecordFile | None] = [None] * len(counts)

    def verify(self) -> Self:
        """Compare every file's SHA-256 with the manifest.

        Raises:
            InputError: naming the first file that differs.
        """
        for entry in self._files:
            if sha256(self.path / entry["name"]) != entry["sha256"]:
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


def is_whole(path: Path | str) -> bool:
    """Tell whether a store is there, complete and unaltered."""
    try:
        FaceStore(path).verify()
    except InputError:
        return False
    return True
