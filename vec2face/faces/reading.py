"""One place where readers' own errors become clear ones, and arrays come out of bytes."""

import ast
import contextlib
import math
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vec2face.runtime.files import InputError


@contextlib.contextmanager
def reading(where: Path | str, remedy: str = "copy or make it again") -> Iterator[None]:
    """Turn whatever a reader raises into an ``InputError`` that names the file.

    Damaged and hostile files make parsers raise anything, an ``AssertionError`` or a
    ``RecursionError`` among them; nobody can list it all.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{where}: cannot be read ({reason}); is it there and whole?") from error
    except Exception as error:
        name = "" if type(error) is ValueError else f"{type(error).__name__}: "
        reason = f"{name}{error}"[:200]
        raise InputError(f"{where}: cannot be read ({reason}); {remedy}") from error


def regular(path: Path) -> Path:
    """Return a path that is about to be opened: a pipe or device would be waited for.

    Raises:
        InputError: if it is there, but is neither a file nor a folder.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: a pipe or device, not a file; remove it")
    return path


def read_array(path: Path) -> np.ndarray:
    """Map an ``.npy`` of numbers, read-only.

    Raises:
        InputError: if it is none, or does not hold exactly what its header says.
    """
    with reading(path), regular(path).open("rb") as file:
        dtype, shape, order, start = _header(file.read(_LONGEST))
        _check(path.stat().st_size - start, dtype, shape)
        if not math.prod(shape):
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", start, shape, order)  # type: ignore[call-overload]


def read_npz(path: Path | str, remedy: str, times: int = 16) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz``.

    Raises:
        InputError: if it is missing, or none, or unpacks to more than so many times its size.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; {remedy}")
    with reading(path, remedy), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_members(members, path)
        if sum(member.file_size for member in members) > times * path.stat().st_size:
            raise InputError(f"{path}: it unpacks to over {times} times its size; {remedy}")
        return {
            member.filename.removesuffix(".npy"): array_of(archive.read(member), "biufU")
            for member in members
        }


def check_members(members: Iterable[zipfile.ZipInfo], path: Path) -> None:
    """Refuse a zip whose list says that a member takes more bytes than the file has.

    Python sets as many aside before it reads them.

    Raises:
        InputError: naming the member.
    """
    size = path.stat().st_size
    for member in members:
        if member.compress_size > size:
            raise InputError(
                f"{path}, {member.filename!r:.80}: takes {member.compress_size} bytes of a file of "
                f"{size}; copy it again"
            )


def array_of(data: bytes, kinds: str = "biuf") -> np.ndarray:
    """Return the array in the bytes of an ``.npy``.

    Args:
        data: the bytes.
        kinds: which ``dtype.kind`` it may be of; by default numbers.

    Raises:
        Exception: of any kind if it is none; see ``reading``.
    """
    dtype, shape, order, start = _header(data[:_LONGEST], kinds)
    _check(len(data) - start, dtype, shape)
    return np.frombuffer(data, dtype, -1, start).reshape(shape, order=order)  # type: ignore[call-overload]


_LONGEST = 12 + 10_000  # bytes before the numbers


def _header(start: bytes, kinds: str = "biuf") -> tuple[np.dtype, tuple[int, ...], str, int]:
    """Return dtype, shape, order and the place of the first number."""
    if start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise ValueError("not an .npy")
    wide = start[6] > 1
    (length,) = struct.unpack_from("<I" if wide else "<H", start, 8)
    first = 12 if wide else 10
    if first + length > len(start):
        raise ValueError("a header longer than the file")
    about = ast.literal_eval(start[first : first + length].decode("latin1").strip())
    shape, by_column = about["shape"], about["fortran_order"]
    dtype = np.dtype(about["descr"]) if isinstance(about["descr"], str) else np.dtype(object)
    if dtype.kind not in kinds:
        raise ValueError(f"{about['descr']!r:.40} are no numbers")
    if not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"{shape!r:.40} is no shape")
    return dtype, shape, "F" if by_column else "C", first + length


def _check(size: int, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    needed = math.prod(shape) * dtype.itemsize
    if needed != size or max(shape, default=0) > max(size, 1):
        raise ValueError(f"{size} bytes for {dtype} {shape}; its header does not fit")
