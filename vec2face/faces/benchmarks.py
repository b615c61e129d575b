"""Verification benchmarks: ``.bin``, ``.xz``, ``.npy``, and images with a list of pairs."""

import logging
import pickle
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from vec2face.faces.array_pairs import FLAGS, read_array_pairs
from vec2face.faces.pairs import is_pair_list, read_pairs
from vec2face.faces.pickles import read_pickle
from vec2face.faces.reading import reading, regular
from vec2face.runtime.files import InputError, whole_file

log = logging.getLogger(__name__)

FOLDS = 10
_FORMS = (
    "a .bin, a .xz, a .npy with issame.txt, images with pairs*.txt or a .csv of "
    "path1,path2,issame, or CFP's Protocol/Split"
)


@dataclass(frozen=True)
class Benchmark:
    """A verification benchmark of P pairs.

    Attributes:
        name: what the metrics call it.
        images: 2P encoded images; pair p is images 2p and 2p + 1.
        same: (P,) bool, whether a pair shows one person.
        folds: (P,) int, the fold of each pair; None for ten contiguous runs of pairs, which are
            the convention of a ``.bin``.
    """

    name: str
    images: Sequence[bytes]
    same: np.ndarray
    folds: np.ndarray | None = None


def load_benchmark(path: Path | str) -> Benchmark:
    """Read a benchmark: a file, a list of pairs, or a folder that holds exactly one of them.

    The folds are those that a list states. Of other lists, the n-th tenth of the pairs of one
    person and the n-th tenth of those of two are fold n; so are they in a file in which one of
    ten contiguous runs holds pairs of one kind alone.

    Raises:
        InputError: if there is none or more than one, what is there is damaged or incomplete (the
            message names file and line), all pairs are of one kind, or there are fewer than ten
            and no list states their folds.
    """
    with reading(path, "expected " + _FORMS):
        return _load(Path(path))


def _load(path: Path) -> Benchmark:
    if not path.exists():
        raise InputError(f"{path}: no such benchmark; expected {_FORMS}")
    if path.is_dir() and not is_pair_list(path):
        found = find_benchmarks(path)
        if len(found) > 1:
            raise InputError(f"{path}: several benchmarks ({', '.join(found)}); name one of them")
        (path,) = found.values()
    if path.suffix in (".bin", ".xz", ".npy"):
        read = read_array_pairs if path.suffix == ".npy" else read_pickle
        images, same = read(regular(path))
        return Benchmark(_name(path), images, same, _folds(path, same, None))
    if path.is_file() and path.suffix not in (".txt", ".csv"):
        raise InputError(f"{path}: not a benchmark; expected {_FORMS}")
    pairs = read_pairs(path)
    files = [file for pair in pairs for file in (pair.first, pair.second)]
    content = {file: file.read_bytes() for file in set(files)}
    same = np.array([pair.same for pair in pairs], bool)
    folds = _folds(path, same, [pair.fold for pair in pairs])
    return Benchmark(_name(path), [content[file] for file in files], same, folds)


def _folds(path: Path, same: np.ndarray, stated: list[int | None] | None) -> np.ndarray | None:
    """Return the folds, (P,) int, or None for ten contiguous runs; ``stated`` is a list's."""
    if same.all() or not same.any():
        kind = "one person" if same.all() else "two people"
        raise InputError(f"{path}: all {len(same)} pairs are of {kind}; expected both kinds")
    names = sorted({fold for fold in stated or () if fold is not None})
    if len(same) < FOLDS and len(names) < 2:
        raise InputError(
            f"{path}: {len(same)} pairs do not make {FOLDS} folds; add pairs, or give a .csv of "
            "path1,path2,issame,fold"
        )
    if stated is None:
        runs = np.repeat(np.arange(FOLDS), _sizes(len(same), FOLDS))
        if not _lopsided(runs, same):
            return None
        log.warning(
            "%s: one of ten runs of pairs has one kind alone; fold n is now the n-th tenth of the "
            "pairs of one person and of those of two",
            path,
        )
    if len(names) < 2:
        names, stated = list(range(FOLDS)), [None] * len(same)
    folds = np.array([-1 if fold is None else fold for fold in stated or ()])
    for of_kind in (same, ~same):
        without = np.flatnonzero((folds < 0) & of_kind)
        folds[without] = np.repeat(names, _sizes(len(without), len(names)))
    if few := _lopsided(folds, same):
        log.warning("%s: %d folds hold pairs of one kind alone", path, few)
    return folds


