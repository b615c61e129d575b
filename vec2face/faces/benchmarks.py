"""Verification benchmarks: ``.bin``, ``.xz``, and folders of images with a list of pairs."""

import pickle
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vec2face.faces.pairs import is_pair_list, read_pairs
from vec2face.faces.pickles import read_pickle
from vec2face.runtime.files import InputError, whole_file

_FORMS = (
    "a .bin, a .xz, images with pairs*.txt or a .csv of path1,path2,issame, or CFP's Protocol/Split"
)


@dataclass(frozen=True)
class Benchmark:
    """A verification benchmark of P pairs.

    Attributes:
        name: what the metrics call it.
        images: 2P encoded images; pair p is images 2p and 2p + 1.
        same: (P,) bool, whether a pair shows one person.
        folds: (P,) int, the fold of each pair; None for ten contiguous runs of pairs.
    """

    name: str
    images: list[bytes]
    same: np.ndarray
    folds: np.ndarray | None = None


def load_benchmark(path: Path | str) -> Benchmark:
    """Read a benchmark: a file, a list of pairs, or a folder that holds exactly one of them.

    Raises:
        InputError: if there is none or more than one, or what is there is damaged or incomplete;
            the message names file and line.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such benchmark; set paths.benchmarks to {_FORMS}")
    if path.is_dir() and not is_pair_list(path):
        found = find_benchmarks(path)
        if len(found) > 1:
            raise InputError(f"{path}: several benchmarks ({', '.join(found)}); name one of them")
        (path,) = found.values()
    if path.suffix in (".bin", ".xz"):
        return Benchmark(_name(path), *read_pickle(path))
    if path.is_file() and path.suffix not in (".txt", ".csv"):
        raise InputError(f"{path}: not a benchmark; expected {_FORMS}")
    pairs = read_pairs(path)
    files = [file for pair in pairs for file in (pair.first, pair.second)]
    content = {file: file.read_bytes() for file in set(files)}
    return Benchmark(
        _name(path),
        [content[file] for file in files],
        np.array([pair.same for pair in pairs], bool),
        None if pairs[0].fold is None else np.array([pair.fold for pair in pairs]),
    )


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
    for file in _candidates(path):
        name = _name(file)
        if name in found:
            message = f"{file}: {found[name]} is also named {name}; rename or remove one of them"
            raise InputError(message)
        found[name] = file
    if not found:
        raise InputError(f"{path}: no benchmark there; set paths.benchmarks to {_FORMS}")
    return dict(sorted(found.items()))


def _candidates(path: Path) -> Iterator[Path]:
    if path.is_file() or is_pair_list(path):
        yield path
    elif path.is_dir():
        below = sorted(path.iterdir())
        for folder in (path, *(f for f in below if f.is_dir())):
            for file in sorted(folder.iterdir()):
                if file.is_file() and (file.suffix in (".bin", ".xz") or is_pair_list(file)):
                    yield file
            splits = (folder / "Protocol/Split" / kind for kind in ("FF", "FP"))
            yield from (split for split in splits if is_pair_list(split))


def _name(path: Path) -> str:
    if is_pair_list(path) and path.is_dir():
        return f"cfp_{path.name.lower()}"
    if path.suffix == ".txt" or path.stem == "pairs":
        name = re.sub("^pairs?_?", "", path.stem, flags=re.IGNORECASE)
        return name.lower() or path.absolute().parent.name.lower()
    return path.stem
