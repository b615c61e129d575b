"""Features of a whole source of faces: one row per image, in the source's order."""

from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from vec2face.faces.source import Source, load_images
from vec2face.files import InputError
from vec2face.models.onnx import OnnxRecognizer
from vec2face.models.recognizer import embed, load_recognizer

BLOCK = 512  # images decoded at a time


class Recognizer(Protocol):
    """What turns images into features."""

    dimension: int
    input_size: int

    def features(self, images: np.ndarray) -> np.ndarray:
        """Map (N, S, S, 3) uint8 RGB to (N, dimension) float32."""


class TrainedRecognizer:
    """A recognizer that this project trained (``.safetensors``)."""

    def __init__(self, path: Path | str) -> None:
        self._net = load_recognizer(path)
        self.dimension: int = self._net.dimension  # type: ignore[assignment]
        self.input_size: int = self._net.image_size  # type: ignore[assignment]

    def features(self, images: np.ndarray) -> np.ndarray:
        """Map (N, S, S, 3) uint8 RGB to (N, dimension) float32."""
        return embed(self._net, images)


def open_recognizer(path: Path | str) -> Recognizer:
    """Return the recognizer of an ONNX file, or of one of ours (``.safetensors``).

    Raises:
        InputError: the file is missing or no recognizer.
    """
    return TrainedRecognizer(path) if Path(path).suffix == ".safetensors" else OnnxRecognizer(path)


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