def _sizes(pairs: int, folds: int) -> list[int]:
    """Return the sizes of contiguous folds; the first (pairs mod folds) have one pair more."""
    return [pairs // folds + (n < pairs % folds) for n in range(folds)]


def _lopsided(folds: np.ndarray, same: np.ndarray) -> int:
    """Return how many folds hold pairs of one kind alone."""
    ones, twos = set(folds[same].tolist()), set(folds[~same].tolist())
    return len(ones ^ twos)


def save_benchmark(path: Path | str, images: Sequence[bytes], same: Sequence[bool]) -> None:
    """Write a ``.bin`` of 2P encoded images and P flags; equal content gives equal bytes."""
    if not len(same) or len(images) != 2 * len(same):
        raise ValueError(f"{len(images)} images for {len(same)} pairs; expected two a pair")
    # Pickle writes a repeated object once: make that depend on content, not on identity.
    once: dict[bytes, bytes] = {}
    content = ([once.setdefault(image, image) for image in images], [bool(s) for s in same])
    with whole_file(path) as temporary:
        temporary.write_bytes(pickle.dumps(content, protocol=4))


def find_benchmarks(path: Path | str) -> dict[str, Path]:
    """Return the benchmarks in a folder and in the folders it holds, by name, sorted.

    A file, a list or CFP's folder is its own only one. Files are named by their stem; a list
    ``pairs.txt`` or ``pairs.csv`` by its folder, ``pair_SLLFW.txt`` is ``sllfw``; CFP is ``cfp_ff``
    and ``cfp_fp``.

    Raises:
        InputError: if there are none, or two of one name.
    """
    path = Path(path)
    found: dict[str, Path] = {}
    with reading(path):
        files = list(_candidates(path))
    for file in files:
        name = _name(file)
        if name in found:
            message = f"{file}: {found[name]} is also named {name}; rename or remove one of them"
            raise InputError(message)
        found[name] = file
    if not found:
        raise InputError(f"{path}: no benchmark there; expected {_FORMS}")
    return dict(sorted(found.items()))


def _candidates(path: Path) -> Iterator[Path]:
    if path.is_file() or is_pair_list(path):
        yield path
    elif path.is_dir():
        below = sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
        for folder in (path, *below):
            for file in sorted(folder.iterdir()):
                if file.name.startswith("."):
                    continue
                if file.is_file() and (_is_known(file) or is_pair_list(file)):
                    yield file
            splits = (folder / "Protocol/Split" / kind for kind in ("FF", "FP"))
            yield from (split for split in splits if is_pair_list(split))


def _is_known(file: Path) -> bool:
    of_arrays = file.suffix == ".npy" and file.with_name(FLAGS).is_file()
    return of_arrays or file.suffix in (".bin", ".xz")


def _name(path: Path) -> str:
    name = path.stem
    if is_pair_list(path) and path.is_dir():
        name = f"cfp_{path.name.lower()}"
    elif path.suffix == ".txt" or name == "pairs":
        name = re.sub("^pairs?_?", "", name, flags=re.IGNORECASE).lower()
        name = name or path.absolute().parent.name.lower()
    if not re.fullmatch(r"[\w+-][\w .+-]{0,99}", name):
        raise InputError(
            f"{path}: {name!r} is no plain name; rename it, with letters, digits, spaces, _ and -"
        )
    return name


class BenchmarkFaces:
    """Every different picture of a folder's benchmarks, once, as a source of faces.

    Nobody is named in a benchmark, so each picture has a label of its own.

    Raises:
        InputError: as ``load_benchmark`` and ``find_benchmarks``.
    """

    def __init__(self, path: Path | str) -> None:
        self.name = "benchmarks"
        places: dict[bytes, tuple[Sequence[bytes], int, Path]] = {}
        for file in find_benchmarks(path).values():
            images = load_benchmark(file).images
            for i, image in enumerate(images):
                places.setdefault(sha256(image).digest(), (images, i, file))
        self._places = list(places.values())
        self.labels = np.arange(len(self._places))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places)

    def encoded(self, i: int) -> bytes:
        """Return picture i as it is stored."""
        images, place, _ = self._places[i]
        return images[place]

    def feature(self, i: int) -> np.ndarray | None:
        """Return nothing: benchmarks hold no features."""
        return None

    def where(self, i: int) -> str:
        """Name picture i for an error message."""
        _, place, file = self._places[i]
        return f"{file}: picture {place}"
