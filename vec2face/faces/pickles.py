"""Verification pairs as a pickle: insightface's ``.bin``, and ``.xz``, the same under lzma.

The pickle holds ``(images, same)``: 2P encoded images, pair p being images 2p and 2p + 1, and P
flags. The published files were written by Python 2 and 3, with bytes, uint8 arrays, arrays of
either, bools, numpy's bools and 0 or 1. A pickle is a program; here only the handful of
constructors that such files need are known, and each is a stand-in of our own, so that no foreign
code runs, not even numpy's.
"""

import io
import lzma
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

import numpy as np

from vec2face.runtime.files import InputError

_LZMA = 2**28  # bytes of memory; the strongest preset takes a quarter of it

LARGEST = 2 << 30
"""Bytes that a ``.xz`` may unpack to; 14 000 PNGs of 112 x 112 pixels are a quarter of it."""


def read_pickle(path: Path) -> tuple[list[bytes], np.ndarray]:
    """Read a ``.bin`` or ``.xz``.

    Returns:
        2P encoded images; (P,) bool, whether a pair shows one person.

    Raises:
        InputError: if the file is no such pickle, holds anything but images and flags, their
            numbers do not fit, or a ``.xz`` unpacks to more than ``LARGEST`` bytes.
    """
    try:
        data = _bytes(path)
        room = _Room(2 * len(data) + 2**20)
        images, same = _Unpickler(data, room).load()
        images, same = _images(_items(images, room)), [_flag(s) for s in _items(same, room)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # unpickling rubbish can raise anything
        remedy = "expected a pickle of (2P encoded images, P flags); download or make it again"
        raise InputError(f"{path}: not a benchmark ({str(error)[:200]}): {remedy}") from error
    if not same or len(images) != 2 * len(same):
        message = f"{path}: {len(images)} images for {len(same)} pairs; expected two a pair"
        raise InputError(message)
    return images, np.array(same, bool)


def _bytes(path: Path) -> bytes:
    if path.suffix != ".xz":
        return path.read_bytes()
    packed = path.read_bytes()
    largest = min(LARGEST, 2**24 + 100 * len(packed))  # encoded images hardly become smaller
    content = b""
    while packed:  # a file may hold several streams
        stream = lzma.LZMADecompressor(memlimit=_LZMA)
        content += stream.decompress(packed, largest + 1 - len(content))
        if len(content) > largest:
            raise InputError(f"it unpacks to more than {largest} bytes; no benchmark does")
        if not stream.eof:
            raise EOFError("it ends early")
        packed = stream.unused_data.lstrip(b"\0")
    return content


class _Room:
    """Counts the bytes that a pickle makes: a few of its own can ask for a copy of many."""

    def __init__(self, left: int):
        self._left = left

    def take(self, size: int) -> None:
        """Count ``size`` bytes more.

        Raises:
            InputError: if they are too many for the file.
        """
        self._left -= size
        if self._left < 0:
            raise InputError("it makes far more bytes than it holds; it was made to harm")


class _StandIn:
    """What a pickle may hold instead of a foreign object; it cannot be given other state."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("the file tries to change something other than an array")


class _DType(_StandIn):
    __slots__ = ("dtype",)

    def __init__(self, name: Any):
        name = name.decode("ascii") if isinstance(name, bytes) else name
        if not isinstance(name, str) or name.lstrip("|<") not in _KINDS:
            raise pickle.UnpicklingError(f"an array of {name!r} is neither images nor flags")
        self.dtype = np.dtype("O" if name.lstrip("|<") in _OBJECTS else name)

    def __setstate__(self, state: Any) -> None:  # type: ignore[override]
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in _NATIVE:
            raise pickle.UnpicklingError("an array of unusual byte order")


_NATIVE = ("|", "<", b"|", b"<")
_OBJECTS = {"O", "O4", "O8"}
_KINDS = {"u1", "b1", "i4", "i8", "f4", "f8"} | _OBJECTS


class _Array(_StandIn):
    __slots__ = ("_room", "values")

    def __init__(self, room: _Room) -> None:
        self._room = room
        self.values: np.ndarray = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:  # type: ignore[override]
        _, shape, dtype, by_column, raw = state
        self.fill(raw, dtype, shape, "F" if by_column else "C")

    def fill(self, raw: Any, dtype: Any, shape: Any, order: Any) -> Self:
        if isinstance(shape, int):
            shape = (shape,)
        if isinstance(dtype, _DType) and dtype.dtype == object and isinstance(raw, list):
            self._room.take(8 * len(raw))
            self.values = np.fromiter(raw, object, len(raw)).reshape(shape, order=order)
            return self
        plain = isinstance(dtype, _DType) and dtype.dtype != object
        if not plain or not isinstance(raw, bytes | bytearray):
            raise pickle.UnpicklingError("an array of something other than numbers")
        self.values = np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)
        return self


class _Call(_StandIn):
    """A constructor by name; calling it makes one of the stand-ins above or a plain value."""

    __slots__ = ("_name", "_room")

    def __init__(self, name: str, room: _Room):
        self._name, self._room = name, room

    def __call__(self, *given: Any) -> Any:
        if self._name == "dtype":
            return _DType(given[0])
        if self._name == "_reconstruct":
            return _Array(self._room)
        if self._name == "_frombuffer":
            return _Array(self._room).fill(given[0], given[1], given[2], given[3])
        if self._name == "scalar":
            return _Array(self._room).fill(given[1], given[0], (), "C").values.item()
        if self._name == "encode" and given[1] in ("latin1", b"latin1"):
            return self._latin1(given[0])
        if self._name == "bytes" and not given:
            return b""
        if self._name == "bytearray" and all(isinstance(g, bytes | str) for g in given):
            return self._latin1(given[0] if given else b"")
        raise pickle.UnpicklingError(f"{self._name} is not used in this way")

    def _latin1(self, text: bytes | str) -> bytes:
        if isinstance(text, bytes):
            return text
        self._room.take(len(text))
        return text.encode("latin1")


_ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("_codecs", "encode"),
    ("builtins", "bytes"),
    ("__builtin__", "bytes"),
    ("builtins", "bytearray"),
    ("__builtin__", "bytearray"),
    *(
        (f"numpy.{core}.multiarray", f)
        for core in ("core", "_core")
        for f in ("_reconstruct", "scalar")
    ),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
}


_TABLES = (
    *(pickle.DICT, pickle.SETITEM, pickle.SETITEMS),
    *(pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET),
)


_InPython: Any = pickle._Unpickler  # type: ignore[attr-defined]  # noqa: SLF001


class _Unpickler(_InPython):
    """Python's own, in Python: the one in C takes memory for any place in its memo."""

    def __init__(self, data: bytes, room: _Room):
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._room = room

    def _bytearray(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))

    def _no_table(self) -> NoReturn:
        # Nor is one safe: the hash of tuples within tuples overflows the stack.
        raise InputError("it holds a dict or set, which no benchmark needs")

    dispatch: ClassVar = {
        **_InPython.dispatch,
        pickle.BYTEARRAY8[0]: _bytearray,
        **dict.fromkeys((code[0] for code in _TABLES), _no_table),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise InputError(
                f"the file asks to run {module}.{name}, which no benchmark needs: it may be "
                "malicious and was not run; get it from a source you trust"
            )
        return _Call(name, self._room)


def _items(value: Any, room: _Room) -> list[Any]:
    if isinstance(value, _Array) and value.values.size:
        room.take(len(value.values))
        return list(value.values)
    if isinstance(value, list | tuple):
        return list(value)
    raise InputError("not a benchmark: expected a list of images and a list of flags")


def _images(values: list[Any]) -> list[bytes]:
    """Return encoded images; one that a pickle holds once and names often stays one."""
    made: dict[int, bytes] = {}
    return [made[id(v)] if id(v) in made else made.setdefault(id(v), _image(v)) for v in values]


def _image(value: Any) -> bytes:
    if isinstance(value, _Array):
        value = value.values
    # OpenCV before 4.5 encodes to (N, 1), later versions to (N,).
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.size in value.shape:
        return value.tobytes()
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    raise InputError(f"an image is encoded bytes, not {type(value).__name__}; expected JPEG or PNG")


def _flag(value: Any) -> bool:
    if isinstance(value, _Array):
        value = value.values.item()
    if isinstance(value, bool | np.bool_ | int | np.integer | float) and value in (0, 1):
        return bool(value)
    raise InputError(f"a pair's flag is true or false, not {value!r:.40}")
