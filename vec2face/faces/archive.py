"""Faces in archives: ``.zip`` and ``.tar`` of ``identity/image.jpg``, read without unpacking.

Nothing is ever written to disk, but a name that an archive has no business to hold (absolute, with
``..``, a link) says that it was made to harm or by mistake, so the whole archive is refused.
"""

import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vec2face.faces.listing import NamedFaces, Names, is_image, label_by_folder
from vec2face.runtime.files import InputError

_LARGEST = 64 * 2**20  # bytes of one image; more is a trap or no face
_BLOCK = 512  # of a tar
_WINDOWS = 0  # among the systems that pack a .zip


class ZipSource(NamedFaces):
    """A ``.zip`` of ``identity/image.jpg``.

    Its directory is kept in memory, about 0.7 kB an image.

    Raises:
        InputError: if it is damaged, encrypted, holds no images, or a member that must not be.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.name = self.path.stem
        try:
            self._zip = zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise InputError(f"{self.path}: not a whole .zip ({error}); copy it again") from error
        members = []
        for info in self._zip.infolist():
            name = info.filename
            if "/" not in name and info.create_system == _WINDOWS:
                name = name.replace("\\", "/")  # as old .NET packs folders
            name = _checked(name, self.path)
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(f"{self.path}, {name}: is a link; {_REMEDY}")
            if info.flag_bits & 1:
                raise InputError(f"{self.path}, {name}: is encrypted; unpack the archive")
            if not info.is_dir() and is_image(name):
                _check_size(info.file_size, f"{self.path}, {name}")
                members.append((name, info))
        members.sort(key=lambda member: member[0])
        self._members = [info for _, info in members]
        self.names = Names(_once((name for name, _ in members), self.path))
        self.labels = label_by_folder(self.names, self.path)

    def encoded(self, i: int) -> bytes:
        """Return row i's image, unpacked; its checksum is compared."""
        try:
            return self._zip.read(self._members[i])
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise InputError(f"{self.where(i)}: cannot be unpacked: {error}") from error


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
        try:
            with tarfile.open(self.path, "r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # or all stay in memory
                    name = _checked(member.name, self.path)
                    if not (member.isreg() or member.isdir()) or member.issparse():
                        raise InputError(f"{self.path}, {name}: is a link or device; {_REMEDY}")
                    if member.isreg() and is_image(name):
                        _check_size(member.size, f"{self.path}, {name}")
                        starts.append(member.offset_data)
                        sizes.append(member.size)
                        yield name
                end = tar.offset
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path}: not a whole .tar ({error}); copy it again") from error
        with self.path.open("rb") as file:  # tarfile takes a damaged header for the end
            file.seek(end)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise InputError(f"{self.path}: damaged or cut off at byte {end}; copy it again")

    def encoded(self, i: int) -> bytes:
        """Return row i's image."""
        return os.pread(self._file.fileno(), int(self._sizes[i]), int(self._starts[i]))


_REMEDY = "an archive of faces holds plain files only; unpack it if you trust it"


def _checked(name: str, path: Path) -> str:
    """Return a member's name without ``./``, refusing one that leads out of the archive."""
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
