"""Lists of pairs beside folders of images, as the field publishes its benchmarks.

- ``pairs.txt`` of LFW: ``sets<TAB>pairs``, then for every set so many lines ``name i j`` (one
  person) and as many ``name i other j`` (two); images are ``name/name_0001.jpg``. A set is a fold.
- SLLFW: two lines a pair, a path each; one person if both lie in the same directory.
- CALFW and CPLFW: the same with a number after the path: 0 for two people, else the fold.
- CFP: ``Protocol/Split/{FF,FP}/NN/{same,diff}.txt`` with lines ``i,j``, which count from 1 in
  ``Protocol/Pair_list_F.txt`` and, for FP, its ``_P`` (lines ``i path``, relative to Protocol).
- CSV with a header: ``path1,path2,issame`` and maybe ``fold``.

Paths are relative to the list's folder or to the one folder in it that has the images. Pairs whose
fold no list states have none here: ``benchmarks.load_benchmark`` gives them one.
"""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from vec2face.faces.reading import reading, regular
from vec2face.runtime.files import InputError, inside


class Pair(NamedTuple):
    """Two image files, whether they show one person, the fold if the list says it, and the line."""

    first: Path
    second: Path
    same: bool
    fold: int | None
    where: str


_Line = tuple[int, str]
_Row = tuple[str, str, bool, int | None, str]  # paths, same, fold, where in the file


def is_pair_list(path: Path) -> bool:
    """Return whether a path is by its name (a CSV: by its header) a list that this module reads."""
    if path.name.startswith("."):  # Apple's ._x and other hidden files
        return False
    if path.is_dir():
        return (
            path.name in ("FF", "FP")
            and path.parent.name == "Split"
            and (path.parents[1] / "Pair_list_F.txt").is_file()
        )
    if path.suffix == ".txt":
        return path.stem.lower().startswith("pair") and not path.stem.startswith("Pair_list_")
    if path.suffix == ".csv" and path.is_file():
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return set(_header(file.readline(1 << 16).strip())) >= _CSV
    return False


def read_pairs(path: Path) -> list[Pair]:
    """Read a list of pairs: a ``.txt``, a ``.csv``, or CFP's ``Protocol/Split/FP`` or ``FF``.

    Raises:
        InputError: naming the line that is no pair, or the images that are missing.
    """
    if path.is_dir():
        pairs = list(_cfp(path))
    else:
        lines = _lines(path)
        pairs = _with_files(path, list(_form(path, lines)(path, lines)))
    if not pairs:
        raise InputError(f"{path}: no pair in it; download it again")
    folds = {pair.fold for pair in pairs}
    if len(folds) == 1 and folds != {None}:
        raise InputError(f"{path}: all pairs are in one fold; expected ten, or no fold at all")
    missing: dict[Path, str] = {}
    for pair in pairs:
        for file in (pair.first, pair.second):
            if not _is_file(file):
                missing.setdefault(file, pair.where)
    if missing:
        file, where = next(iter(missing.items()))
        raise InputError(
            f"{where}: {file!s:.300} is missing ({len(missing)} images are); put them there"
        )
    return pairs


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a name that is too long
        return False


