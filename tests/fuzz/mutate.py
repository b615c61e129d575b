"""Plain mutation: each damaged input is a function of the sound one and two numbers."""

import re
import struct

import numpy as np

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_LARGE = (2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_WORDS = (
    *(b"0", b"-1", b"4294967296", b"9" * 25, b"9" * 5000, b"1e400", b"nan", b"0.5", b"\0"),
    *(
        b"../",
        b"/etc/passwd",
        b"\\",
        b'"',
        b"\xff\xfe",
        b"\xc3\xa9",
        b"x" * 300,
        b"\n",
        b"\t",
        b",",
    ),
)


def mutate(data: bytes, others: list[bytes], reader: int, number: int) -> bytes:
    """Return ``data`` with one to four changes, drawn by (reader, number)."""
    draw = np.random.Generator(np.random.Philox(key=reader << 64 | number))
    for _ in range(min(int(draw.geometric(0.6)), 4)):
        data = _CHANGES[draw.integers(len(_CHANGES))](data, others, draw)
    return data


def _place(data: bytes, draw: np.random.Generator) -> int:
    """Draw a place; every other one lies near the start or the end, where headers are."""
    size = max(len(data), 1)
    near = draw.integers(4)
    if near == 0:
        return int(draw.integers(min(size, 64)))
    if near == 1:
        return size - 1 - int(draw.integers(min(size, 64)))
    return int(draw.integers(size))


def _flip(data: bytes, others: list[bytes], draw: np.random.Generator) -> bytes:
    at = _place(data, draw)
    return data[:at] + bytes(b ^ 1 << draw.integers(8) for b in data[at : at + 1]) + data[at + 1 :]


def _overwrite(data: bytes, others: list[bytes], draw: np.random.Generator) -> bytes:
    at, wide = _place(data, draw), draw.integers(4)
    form = "<>"[draw.integers(2)] + "BHIQ"[wide]
    number = int(draw.choice(np.array(_NUMBERS + _LARGE, object)))
    part = struct.pack(form, number % 2 ** (8 << int(wide)))
    return data[:at] + part + data[at + len(part) :]


def _cut(data: bytes, others: list[bytes], draw: np.random.Generator) -> bytes:
    return data[: _place(data, draw)]


def _remove(data: bytes, others: list[bytes], draw: np.random.Generator) -> bytes:
    at = _place(data, draw)
    return data[:at] + data[at + int(draw.integers(1, 64)) :]


def _repeat(data: bytes, others: list[bytes], draw: np.random.Generator) -> bytes:
    at, size, times = _place(data, draw), int(draw.integers(1, 64)), int(draw.integers(2, 40))
    return data[:at] + data[at : at + size] * times + data[at + size :]


def _insert(data: bytes, others: list[bytes], draw: np.random.Generator) -> bytes:
    at = _place(data, draw)
    return data[:at] + _WORDS[draw.integers(len(_WORDS))] + data[at:]


def _number(data: bytes, others: list[bytes], draw: np.random.Generator) -> bytes:
    """Replace a number that is written in digits."""
    found = list(re.finditer(rb"[0-9]+", data[:20_000]))
    if not found:
        return _flip(data, others, draw)
    one = found[draw.integers(len(found))]
    return data[: one.start()] + _WORDS[draw.integers(len(_WORDS))] + data[one.end() :]


def _splice(data: bytes, others: list[bytes], draw: np.random.Generator) -> bytes:
    other = others[draw.integers(len(others))]
    return data[: _place(data, draw)] + other[_place(other, draw) :]


_CHANGES = (_flip, _flip, _overwrite, _overwrite, _cut, _remove, _repeat, _insert, _number, _splice)
