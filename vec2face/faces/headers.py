"""What a picture's first bytes say: its kind, and how many pixels it claims to hold.

A decoder takes memory for what is claimed, so the claim is compared with a limit first.
"""

import re
import struct
import zlib

LARGEST = 1 << 28
"""Pixels of a picture; the largest sensors have fewer."""

START = 32
"""Bytes that tell the kind."""

_SMALL = 1 << 24  # pixels that a file of any size may hold
_DENSEST = 512  # pixels a byte; a JPEG of a single colour has 170
_KINDS = (
    (rb"\xff\xd8", "jpeg"),
    (rb"\x89PNG\r\n\x1a\n", "png"),
    (rb"GIF8[79]a", "gif"),
    (rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "bmp"),
    (rb"RIFF.{4}WEBPVP8[ LX]", "webp"),
    (rb"II\*\0|MM\0\*", "tiff"),
    (rb"P[1-6](?=[\s#])", "pnm"),
    (rb".{4}ftyp(?:avif|avis|hei[cfmsx]|hev[cx]|mif1|msf1)", "heif"),
    (rb"\0\0\0\x0cjP  \r\n|\xff\x4f\xff\x51", "jpeg2000"),
)
_PATTERN = [(re.compile(start, re.DOTALL), kind) for start, kind in _KINDS]
_UNREAD = ("heif", "jpeg2000")


def kind(data: bytes) -> str | None:
    """Return what the first ``START`` bytes are a picture of, or None if they are of none.

    The kinds that ``is_read`` are jpeg, png, gif, bmp, webp, tiff and pnm; others are heif (with
    AVIF) and jpeg2000.
    """
    return next((kind for start, kind in _PATTERN if start.match(data)), None)


def is_read(data: bytes) -> bool:
    """Tell whether the first ``START`` bytes are those of a picture that ``decode`` reads."""
    return kind(data) not in (None, *_UNREAD)


def claimed(data: bytes) -> tuple[int, int]:
    """Return the (width, height) that a picture claims, if it is no JPEG.

    Raises:
        ValueError: if its header is not whole, or of a form that no picture of a face has.
    """
    try:
        return _READERS[kind(data) or ""](data)
    except (struct.error, KeyError, IndexError) as error:
        raise ValueError("its header is not whole") from error


def jpeg_frame(data: bytes) -> tuple[int, int, int]:
    """Return a JPEG's (width, height, channels).

    Raises:
        ValueError: if no frame's header stands before its first scan.
    """
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 10 <= len(data):
        marker = data[at + 1]
        if marker == 0xDA:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, channels = struct.unpack_from(">HHB", data, at + 5)
            return width, height, channels
        plain = marker in (0, 1, 0xFF) or 0xD0 <= marker <= 0xD9  # no length follows
        at += 1 if plain else 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    raise ValueError("it has no frame header")


def too_many(width: int, height: int, size: int) -> bool:
    """Tell whether a file of ``size`` bytes has no business to hold so many pixels."""
    return width * height > min(LARGEST, _SMALL + _DENSEST * size)


def _png(data: bytes) -> tuple[int, int]:
    """Walk the chunks, too: a decoder takes memory for what one of them claims to hold.

    It also prints that a checksum is wrong; so that is found here.
    """
    at, chunk = 8, b""
    while chunk != b"IEND":
        length, chunk = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data) or (chunk == b"IHDR") != (at == 33):
            raise ValueError("it is damaged or cut off")
        if chunk in (b"IHDR", b"IDAT"):
            content = memoryview(data)[at - length - 8 : at - 4]
            if zlib.crc32(content) != int.from_bytes(data[at - 4 : at], "big"):
                raise ValueError("it is damaged: a checksum is wrong")
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH" if data[14] == 12 else "<ii", data, 18)
    return abs(width), abs(height)


def _webp(data: bytes) -> tuple[int, int]:
    if data[15:16] == b"X":
        return (
            int.from_bytes(data[24:27], "little") + 1,
            int.from_bytes(data[27:30], "little") + 1,
        )
    if data[15:16] == b"L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _pnm(data: bytes) -> tuple[int, int]:
    words = re.sub(rb"#[^\n\r]*", b" ", data[2:4096]).split(None, 2)[:2]
    if len(words) < 2 or not all(re.fullmatch(rb"[0-9]{1,9}", word) for word in words):
        raise ValueError("its header gives no width and height")
    return int(words[0]), int(words[1])


def _tiff(data: bytes) -> tuple[int, int]:
    """Read the first directory: the picture's sides, or its tiles' where they are larger."""
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    sides: dict[int, int] = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, form, values = struct.unpack_from(order + "HHI", data, at)
        if tag in (256, 257, 322, 323) and form in (3, 4) and values == 1:
            (sides[tag],) = struct.unpack_from(order + ("H" if form == 3 else "I"), data, at + 8)
    if 256 not in sides or 257 not in sides:
        raise ValueError("its directory gives no width and height")
    return max(sides[256], sides.get(322, 0)), max(sides[257], sides.get(323, 0))


_READERS = {"png": _png, "gif": _gif, "bmp": _bmp, "webp": _webp, "pnm": _pnm, "tiff": _tiff}
