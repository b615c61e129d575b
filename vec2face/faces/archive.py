"""Faces in archives: ``.zip`` and ``.tar`` of ``identity/image.jpg``, read without unpacking.

Nothing is ever written to disk, but a name that an archive has no business to hold (absolute, with
``..``, a link) says that it was made to harm or by mistake, so the whole archive is refused.
"""

import contextlib
import io
import os
import posixpath
import stat
import tarfile
import zipfile
from array import array
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from vec2face.faces.named import Images, NamedFaces, Names, label_by_folder
from vec2face.faces.reading import check_members, reading
from vec2face.runtime.files import InputError

_LARGEST = 64 * 2**20  # bytes of one image; more is a trap or no face
_BLOCK = 512  # of a tar
_LONGEST = 2**20  # bytes of a tar's header with its long name


class ZipSource(NamedFaces):
    """A ``.zip`` of ``identity/image.jpg``.

    Its directory is kept in memory, about 0.7 kB an image.

    Raises:
        InputError: if it is damaged, encrypted, holds no images, or a member that must not be.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.name = self.path.stem
        with reading(self.path, "copy it again"):
            self._zip = zipfile.ZipFile(self.path)
            members = list(self._images())
        members.sort(key=lambda member: member[0])
        self._members = [info for _, info in members]
        self.names = Names(_once((name for name, _ in members), self.path))
        self.labels = label_by_folder(self.names, self.path)

    def _images(self) -> Iterator[tuple[str, zipfile.ZipInfo]]:
        images = Images(self.path)
        check_members(self._zip.infolist(), self.path)
        for info in self._zip.infolist():
            name = _checked(info.filename, self.path)
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(f"{self.path}, {name}: is a link; {_REMEDY}")
            if info.flag_bits & 1:
                raise InputError(f"{self.path}, {name}: is encrypted; unpack the archive")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # Others say themselves how much memory they take, or give all they have at once.
                raise InputError(
                    f"{self.path}, {name}: is packed in a rare way; unpack the archive"
                )
            if not info.is_dir() and images.take(name, partial(self._start, info)):
                _check_size(info.file_size, f"{self.path}, {name}")
                yield name, info
        images.report()

    def _start(self, info: zipfile.ZipInfo, size: int) -> bytes:
        with contextlib.suppress(Exception), self._zip.open(info) as member:  # damaged: no image
            return member.read(size)
        return b""

    def encoded(self, i: int) -> bytes:
        """Return row i's image, unpacked; its checksum is compared."""
        with reading(self.where(i)):
            return self._zip.read(self._members[i])


class TarSource(NamedFaces):
    """An uncompressed ``.tar`` of ``identity/image.jpg``: its headers are walked once.

    Raises:
        InputError: if it is damaged or cut off, holds no images, or a member that must not be.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.name = self.path.stem
        starts, sizes = array("q"), array("q")
        names = Names(self._walk(starts, sizes))
        order = names.order()
        self._starts, self._sizes = np.array(starts, np.int64)[order], np.array(sizes)[order]
        self.names = Names(_once((names[i] for i in order), self.path))
        self.labels = label_by_folder(self.names, self.path)
        self._file = self.path.open("rb", buffering=0)

    def _walk(self, starts: array, sizes: array) -> Iterator[str]:
        images = Images(self.path)
        with (
            reading(self.path, "not a whole .tar; copy it again"),
            _Headers(self.path.open("rb", buffering=0)) as file,
            tarfile.open(fileobj=file, mode="r:") as tar,
        ):
            last = -1
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # or all stay in memory
                name = _checked(member.name, self.path)
                if member.size < 0 or tar.offset <= last:  # it would be walked for ever
                    raise InputError(f"{self.path}, {name}: {member.size} bytes; copy it again")
                last = tar.offset
                if not (member.isreg() or member.isdir()) or member.issparse():
                    raise InputError(f"{self.path}, {name}: is a link or device; {_REMEDY}")
                at = member.offset_data
                if member.isreg() and images.take(name, lambda n: os.pread(file.fileno(), n, at)):  # noqa: B023
                    _check_size(member.size, f"{self.path}, {name}")
                    starts.append(at)
                    sizes.append(member.size)
                    yield name
            # A damaged header is taken for the end.
            if os.pread(file.fileno(), _BLOCK, tar.offset) != bytes(_BLOCK):
                raise InputError(
                    f"{self.path}: damaged or cut off at byte {tar.offset}; copy it again"
                )
        images.report()

    def encoded(self, i: int) -> bytes:
        """Return row i's image."""
        with reading(self.where(i)):
            return os.pread(self._file.fileno(), int(self._sizes[i]), int(self._starts[i]))


class _Headers(io.BufferedReader):
    """Gives headers and nothing that only claims to be one: a claim of 2 GiB takes 2 GiB."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LONGEST:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return super().read(size)


_REMEDY = "an archive of faces holds plain files only; unpack it if you trust it"


def _checked(name: str, path: Path) -> str:
    """Return a member's name without ``./``, refusing one that leads out of the archive."""
    if "/" not in name:
        name = name.replace("\\", "/")  # as Windows packs folders
    outside = name.startswith(("/", "\\")) or name[1:2] == ":" or "\\" in name or "\0" in name
    if outside or not name or ".." in name.split("/"):
        raise InputError(f"{path}, {name!r}: the path leads out of the archive; {_REMEDY}")
    return posixpath.normpath(name)


def _check_size(size: int, where: str) -> None:
    if size > _LARGEST:
        raise InputError(f"{where}: {size} bytes are no face; the archive was made to harm")


def _once(names: Iterator[str], path: Path) -> Iterator[str]:
    """Yield sorted names, refusing one that occurs twice: which of the two is meant?"""
    last = None
    for name in names:
        if name == last:
            raise InputError(f"{path}, {name}: occurs twice in the archive; pack it again")
        last = name
        yield name
