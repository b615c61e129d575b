"""Encoded images, uint8 arrays and tensors. Everything is RGB."""

import cv2
import numpy as np
import torch

from vec2face.files import InputError

_JPEG, _SCAN, _END = b"\xff\xd8", b"\xff\xda", b"\xff\xd9"


def decode(data: bytes, where: str, size: int | None = None) -> np.ndarray:
    """Decode a JPEG or PNG.

    Args:
        data: the encoded image.
        where: names the image in an error, such as ``"a.rec, key 7"``.
        size: if given, the image is resized to (size, size).

    Returns:
        (H, W, 3) uint8, RGB.

    Raises:
        InputError: if the bytes are no image, or a JPEG that ends early (decoders fill the missing
            rest with grey without an error, so its end marker is looked for).
    """
    image = None
    if not (data.startswith(_JPEG) and data.rfind(_END) <= data.rfind(_SCAN)):
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        try:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
        except cv2.error:
            image = None
    if image is None:
        raise InputError(f"{where}: not a readable image ({len(data)} bytes); replace or remove it")
    return image if size is None else resize(image, size)


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
    """Turn (N, H, W, 3) uint8 into (N, 3, H, W) float32 in [-1, 1]: (x / 255 - 0.5) / 0.5."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255).sub_(0.5).div_(0.5)


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """Turn (N, 3, H, W) in [-1, 1] into (N, H, W, 3) uint8, rounded and clipped."""
    levels = images.detach().float().mul(127.5).add(127.5).round().clamp(0, 255).byte()
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())
