"""Augmentation of face crops for recognition training, as a pure function of the image's index.

Each of five changes is made with its own probability: mirror, visible window ("crop"), lower
resolution, photometric change, random erasing. All numbers of one image come from
(seed, epoch, image index), so neither batch size nor worker nor a restart changes a pixel.
"""

import cv2
import numpy as np

from vec2face.config.sections import Augmentation
from vec2face.randomness import stream

DRAWS = 24
RELEASED_ERASING = {"erasing": 0.5, "erased": (0.02, 0.33)}
_INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC)


def augment(
    images: np.ndarray,
    indices: np.ndarray,
    epoch: int,
    seed: int,
    settings: Augmentation,
    *,
    released: bool = False,
) -> np.ndarray:
    """Return changed copies of ``images``.

    Args:
        images: uint8 (B, H, W, 3), RGB.
        indices: (B,) the images' numbers in the training set.
        epoch: number of the pass over the training set, from 0.
        seed: the experiment's seed.
        settings: what to do how often.
        released: erase as the authors' code does, to the middle grey, whatever the settings say.

    Returns:
        uint8 (B, H, W, 3), a new array.
    """
    images = images.copy()
    s = settings.model_copy(update=RELEASED_ERASING) if released else settings
    chances = [s.flip, s.crop, s.low_resolution, s.photometric, s.erasing]
    if not any(chances):
        return images
    draws = np.stack([stream(seed, "augment", epoch, int(i)).random(DRAWS) for i in indices])
    chosen = draws[:, :5] < chances
    flipped = np.flatnonzero(chosen[:, 0])
    images[flipped] = images[flipped, :, ::-1]
    bright = np.flatnonzero(chosen[:, 3])
    if len(bright):
        factors = 1 + s.photometric_change * (2 * draws[bright, 5:8] - 1)
        images[bright] = _photometric(images[bright], factors)
    for i in np.flatnonzero(chosen[:, 2]):
        _lower_resolution(images[i], s.least_resolution, draws[i, 8:11])
    for i in np.flatnonzero(chosen[:, 1]):
        _window(images[i], s.least_window, draws[i, 11:15])
    for i in np.flatnonzero(chosen[:, 4]):
        _erase(images[i], s.erased, draws[i, 15:19], 0.5 if released else draws[i, 19])
    return images


def _photometric(images: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Scale brightness, contrast (about the mean grey) and saturation by (B, 3) ``factors``."""
    brightness, contrast, saturation = factors.astype(np.float32).T[:, :, None, None, None]
    x = images.astype(np.float32) * brightness
    grey = x @ np.array([[0.299], [0.587], [0.114]], np.float32)
    # One affine step: grey + (x - grey) * saturation, then the same about the mean grey.
    x = (grey + (x - grey) * saturation - grey.mean((1, 2, 3), keepdims=True)) * contrast
    x += grey.mean((1, 2, 3), keepdims=True)
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def _lower_resolution(image: np.ndarray, least: float, draws: np.ndarray) -> None:
    height, width = image.shape[:2]
    share = least + (1 - least) * draws[0]
    small = (max(round(width * share), 1), max(round(height * share), 1))
    down, up = (_INTERPOLATIONS[int(d * len(_INTERPOLATIONS))] for d in draws[1:3])
    image[:] = cv2.resize(
        cv2.resize(image, small, interpolation=down), (width, height), interpolation=up
    )


def _rectangle(
    image: np.ndarray, area: float, ratio: float, place: np.ndarray
) -> tuple[slice, slice]:
    """Return a rectangle of a share ``area`` of the image, as far as it fits, at ``place``."""
    height, width = image.shape[:2]
    tall = min(max(round(height * np.sqrt(area * ratio)), 1), height)
    wide = min(max(round(width * np.sqrt(area / ratio)), 1), width)
    top, left = int(place[0] * (height - tall + 1)), int(place[1] * (width - wide + 1))
    return slice(top, top + tall), slice(left, left + wide)


def _window(image: np.ndarray, least: float, draws: np.ndarray) -> None:
    area = least + (1 - least) * draws[0]
    seen = _rectangle(image, area, (3 / 4) ** (2 * draws[1] - 1), draws[2:4])
    inside = image[seen].copy()
    image[:] = 0
    image[seen] = inside


def _erase(image: np.ndarray, erased: tuple[float, float], draws: np.ndarray, grey: float) -> None:
    area = erased[0] + (erased[1] - erased[0]) * draws[0]
    hidden = _rectangle(image, area, 3.3 ** (2 * draws[1] - 1), draws[2:4])
    image[hidden] = int(256 * grey)
