"""The work of ``inspect``: what each kind of file or folder holds."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from vec2face.cli.opening import open_given
from vec2face.cli.weights import (
    NAMED,
    Found,
    describe_checkpoint,
    describe_onnx,
    describe_weights,
)
from vec2face.evaluation.ijb import is_ijb, read_ijb
from vec2face.faces.benchmarks import Benchmark, find_benchmarks, load_benchmark
from vec2face.faces.headers import claimed, jpeg_frame, kind
from vec2face.faces.images import decode
from vec2face.faces.pairs import is_pair_list
from vec2face.faces.reading import read_array
from vec2face.faces.source import Source, readable
from vec2face.faces.store import FaceStore
from vec2face.identities.pca import PCA
from vec2face.recognizers.features import spread
from vec2face.recognizers.weights import SUFFIXES
from vec2face.report.figures import contact_sheet, save
from vec2face.report.sheets import evenly, people, shown
from vec2face.runtime.files import InputError, sha256

Sheet = Callable[[], dict[str, list[np.ndarray]]]
"""Returns rows of faces, by their labels."""

TILE = 112  # pixels of a face on a sheet
PEOPLE, IMAGES = 8, 9
PAIRS = 4  # of each kind, of a benchmark
AT_ONCE = 4096  # rows of an array


def inspect(path: str, sample: int | None, sheet: str | None = None) -> Found:
    """Return what a path holds.

    Args:
        path: a file or folder.
        sample: how many images of a set are decoded, at even steps; None for all.
        sheet: a PNG to write, of faces or benchmarks.

    Raises:
        InputError: if it is none of the known kinds, or cannot be opened as what it is; if a sheet
            is asked for of what has no faces.
    """
    found, faces = _look(Path(path), sample)
    if sheet:
        if faces is None:
            raise InputError(f"--sheet: {path} is {found['kind']}; it has no faces to show")
        rows = faces()
        save(contact_sheet([*rows.values()], row_labels=[*rows], tile=TILE), sheet)
    return found


def _look(path: Path, sample: int | None) -> tuple[Found, Sheet | None]:
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if any(path.glob("state-*.pt")):
        path = max(path.glob("state-*.pt"))
    if path.is_file():
        if path.name.startswith("state-") and path.suffix == ".pt":
            return describe_checkpoint(path), None
        if path.suffix in (".npy", ".npz", ".onnx"):
            readers = {".npy": _array, ".npz": _pca, ".onnx": describe_onnx}
            return readers[path.suffix](path), None
        packed = path.suffix == ".tar" and not path.stem.endswith((".pth", ".pt", ".ckpt"))
        if path.suffix in (".safetensors", *SUFFIXES) and not packed:
            return describe_weights(path), None
    if is_ijb(path):
        return _ijb(path), None
    if marks := _benchmarks(path):
        return _pairs(marks, sample), lambda: {m.name: _shown_pairs(m) for m in marks}
    source = open_given([str(path)])
    return _faces(source, sample), lambda: _shown_people(source)


def _faces(source: Source, sample: int | None) -> Found:
    _, counts = np.unique(source.labels, return_counts=True)
    about: Found = {
        "kind": "faces",
        "form": type(source).__name__.removesuffix("Source").strip("_"),
    }
    if isinstance(source, FaceStore):  # opening it has compared its checksums
        about |= {name: source.manifest.get(name) for name in ("made_by", "seed", "image_size")}
        about |= {"checksums": "right", "features": source.feature_table.shape[1]}
    return about | {
        "images": len(source),
        "people": len(counts),
        "images_of_a_person": {
            "least": int(counts.min()),
            "median": float(np.median(counts)),
            "most": int(counts.max()),
        },
        **_decoded(source, sample),
    }


def _decoded(source: Source, sample: int | None) -> Found:
    """Decode images of a source; return how many, of which sizes, and which cannot be read."""
    rows = evenly(len(source), len(source) if sample is None else sample)
    good, bad = readable(source, rows, corrupt="skip")
    sizes = Counter(_size(source.encoded(int(row))) for row in good)
    return {
        "damaged": bool(bad),
        "decoded": len(rows),
        "sizes": dict(sizes.most_common(NAMED)),
        "unreadable": len(bad),
        "unreadable_first": bad[:NAMED],
    }


def _size(image: bytes) -> str:
    name = kind(image)
    width, height = jpeg_frame(image)[:2] if name == "jpeg" else claimed(image)
    return f"{name} {width} x {height}"


def _shown_people(source: Source) -> dict[str, list[np.ndarray]]:
    rows = people(source, TILE, people=PEOPLE, images=IMAGES)
    return dict(zip(map(str, shown(source.labels, PEOPLE)), rows, strict=True))


def _benchmarks(path: Path) -> list[Benchmark]:
    """Return the benchmarks of a path, none if it is one of faces."""
    if (path / "manifest.json").exists():
        return []
    if path.is_file() and not (path.suffix in (".bin", ".xz") or is_pair_list(path)):
        return []
    try:
        found = find_benchmarks(path)
    except InputError:
        if path.is_file():
            raise
        return []
    return [load_benchmark(file) for file in found.values()]


def _pairs(marks: Sequence[Benchmark], sample: int | None) -> Found:
    found = {mark.name: _benchmark(mark, sample) for mark in marks}
    damaged = any(mark.pop("damaged") for mark in found.values())
    return {"kind": "benchmarks", "damaged": damaged, "benchmarks": found}


def _benchmark(mark: Benchmark, sample: int | None) -> Found:
    return {
        "pairs": len(mark.same),
        "of_one_person": int(mark.same.sum()),
        "folds": 10 if mark.folds is None else len(np.unique(mark.folds)),
        "different_images": len(set(mark.images)),
        **_decoded(_Pictures(mark), sample),
    }


class _Pictures:
    """The images of a benchmark, as a source."""

    def __init__(self, mark: Benchmark) -> None:
        self.name, self._images = mark.name, mark.images
        self.labels = np.zeros(len(mark.images), np.int64)

    def __len__(self) -> int:
        return len(self._images)

    def encoded(self, i: int) -> bytes:
        return self._images[i]

    def feature(self, i: int) -> None:
        del i

    def where(self, i: int) -> str:
        return f"{self.name}, picture {i}"


def _shown_pairs(mark: Benchmark) -> list[np.ndarray]:
    """Return pairs of one person, then pairs of two."""
    chosen = [np.flatnonzero(mark.same == same) for same in (True, False)]
    pairs = np.concatenate([of_kind[evenly(len(of_kind), PAIRS)] for of_kind in chosen])
    rows = (int(row) for pair in pairs for row in (2 * pair, 2 * pair + 1))
    return [decode(mark.images[row], f"{mark.name}, picture {row}") for row in rows]


def _ijb(path: Path) -> Found:
    lists = read_ijb(path)
    return {
        "kind": "IJB",
        "damaged": False,
        "name": lists.name,
        "pictures": len(lists.pictures),
        "templates": len(np.unique(lists.templates)),
        "pairs": len(lists.same),
        "of_one_person": int(lists.same.sum()),
    }


def _array(path: Path) -> Found:
    array = read_array(path)
    about: Found = {"kind": "array", "damaged": False, "shape": list(array.shape)}
    about |= {"dtype": str(array.dtype), "bytes": path.stat().st_size, "sha256": sha256(path)}
    if array.ndim != 2 or array.dtype.kind != "f" or not array.size:
        return about
    bad, lengths = 0, []
    for first in range(0, len(array), AT_ONCE):
        part = array[first : first + AT_ONCE].astype(np.float64)
        fine = np.isfinite(part).all(1)
        bad += int((~fine).sum())
        lengths.append(np.linalg.norm(part[fine], axis=1))
    length = np.concatenate(lengths)
    about |= {"kind": "features", "damaged": bool(bad), "not_finite": bad}
    if len(length):
        some = np.asarray(array[evenly(len(array), AT_ONCE)])
        about["lengths"] = {"mean": length.mean(), "least": length.min(), "most": length.max()}
        about["lengths"] = {name: float(value) for name, value in about["lengths"].items()}
        about["zero"] = int((length == 0).sum())
        about["spread"] = spread(some[np.isfinite(some).all(1)])
    return about


def _pca(path: Path) -> Found:
    pca = PCA.load(path)
    about = {"kind": "PCA", "damaged": False, "sha256": sha256(path), **pca.spectrum()}
    return about | {"feature_scale": pca.feature_scale, "within": pca.within is not None}
