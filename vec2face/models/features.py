"""Features of a whole source of faces: one row per image, in the source's order."""

from typing import Protocol

import numpy as np
from tqdm import tqdm

from vec2face.faces.source import Source, load_images
from vec2face.files import InputError

BLOCK = 512  # images decoded at a time


class Recognizer(Protocol):
    """What turns images into features, such as :class:`vec2face.models.onnx.OnnxRecognizer`."""

    dimension: int
    input_size: int

    def features(self, images: np.ndarray) -> np.ndarray:
        """Map (N, S, S, 3) uint8 RGB to (N, dimension) float32."""


def extract(recognizer: Recognizer, source: Source, limit: int | None = None) -> np.ndarray:
    """Return the features of the first ``limit`` images (default: all): (N, dimension) float32.

    Features are as the recognizer gives them, not L2-normalised.

    Raises:
        InputError: naming the image that cannot be decoded, or whose feature is not finite.
    """
    total = len(source) if limit is None else min(limit, len(source))
    result = np.empty((total, recognizer.dimension), np.float32)
    with tqdm(total=total, desc=f"features of {source.name}", unit="img", disable=None) as progress:
        for first in range(0, total, BLOCK):
            rows = np.arange(first, min(first + BLOCK, total))
            block = recognizer.features(load_images(source, recognizer.input_size, rows))
            bad = np.flatnonzero(~np.isfinite(block).all(1))
            if len(bad):
                where = source.where(first + int(bad[0]))
                raise InputError(f"{where}: its feature is not finite; is this recognizer sound?")
            result[rows] = block
            progress.update(len(rows))
    return result
