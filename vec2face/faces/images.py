"""Encoded images, uint8 arrays and tensors. Everything is RGB."""

import re

import cv2
import numpy as np
import simplejpeg
import torch
from numba import njit

from vec2face.faces.headers import claimed, is_read, jpeg_frame, kind, too_many
from vec2face.runtime.files import InputError

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what fails is raised

_SCAN, _END = b"\xff\xda", b"\xff\xd9"


def decode(
    data: bytes, where: str, size: int | None = None, into: np.ndarray | None = None
) -> np.ndarray:
    """Decode a JPEG, PNG, BMP, WebP, TIFF, GIF or PPM.

    Args:
        data: the encoded image.
        where: names the image in an error, such as ``"a.rec, key 7"``.
        size: if given, the image must be square and is resized to (size, size).
        into: uint8; an image of this shape is written here and returned, without a copy.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        InputError: if the bytes are no image, claim more pixels than such a file may, are damaged
            or cut off (what a JPEG has too much, or the lack of its end marker alone, is no
            damage), or ``size`` is given and the image is not square.
    """
    try:
        image = _decode_jpeg(data, into) if kind(data) == "jpeg" else _decode_other(data, into)
    except (ValueError, cv2.error) as error:
        raise InputError(
            f"{where}: not a readable image ({len(data)} bytes; {error}); replace or remove it"
        ) from error
    if size is None:
        return image
    check_square(image, where)
    return resize(image, size)


def check_square(image: np.ndarray, where: str) -> None:
    """Refuse an image that would be squashed to a square.

    Raises:
        InputError: if its sides differ.
    """
    height, width = image.shape[:2]
    if height != width:
        raise InputError(
            f"{where}: {width} x {height} pixels; expected a square crop, aligned to five points "
            "(python -m vec2face align)"
        )


def _decode_jpeg(data: bytes, into: np.ndarray | None) -> np.ndarray:
    # Decoders fill what is missing with grey, without an error, if there is an end marker.
    if not data.endswith(_END) and data.rfind(_END) <= (scan := data.rfind(_SCAN)):
        if b"\xff\xc2" in data[:scan] or data.count(_SCAN) != 1:
            raise ValueError("it ends early")  # even if a scan ends there, others may be missing
        data += _END
    width, height, channels = jpeg_frame(data)
    _bound(width, height, len(data))
    if channels == 4:  # the other decoder knows no way from CMYK to RGB
        return _by_opencv(data, into)
    if into is not None and into.shape != (height, width, 3):
        into = None
    while True:
        try:
            return simplejpeg.decode_jpeg(data, "RGB", buffer=into)
        except ValueError as error:  # at the least warning
            data = _without_harmless(data, str(error))


def _without_harmless(data: bytes, warning: str) -> bytes:
    """Return a JPEG without what a decoder warns of, if that takes no pixel from it.

    Raises:
        ValueError: with the warning, if it is one of damage.
    """
    if found := re.search(r"(\d+) extraneous bytes before marker 0x(\w\w)", warning):
        filler, marker = int(found[1]), bytes([0xFF, int(found[2], 16)])
        # Filler is one byte again and again; other bytes are left over from a damaged scan, and so
        # may be a few equal ones that are not zero.
        filling = rb"(.)\1{%d}" % (filler - 1) if filler > 3 else rb"\0{%d}" % filler
        for same in re.finditer(filling + rb"(?=%s)" % re.escape(marker), data, re.DOTALL):
            return data[: same.start()] + data[same.end() :]
    elif "unknown JFIF revision" in warning and (at := data.find(b"JFIF\0")) > 0:
        return data[: at + 5] + b"\1" + data[at + 6 :]
    raise ValueError(warning)


def _bound(width: int, height: int, size: int) -> None:
    if too_many(width, height, size):
        raise ValueError(f"it claims {width} x {height} pixels, too many for a face")


def _decode_other(data: bytes, into: np.ndarray | None) -> np.ndarray:
    if not is_read(data):
        raise ValueError(f"it is {kind(data) or 'no picture'}; expected JPEG or PNG")
    _bound(*claimed(data), len(data))
    return _by_opencv(data, into)


def _by_opencv(data: bytes, into: np.ndarray | None) -> np.ndarray:
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError("it is damaged or cut off")
    if into is not None and image.shape == into.shape:
        into[...] = image
        return into
    return image


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """Resize (H, W, 3) uint8 to (size, size, 3): by area averages down, bilinearly up."""
    if image.shape[:2] == (size, size):
        return image
    down = min(image.shape[:2]) >= size
    way = cv2.INTER_AREA if down else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=way)


def encode(image: np.ndarray, quality: int = 95) -> bytes:
    """Encode (H, W, 3) uint8 RGB as JPEG."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"an image of shape {image.shape} cannot be encoded")
    return data.tobytes()


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """Turn (N, H, W, 3) uint8 into (N, 3, H, W) float32 in [-1, 1]: (x / 255 - 0.5) / 0.5.

    Channels are last in memory, as they are in the images.
    """
    # In numpy's memory, which has huge pages, but aligned to 64 bytes as torch's is.
    room = np.empty(images.size + 15, np.float32)
    values = room[-(room.ctypes.data // 4) % 16 :][: images.size]
    _normalise(np.ascontiguousarray(images).reshape(-1), values)
    return torch.from_numpy(values.reshape(images.shape)).permute(0, 3, 1, 2)


@njit(nogil=True, cache=True)
def _normalise(levels: np.ndarray, values: np.ndarray) -> None:
    """Write (x / 255 - 0.5) / 0.5 of every level, each step rounded to float32, in one pass."""
    for i in range(len(levels)):
        share = np.float32(levels[i]) / np.float32(255)
        values[i] = (share - np.float32(0.5)) / np.float32(0.5)


def to_uint8(images: torch.Tensor, truncated: bool = False) -> np.ndarray:
    """Turn (N, 3, H, W) in [-1, 1] into (N, H, W, 3) uint8, rounded (or truncated) and clipped."""
    images = images.detach().float()
    levels = (images + 1) / 2 * 255 if truncated else images.mul(127.5).add(127.5).round()
    levels = levels.clamp(0, 255).byte()
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())
