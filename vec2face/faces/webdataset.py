"""WebDataset: faces in shards of ``.tar``, as WebDataset's and Hugging Face's loaders stream them.

    data/train-00000-of-00002.tar
        000000/00000000.jpg     a sample: its image, under a name before the first dot
        000000/00000000.cls     and its label in digits, under the same name
        000000/00000001.jpg
        ...

Written, a name is ``identity/image``, so a shard alone is also a ``.tar`` of folders, which every
reader of faces takes. Read, any name will do, and labels are those of the ``.cls``.
"""

import io
import os
import tarfile
from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from vec2face.faces.archive import _check_size, _checked, _Headers
from vec2face.faces.headers import kind
from vec2face.faces.named import IMAGES, Names
from vec2face.faces.reading import reading, regular
from vec2face.faces.source import Corrupt, Selection, Source, _load_mask, open_source
from vec2face.runtime.files import InputError, Unfinished

SHARD = 50_000  # images of a shard; about 0.4 GB at 112 pixels
_ENDINGS = {"png": "png", "gif": "gif", "bmp": "bmp", "webp": "webp", "tiff": "tif", "pnm": "ppm"}
_IMAGES = (*IMAGES, ".gif")
_LABEL = 20  # bytes of a label, at most


def digits(people: int, images: int) -> tuple[int, int]:
    """Return the digits of an identity's and an image's name, so that names sort as rows do."""
    return max(6, len(str(people))), max(8, len(str(images)))


def ending(data: bytes) -> str:
    """Return the ending of an encoded image's name, by its content."""
    return _ENDINGS.get(kind(data) or "", "jpg")