def _lines(path: Path) -> list[_Line]:
    try:
        text = regular(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text ({error}); expected a list of pairs") from None
    return [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]


def _form(path: Path, lines: list[_Line]) -> Callable[[Path, list[_Line]], Iterator[_Row]]:
    if path.suffix == ".csv":
        return _csv
    first = lines[0][1].split() if lines else []
    return _lfw if first and all(map(str.isdecimal, first)) else _two_lines


def _lfw(path: Path, lines: list[_Line]) -> Iterator[_Row]:
    header = lines[0][1].split()
    numbers = len(header) == 2 and _numbers(*header)
    if not numbers or len(lines) - 1 != 2 * int(header[0]) * int(header[1]):
        raise InputError(
            f"{path}, line 1: {len(lines) - 1} pairs after '{lines[0][1].strip():.40}'; expected a"
            " number of sets, and of pairs of each kind in a set"
        )
    for n, (line, text) in enumerate(lines[1:]):
        fold = n // (2 * int(header[1]))
        match text.split():
            case [name, i, j] if _numbers(i, j):
                yield _lfw_file(name, i), _lfw_file(name, j), True, fold, f"line {line}"
            case [name, i, other, j] if _numbers(i, j):
                yield _lfw_file(name, i), _lfw_file(other, j), False, fold, f"line {line}"
            case _:
                form = "'name i j' or 'name i other j'"
                raise InputError(f"{path}, line {line}: '{text.strip():.100}'; expected {form}")


def _numbers(*texts: str) -> bool:
    return all(re.fullmatch("[0-9]{1,9}", text) for text in texts)


def _lfw_file(name: str, i: str) -> str:
    return f"{name}/{name}_{int(i):04d}.jpg"


def _two_lines(path: Path, lines: list[_Line]) -> Iterator[_Row]:
    if len(lines) % 2:
        raise InputError(f"{path}, line {lines[-1][0]}: a pair is two lines, and this one is alone")
    for (line, first), (other, second) in zip(lines[::2], lines[1::2], strict=True):
        where = f"lines {line} and {other}"
        match first.split(), second.split():
            case [[a], [b]] if "/" in a and "/" in b:
                yield a, b, Path(a).parent == Path(b).parent, None, where
            case [[a, fold], [b, again]] if fold == again and _numbers(fold):
                yield a, b, int(fold) > 0, int(fold) or None, where
            case _:
                raise InputError(
                    f"{path}, {where}: '{first.strip():.80}' and '{second.strip():.80}' are no pair"
                    "; expected person/image, or an image and a flag, on two lines"
                )


_CSV = {"path1", "path2", "issame"}
_FLAGS = {"1": True, "true": True, "0": False, "false": False}


def _csv(path: Path, lines: list[_Line]) -> Iterator[_Row]:
    header = _header(lines[0][1]) if lines else []
    if not set(header) >= _CSV:
        message = (
            f"{path}, line 1: '{','.join(header):.100}'; expected path1,path2,issame and maybe fold"
        )
        raise InputError(message)
    for line, text in lines[1:]:
        with reading(f"{path}, line {line}"):
            values = _fields(text)
        row = dict(zip(header, values, strict=False))
        same, fold = _FLAGS.get(row.get("issame", "").lower()), row.get("fold", "")
        whole = _numbers(fold) if "fold" in header else not fold
        if len(values) != len(header) or same is None or not whole:
            raise InputError(
                f"{path}, line {line}: '{text:.80}'; expected two paths, issame 0 or 1, and a"
                " whole number if there is a column fold"
            )
        yield row["path1"], row["path2"], same, int(fold) if fold else None, f"line {line}"


def _fields(text: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([text]), [])]


def _header(text: str) -> list[str]:
    return [name.lower() for name in _fields(text)]


def _with_files(path: Path, rows: list[_Row]) -> list[Pair]:
    root = path.parent
    rows = [(_slashes(a), _slashes(b), same, fold, where) for a, b, same, fold, where in rows]
    if rows and not _is_file(root / rows[0][0]):
        below = sorted(f for f in root.iterdir() if _is_file(f / rows[0][0]))
        root = below[0] if below else root
    pairs = []
    for first, second, same, fold, place in rows:
        where = f"{path}, {place}"
        pairs.append(Pair(_file(root, first, where), _file(root, second, where), same, fold, where))
    return pairs


def _slashes(name: str) -> str:
    return name if "/" in name else name.replace("\\", "/")  # as Windows writes


def _file(root: Path, name: str, where: str) -> Path:
    try:
        return inside(root, name)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _cfp(path: Path) -> Iterator[Pair]:
    path = path.absolute()
    frontal = _cfp_images(path.parents[1] / "Pair_list_F.txt")
    other = frontal
    if path.name == "FP":
        other = _cfp_images(path.parents[1] / "Pair_list_P.txt")
    folds = sorted(fold for fold in path.iterdir() if fold.is_dir() and _numbers(fold.name))
    for fold in folds:
        for name, same in (("same.txt", True), ("diff.txt", False)):
            for line, text in _cfp_lines(fold / name):
                where = f"{fold / name}, line {line}"
                found = re.fullmatch(r"\s*([0-9]{1,9})\s*,\s*([0-9]{1,9})\s*", text)
                if not found or int(found[1]) not in frontal or int(found[2]) not in other:
                    raise InputError(
                        f"{where}: '{text:.100}'; expected two numbers of the pair lists"
                    )
                pair = frontal[int(found[1])], other[int(found[2])]
                yield Pair(*pair, same, int(fold.name), where)


def _cfp_images(path: Path) -> dict[int, Path]:
    images = {}
    for line, text in _cfp_lines(path):
        where = f"{path}, line {line}"
        match text.split():
            case [number, name] if _numbers(number):
                images[int(number)] = _file(path.parents[1], f"{path.parent.name}/{name}", where)
            case _:
                raise InputError(f"{where}: '{text:.100}'; expected a number and a path")
    return images


def _cfp_lines(path: Path) -> list[_Line]:
    if not path.is_file():
        raise InputError(f"{path}: missing; CFP's protocol needs it, unpack it again")
    return _lines(path)
