"""Making a FaceStore (see ``store``): image by image, or by joining finished ones."""

import contextlib
from array import array
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from vec2face.faces.record_writer import RecordWriter
from vec2face.faces.store import FaceStore, checksum
from vec2face.runtime.files import (
    InputError,
    link,
    row_file,
    sha256,
    sweep,
    whole_folder,
    write_json,
)

IMAGES_PER_SHARD = 100_000


class FaceStoreWriter:
    """Write a store under a temporary name; it appears at ``path`` when the block ends well.

    Args:
        path: the store's folder; an older one is replaced.
        image_size: side of the images in pixels, for the manifest.
        seed: the seed of what is written, for the manifest.
        made_by: the program that writes, for the manifest.
        images_per_shard: at most so many images in one ``.rec``.
        skipped: messages naming the entries of the source that were left out, for the manifest,
            which counts them and holds the first thousand; None if nothing was copied.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        image_size: int,
        seed: int,
        made_by: str,
        images_per_shard: int = IMAGES_PER_SHARD,
        skipped: Sequence[str] | None = None,
    ):
        self._about = _about(image_size, seed, made_by, skipped)
        self._limit = images_per_shard
        self._labels = array("q")
        self._features: BinaryIO | None = None
        self._width = 0
        self._counts: list[int] = []
        self._shard: RecordWriter | None = None
        self._path = Path(path)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._folder = self._stack.enter_context(whole_folder(self._path))
        return self

    def append(self, jpeg: bytes, label: int, feature: np.ndarray | None = None) -> None:
        """Add one encoded image as the next row, with its (D,) feature in all rows or in none."""
        if (feature is not None) != bool(self._width) and len(self._labels):
            raise ValueError(f"row {len(self._labels)}: features are of all rows or of none")
        if self._shard is None or self._shard.images >= self._limit:
            self._close_shard()
            self._shard = RecordWriter(self._folder / f"part-{len(self._counts):05d}.rec")
        self._shard.append(jpeg, label)
        self._labels.append(label)
        if feature is not None:
            self._append_feature(np.ascontiguousarray(feature, "<f4"))

    def _append_feature(self, feature: np.ndarray) -> None:
        if self._features is None:
            self._width = len(feature)
            self._features = (self._folder / "features.npy").open("wb")
            self._write_header(0)
        if feature.shape != (self._width,):
            raise ValueError(f"a feature of shape {feature.shape} among those of {self._width}")
        self._features.write(feature.tobytes())

    def _write_header(self, rows: int) -> None:
        """Write the header of ``features.npy``; numpy leaves room in it for more rows."""
        assert self._features is not None
        about = {"descr": "<f4", "fortran_order": False, "shape": (rows, self._width)}
        self._features.seek(0)
        np.lib.format.write_array_header_1_0(self._features, about)

    def extend(self, jpegs: Sequence[bytes], labels: Sequence[int] | np.ndarray) -> None:
        """Add several encoded images as the next rows."""
        for jpeg, label in zip(jpegs, labels, strict=True):
            self.append(jpeg, int(label))

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._counts.append(self._shard.images)
            self._shard = None

    def _complete(self) -> None:
        self._close_shard()
        np.save(self._folder / "labels.npy", np.array(self._labels, np.int64))
        if self._features is not None:
            self._write_header(len(self._labels))
            self._features.close()
        names = [f"part-{i:05d}" for i in range(len(self._counts))]
        shards = [
            {**_entry(self._folder / f"{name}.rec"), "images": count}
            for name, count in zip(names, self._counts, strict=True)
        ]
        indices = [_entry(self._folder / f"{name}.idx") for name in names]
        _write_manifest(self._folder, self._about, shards, indices)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            with self._stack:
                self._complete()
            return
        if self._shard is not None:
            self._shard.discard()
        if self._features is not None:
            with contextlib.suppress(OSError):  # as a full disk has it
                self._features.close()
        self._stack.__exit__(kind, error, trace)  # drops the unfinished folder


def join_stores(
    path: Path | str,
    parts: Sequence[Path],
    *,
    image_size: int,
    seed: int,
    made_by: str,
    skipped: Sequence[str] | None = None,
    features: bool = True,
) -> None:
    """Make one store of others, in their order: what one writer would have written, to the byte.

    The record files become links to those of the parts, so that this costs neither time nor disk.

    Args:
        path: the store's folder; an older one is replaced.
        parts: stores of one shard each.
        image_size: see ``FaceStoreWriter``, as for the next three.
        seed: see there.
        made_by: see there.
        skipped: see there.
        features: whether the parts' features go along, if they have some.

    Raises:
        InputError: if one of the parts is incomplete; if the disk is full.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    shards: list[dict[str, Any]] = []
    indices: list[dict[str, Any]] = []
    with whole_folder(path) as folder:
        stores = [FaceStore(part) for part in parts]
        for number, store in enumerate(stores):
            ((shard,), (index,)) = store.manifest["shards"], store.manifest["indices"]
            for entry, suffix, entries in ((shard, "rec", shards), (index, "idx", indices)):
                name = f"part-{number:05d}.{suffix}"
                link(store.path / entry["name"], folder / name)
                entries.append({**entry, "name": name})
        labels = [store.labels for store in stores]
        np.save(folder / "labels.npy", np.concatenate([np.empty(0, np.int64), *labels]))
        if features and stores and "features" in stores[0].manifest:
            join_features(folder / "features.npy", stores)
        _write_manifest(folder, _about(image_size, seed, made_by, skipped), shards, indices)


def join_features(path: Path | str, stores: Sequence[FaceStore]) -> None:
    """Write the features of some stores, which all have them, as one ``.npy``."""
    widths = {store.feature_table.shape[1] for store in stores}
    if len(widths) != 1:
        raise InputError(f"{path}: features of {sorted(widths)} dimensions do not join")
    with row_file(path, sum(map(len, stores)), *widths) as append:
        for store in stores:
            for first in range(0, len(store), 4096):
                append(store.feature_table[first : first + 4096])


def _about(
    image_size: int, seed: int, made_by: str, skipped: Sequence[str] | None
) -> dict[str, Any]:
    about: dict[str, Any] = {"image_size": image_size, "seed": seed, "made_by": made_by}
    if skipped is not None:
        about["skipped"] = {"count": len(skipped), "entries": list(skipped[:1000])}
    return about


def _entry(file: Path) -> dict[str, Any]:
    return {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256(file)}


def _write_manifest(
    folder: Path, about: dict[str, Any], shards: list[dict[str, Any]], indices: list[dict[str, Any]]
) -> None:
    """Complete a store's folder, which holds all but the manifest."""
    labels = np.load(folder / "labels.npy", allow_pickle=False)
    seen = np.zeros(int(labels.max(initial=-1)) + 1, bool)  # labels of records stay below 2**24
    seen[labels] = True
    content = {
        **about,
        "images": len(labels),
        "identities": int(seen.sum()),
        "shards": shards,
        "indices": indices,
        "labels": _entry(folder / "labels.npy"),
    }
    if (folder / "features.npy").exists():
        content["features"] = _entry(folder / "features.npy")
    write_json(folder / "manifest.json", {**content, "sha256": checksum(content)})