class ShardWriter(Unfinished):
    """Write the shards of a folder; equal rows give equal bytes, whenever and by whomever.

    Args:
        folder: gets ``data/train-*-of-*.tar``.
        images: how many will come.
        people: how many they show.
        shard: images in each ``.tar`` but the last, which may have fewer.

    Raises:
        InputError: ``shard`` is below 1.
    """

    def __init__(self, folder: Path, *, images: int, people: int, shard: int = SHARD):
        if shard < 1:
            raise InputError(f"{shard} images in a shard; give 1 or more")
        self._folder, self._shard, self._written = folder / "data", shard, 0
        self._shards = -(-images // shard)
        self._wide, self._long = digits(people, images)
        self._tar: tarfile.TarFile | None = None
        self._folder.mkdir()

    def append(self, data: bytes, label: int, feature: np.ndarray | None = None) -> None:
        """Add one encoded image; a feature is not kept."""
        number, within = divmod(self._written, self._shard)
        if not within:
            self.close()
            path = self._folder / f"train-{number:05d}-of-{self._shards:05d}.tar"
            self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115
        assert self._tar is not None
        name = f"{label:0{self._wide}d}/{self._written:0{self._long}d}"
        for suffix, content in ((ending(data), data), ("cls", str(label).encode())):
            about = tarfile.TarInfo(f"{name}.{suffix}")  # of nobody, made at the epoch's start
            about.size = len(content)
            self._tar.addfile(about, io.BytesIO(content))
        self._tar.members.clear()  # type: ignore[attr-defined]  # or all stay in memory
        self._written += 1

    def close(self) -> None:
        """Complete the current shard."""
        if self._tar is not None:
            self._tar.close()
            self._tar = None

    def discard(self) -> None:
        """Close the current shard as it is; its folder never gets its name."""
        if self._tar is not None and self._tar.fileobj is not None:
            self._tar.fileobj.close()


class ShardSource:
    """A folder of shards as a source of faces; rows stand in the order of shards and samples.

    A sample is what lies side by side under one name; of it, the one image and the ``.cls`` count.

    Attributes:
        name: the folder's name.
        labels: (images,) int64.

    Raises:
        InputError: a shard is damaged or cut off or holds what it must not, or a sample has no
            label, one that is no whole number, no image, or two.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.name = self.path.name
        self._files = shards_of(self.path)
        self._shards, self._starts, self._sizes = array("q"), array("q"), array("q")
        labels = array("q")
        self._names = Names(self._samples(labels))
        self.labels = np.array(labels, np.int64)

    def _samples(self, labels: array) -> Iterator[str]:
        """Note where each sample's image lies, and its label; yield its shard and its name."""
        for number, shard in enumerate(self._files):
            name, images, label = "", 0, -1
            for member, start, size in chain(_members(shard), [("", 0, 0)]):
                stem, suffix = _split(member)
                if stem != name:
                    if name and (images != 1 or label < 0):
                        raise InputError(
                            f"{shard}, {name}: {images} images and {'no' if label < 0 else 'a'} "
                            "label; a sample is one image and its label in a .cls beside it"
                        )
                    if name:
                        labels.append(label)
                        yield f"{shard.relative_to(self.path)}, {name}"
                    name, images, label = stem, 0, -1
                if f".{suffix}" in _IMAGES:
                    images += 1
                    self._shards.append(number)
                    self._starts.append(start)
                    self._sizes.append(size)
                elif suffix == "cls":
                    label = _label(_read(shard, start, min(size, _LABEL + 1)), f"{shard}, {member}")

    def __len__(self) -> int:
        return len(self.labels)

    def encoded(self, i: int) -> bytes:
        """Return row i's image as it is stored."""
        with reading(self.where(i)):
            return _read(self._files[self._shards[i]], self._starts[i], self._sizes[i])

    def feature(self, i: int) -> np.ndarray | None:
        """Return nothing: shards hold no features."""
        return None

    def where(self, i: int) -> str:
        """Name row i for an error message."""
        return f"{self.path}/{self._names[i]}"


def shards_of(path: Path | str) -> list[Path]:
    """Return the shards of a folder, in order: those of its folder ``data``, or its own.

    Beside its own there are no other folders: a ``.tar`` beside people's is none of their faces.
    """
    path = Path(path)
    own = sorted(path.glob("*.tar"))
    if own and any(beside.is_dir() for beside in path.glob("[!.]*")):
        own = []
    return sorted(path.glob("data/*.tar")) or own


def open_faces(
    path: Path | str,
    *,
    verify: bool = True,
    corrupt: Corrupt = "stop",
    mask: Path | str | None = None,
) -> Source:
    """Open faces as ``open_source`` does, whose arguments these are, or a folder of shards."""
    if not shards_of(path) or (Path(path) / "manifest.json").is_file():
        return open_source(path, verify=verify, corrupt=corrupt, mask=mask)
    source = ShardSource(path)
    return source if mask is None else Selection(source, _load_mask(Path(mask), len(source)))


def _members(shard: Path) -> Iterator[tuple[str, int, int]]:
    """Yield the name, first byte and size of a shard's files."""
    with (
        reading(shard, "not a whole .tar; copy it again"),
        _Headers(regular(shard).open("rb", buffering=0)) as file,
        tarfile.open(fileobj=file, mode="r:") as tar,
    ):
        last = -1
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]
            name = _checked(member.name, shard)
            if member.size < 0 or tar.offset <= last:
                raise InputError(f"{shard}, {name}: {member.size} bytes; copy it again")
            last = tar.offset
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise InputError(f"{shard}, {name}: is a link or device, no part of a sample")
            if member.isreg():
                _check_size(member.size, f"{shard}, {name}")
                yield name, member.offset_data, member.size
        end = tar.offset
        if os.pread(file.fileno(), tarfile.BLOCKSIZE, end) != bytes(tarfile.BLOCKSIZE):
            raise InputError(f"{shard}: damaged or cut off at byte {end}; copy it again")


def _split(name: str) -> tuple[str, str]:
    """Return a sample's name, up to the first dot of the file's own name, and the rest in small."""
    folder, _, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, suffix.lower()


def _label(text: bytes, where: str) -> int:
    """Return the label that a ``.cls`` holds."""
    if len(text) > _LABEL or not text.strip().isdigit() or int(text) >= 2**63:
        raise InputError(f"{where}: {text!r}; a label is a whole number >= 0")
    return int(text)


def _read(file: Path, start: int, size: int) -> bytes:
    with file.open("rb", buffering=0) as opened:
        return os.pread(opened.fileno(), size, start)
