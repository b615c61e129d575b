"""Faces that lie in files of their own: ``identity/image.jpg`` folders and lists of them."""

import csv
import os
import posixpath
import re
from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from vec2face.faces.named import IMAGES, Images, NamedFaces, Names, label_by_folder
from vec2face.faces.reading import reading, regular
from vec2face.runtime.files import InputError

_DEEPEST = 8  # folders in folders; more is a link that leads in a circle


class FolderSource(NamedFaces):
    """``identity/image.jpg``: the folder of an image is its identity.

    Identities are numbered in the order of the sorted paths. Hidden files are passed over; files
    that are no images, neither by their ending nor by their content, are counted and left out.

    Raises:
        InputError: if there are no images, or one lies in no identity's folder.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.name = self.path.name
        images = Images(self.path)
        self.names = Names(_walk(self.path, images))
        images.report()
        self.labels = label_by_folder(self.names, self.path)

    def encoded(self, i: int) -> bytes:
        """Return row i's file."""
        return _read(self.path / self.names[i])

    def where(self, i: int) -> str:
        """Name row i for an error message."""
        return str(self.path / self.names[i])


class ListSource(NamedFaces):
    """A CSV list of images, with paths relative to its own folder.

    Columns ``path`` and ``label`` by a header in any capitals (others are ignored), or path and
    label without one, or the path alone: then an image's folder is its identity. A comma or a tab
    stands between.
    Labels are whole numbers, taken as they are ("1.0" is 1), or names, numbered in their sorted
    order. An image may come more than once, but with one label.

    Raises:
        InputError: if the first line is neither a header nor an image's, a line has no path or no
            label, a path leads out of the list's folder, an image has two labels, or a label is a
            number below 0, a fraction, infinite or NaN.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.name = self.path.stem
        self._folder = self.path.resolve().parent
        numbers: dict[str, int] = {}
        given = array("q")

        def paths() -> Iterator[str]:
            for name, label in self._lines():
                if label is not None:
                    given.append(numbers.setdefault(label, len(numbers)))
                yield name

        names = Names(paths())
        order = names.order()
        self.names = Names(names[i] for i in order)
        if given:
            values = _values(list(numbers), self.path)
            self.labels = values[np.frombuffer(given, np.int64)][order]
            self._refuse_two_labels()
        else:
            self.labels = label_by_folder(self.names, self.path)

    def _refuse_two_labels(self) -> None:
        for i in np.flatnonzero(np.diff(self.labels)).tolist():  # rows are sorted by name
            if self.names[i] == self.names[i + 1]:
                raise InputError(
                    f"{self.where(i)}: has two labels; whom does it show? Remove the other lines"
                )

    def _lines(self) -> Iterator[tuple[str, str | None]]:
        """Yield (path below the list's folder, label or None) of every line."""
        with (
            reading(f"{self.path}: not a list of images"),
            regular(self.path).open(newline="", encoding="utf-8-sig") as file,
        ):
            tab = "\t" in file.readline()
            file.seek(0)
            rows = csv.reader(file, delimiter="\t" if tab else ",", strict=True)
            columns: list[int] = []
            for row in rows:
                if not row:
                    continue
                if not columns:
                    named = [name.strip().lower() for name in row]
                    columns = _columns(named)
                    if "path" in named:
                        continue
                    image = self._folder / self._below(row[0].strip(), rows.line_num)
                    if image.suffix.lower() not in IMAGES and not image.is_file():
                        raise InputError(
                            f"{self.path}, line {rows.line_num}: {row[0]!r} is no image's path;"
                            " expected a header path,label or a path and a label"
                        )
                if len(row) <= max(columns):
                    raise InputError(
                        f"{self.path}, line {rows.line_num}: {len(row)} columns, expected "
                        f"{max(columns) + 1}; a line is path,label"
                    )
                label = row[columns[1]].strip() if len(columns) > 1 else None
                yield self._below(row[columns[0]].strip(), rows.line_num), label

    def _below(self, name: str, line: int) -> str:
        folder = str(self._folder)
        if "\\" in name and "/" not in name and not (self._folder / name).exists():
            name = name.replace("\\", "/")  # as Windows writes
        inside = posixpath.relpath(posixpath.join(folder, name), folder)
        if not name or inside == "." or inside.split("/")[0] == "..":
            raise InputError(
                f"{self.path}, line {line}: {name!r} is no file below the list's folder; put the "
                "list into the folder that holds the images"
            )
        return inside

    def encoded(self, i: int) -> bytes:
        """Return row i's file."""
        return _read(self._folder / self.names[i])


def labels_by_key(path: Path, keys: np.ndarray) -> np.ndarray:
    """Return the label of every record, (len,) int64, from a list of ``key <tab> path``.

    The folder in the path is the identity, as in ``label_by_folder``; DCFace has such lists.

    Raises:
        InputError: naming the line that is none, or the key that the list does not have.
    """
    paths: dict[int, str] = {}
    with reading(path), regular(path).open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            key, _, name = line.rstrip("\r\n").partition("\t")
            if not re.fullmatch("[0-9]{1,18}", key) or not name:
                raise InputError(f"{path}, line {number}: {line!r:.60}; expected a key and a path")
            paths[int(key)] = name.replace("\\", "/")
    missing = [key for key in keys.tolist() if key not in paths]
    if missing:
        raise InputError(f"{path}: has no key {missing[0]}; it belongs to another record file")
    return label_by_folder(Names(paths[key] for key in keys.tolist()), path)


def _walk(folder: Path, images: Images, above: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the images below ``folder`` in the order of their whole sorted paths."""
    if depth > _DEEPEST:
        raise InputError(f"{folder}: folders {depth} deep; does a link lead in a circle?")
    with os.scandir(folder) as found:
        # The slash sorts with the name, as it does in whole paths: "a-b/1.jpg" before "a/1.jpg".
        entries = sorted(e.name + "/" * e.is_dir() for e in found)
    for entry in entries:
        if entry.startswith("."):
            continue
        if entry.endswith("/"):
            yield from _walk(folder / entry, images, above + entry, depth + 1)
        elif images.take(above + entry, partial(start_of, folder / entry)):
            yield above + entry


def start_of(file: Path, size: int) -> bytes:
    """Return so many bytes of a file's start."""
    if not file.is_file():  # a pipe would be waited for
        return b""
    with file.open("rb") as opened:
        return opened.read(size)


def _read(file: Path) -> bytes:
    with reading(file):
        return regular(file).read_bytes()


def _columns(first: list[str]) -> list[int]:
    """Return where path and label (if any) stand, from a list's first line."""
    if "path" in first:
        return [first.index(name) for name in ("path", "label") if name in first]
    return list(range(min(len(first), 2)))


def _values(labels: list[str], path: Path) -> np.ndarray:
    """Turn label texts into numbers: as they are if all are whole numbers, else by sorted rank."""
    if not all(labels):
        raise InputError(f"{path}: a line without a label; a line is path,label")
    numbers = [label for label in labels if _NUMBER.fullmatch(label)]
    whole = [label for label in numbers if _WHOLE.fullmatch(label)]
    wrong = [label for label in numbers if label.startswith("-")]
    wrong += [label for label in labels if _NO_NUMBER.fullmatch(label)]
    if len(numbers) == len(labels):
        wrong += [label for label in numbers if not _WHOLE.fullmatch(label)]
    elif len({int(float(label)) for label in whole}) < len(whole):
        wrong += [label for label in whole if "." in label or label.startswith("0")]
    if wrong:
        raise InputError(
            f"{path}: the label {wrong[0]!r} is no whole number >= 0, and no name; remove its "
            "lines or name the person"
        )
    if len(whole) == len(labels):
        return np.array([int(label.partition(".")[0]) for label in labels], np.int64)
    rank = {label: i for i, label in enumerate(sorted(labels))}
    return np.array([rank[label] for label in labels], np.int64)


_NO_NUMBER = re.compile(r"nan|NaN|NAN|[+-]?(?i:inf(inity)?)")  # but Nan is a name
_WHOLE = re.compile(r"[0-9]{1,18}(\.0*)?")
_NUMBER = re.compile(r"[+-]?([0-9]{1,18}(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
