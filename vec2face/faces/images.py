"""Encoded images, uint8 arrays and tensors. Everything is RGB."""

import cv2
import numpy as np
import simplejpeg
import torch
from numba import njit

from vec2face.runtime.files import InputError

LARGEST = 1 << 28  # pixels; a small file may claim to hold more than any memory
_JPEG, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def decode(
    data: bytes, where: str, size: int | None = None, into: np.ndarray | None = None
) -> np.ndarray:
    """Decode a JPEG or PNG.

    Args:
        data: the encoded image.
        where: names the image in an error, such as ``"a.rec, key 7"``.
        size: if given, the image is resized to (size, size).
        into: uint8; an image of this shape is written here and returned, without a copy.

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        InputError: if the bytes are no image, claim to be a huge one, or are a JPEG that ends early
            (decoders fill the missing rest with grey without an error, so its end marker is looked
            for).
    """
    image = None
    if not data.startswith(_JPEG):
        image = _decode_any(data, into)
    elif data.endswith(_END) or data.rfind(_END) > data.rfind(_SCAN):
        image = _decode_jpeg(data, where, into)
    if image is None:
        raise InputError(f"{where}: not a readable image ({len(data)} bytes); replace or remove it")
    return image if size is None else resize(image, size)


def _decode_jpeg(data: bytes, where: str, into: np.ndarray | None) -> np.ndarray | None:
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data)
        if height * width <= LARGEST:
            return simplejpeg.decode_jpeg(data, "RGB", buffer=into)
    except ValueError:  # it refuses colours other than these and the least damage
        return _decode_any(data, into)
    raise InputError(f"{where}: claims {width} x {height} pixels, too many for a face; remove it")


def _decode_any(data: bytes, into: np.ndarray | None) -> np.ndarray | None:
    """Decode whatever OpenCV knows; a JPEG to the same pixels as simplejpeg, in more time."""
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        return None
    if into is not None and image is not None and image.shape == into.shape:
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


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """Turn (N, 3, H, W) in [-1, 1] into (N, H, W, 3) uint8, rounded and clipped."""
    levels = images.detach().float().mul(127.5).add(127.5).round().clamp(0, 255).byte()
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())
