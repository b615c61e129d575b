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
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np

from vec2face.runtime.files import InputError

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
        content = _Unpickler(io.BytesIO(_bytes(path)), encoding="bytes").load()
        images, same = content
        images, same = [_image(i) for i in _items(images)], [_flag(s) for s in _items(same)]
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:  # unpickling rubbish can raise anything
        remedy = "expected a pickle of (2P encoded images, P flags); download or make it again"
        raise InputError(f"{path}: not a benchmark ({error}): {remedy}") from error
    if not same or len(images) != 2 * len(same):
        message = f"{path}: {len(images)} images for {len(same)} pairs; expected two a pair"
        raise InputError(message)
    return images, np.array(same, bool)


def _bytes(path: Path) -> bytes:
    if path.suffix != ".xz":
        return path.read_bytes()
    with lzma.open(path) as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise InputError(f"it unpacks to more than {LARGEST} bytes, more than any benchmark holds")
    return content


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
    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: np.ndarray = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:  # type: ignore[override]
        _, shape, dtype, by_column, raw = state
        self.fill(raw, dtype, shape, "F" if by_column else "C")

    def fill(self, raw: Any, dtype: Any, shape: Any, order: Any) -> Self:
        if isinstance(shape, int):
            shape = (shape,)
        if isinstance(dtype, _DType) and dtype.dtype == object and isinstance(raw, list):
            self.values = np.fromiter(raw, object, len(raw)).reshape(shape, order=order)
            return self
        plain = isinstance(dtype, _DType) and dtype.dtype != object
        if not plain or not isinstance(raw, bytes | bytearray):
            raise pickle.UnpicklingError("an array of something other than numbers")
        self.values = np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)
        return self


class _Call(_StandIn):
    """A constructor by name; calling it makes one of the stand-ins above or a plain value."""

    __slots__ = ("_name",)

    def __init__(self, name: str):
        self._name = name

    def __call__(self, *given: Any) -> Any:
        if self._name == "dtype":
            return _DType(given[0])
        if self._name == "_reconstruct":
            return _Array()
        if self._name == "_frombuffer":
            return _Array().fill(given[0], given[1], given[2], given[3])
        if self._name == "scalar":
            return _Array().fill(given[1], given[0], (), "C").values.item()
        if self._name == "encode" and given[1] in ("latin1", b"latin1"):
            text = given[0]
            return text if isinstance(text, bytes) else text.encode("latin1")
        if self._name == "bytes" and not given:
            return b""
        if self._name == "bytearray" and all(isinstance(g, bytes | str) for g in given):
            text = given[0] if given else b""
            return text if isinstance(text, bytes) else text.encode("latin1")
        raise pickle.UnpicklingError(f"{self._name} is not used in this way")


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


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise InputError(
                f"the file asks to run {module}.{name}, which no benchmark needs: it may be "
                "malicious and was not run; get it from a source you trust"
            )
        return _Call(name)


def _items(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, _Array):
        return list(value.values)
    raise InputError("not a benchmark: expected a list of images and a list of flags")


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
