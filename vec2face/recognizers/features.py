"""Features of a whole source of faces: one row per image, in the source's order."""

import logging
import shutil
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import fx, nn

from vec2face.faces.source import Source, load_images
from vec2face.recognizers.convention import Convention
from vec2face.recognizers.network import embed, is_ours, load_recognizer
from vec2face.recognizers.onnx import OnnxRecognizer, TorchRecognizer, to_torch
from vec2face.recognizers.released import read_recognizer
from vec2face.recognizers.weights import SUFFIXES
from vec2face.runtime.blocks import Arrays, Blocks, unfinished
from vec2face.runtime.files import InputError, is_sealed, row_file, seal, sweep
from vec2face.runtime.processes import processes

# Images decoded at a time: a multiple of the recognizers' batches, so that an image's batch depends
# on its row only, however the rows are shared.
BLOCK = 512


log = logging.getLogger(__name__)


LEAST_SPREAD = 1e-5
"""Features of different images whose spread is below this are all alike: an error.

The spread is 1 - |mean of the L2-normalised features|^2, half the mean squared distance of two of
them. Untrained networks have 0.0003 and more, trained ones 0.75 to 0.96 on photographs.
"""
USUAL_SPREAD = 0.004
"""Below this, an ONNX file is an error if larger pixels (by 127.5) give ``TRAINED_SPREAD``.

Four trained networks had 0.0003 to 0.0027 when their pixels were too small by 255 or 127; untrained
ones of usual widths have 0.014 and more. An untrained network of 8 channels is as flat as those.
"""
TRAINED_SPREAD = 0.5
"""Trained networks have more, on pixels of the scale that they want."""
LEAST_IMAGES = 8
"""A call with fewer images tells nothing of their spread."""
LEAST_CONTRAST = 10.0
"""Images whose 8 x 8 cells differ by less, of 255, from image to image are too alike to tell."""


class NotFiniteError(InputError):
    """A feature has no direction in float32; ``row`` is its image's place in the call."""

    def __init__(self, row: int) -> None:
        super().__init__(self.of(f"image {row}"))
        self.row = row

    @staticmethod
    def of(image: str) -> str:
        """Return the message for the name of an image."""
        return f"{image}: its feature is zero or not finite; is this recognizer sound?"


class Recognizer(Protocol):
    """What turns images into features."""

    dimension: int
    input_size: int

    def features(self, images: np.ndarray) -> np.ndarray:
        """Map (N, S, S, 3) uint8 RGB to (N, dimension) float32."""


class NetworkRecognizer:
    """A PyTorch network in use: one that this project trained, or whose weights others released."""

    def __init__(self, network: nn.Module) -> None:
        self._net = network.to("cuda" if torch.cuda.is_available() else "cpu")
        self.dimension: int = network.dimension  # type: ignore[assignment]
        self.input_size: int = network.image_size  # type: ignore[assignment]
        self.convention: Convention = getattr(network, "convention", Convention())  # type: ignore[assignment]

    def features(self, images: np.ndarray) -> np.ndarray:
        """Map (N, S, S, 3) uint8 RGB to (N, dimension) float32."""
        return embed(self._net, images)


class CheckedRecognizer:
    """A recognizer given as a file: features that cannot be right end the work.

    Attributes:
        dimension: the length of a feature.
        input_size: S in pixels.
    """

    def __init__(self, path: Path | str, recognizer: Recognizer) -> None:
        self._path, self._recognizer = path, recognizer
        self.dimension, self.input_size = recognizer.dimension, recognizer.input_size
        if self.dimension < 2:
            raise InputError(
                f"{path}: its feature is {self.dimension} number long, so all faces point the same "
                "way or the opposite; a recognizer gives 2 numbers or more"
            )

    def features(self, images: np.ndarray) -> np.ndarray:
        """Map (N, S, S, 3) uint8 RGB to (N, dimension) float32.

        Raises:
            NotFiniteError: for the first feature that is zero or not finite.
            InputError: if features of different images hardly vary (``LEAST_SPREAD``,
                ``USUAL_SPREAD``).
        """
        found = finite(self._recognizer.features(images))
        if len(found) >= LEAST_IMAGES and _contrast(images) >= LEAST_CONTRAST:
            now = spread(found)
            if now < LEAST_SPREAD or (
                now < USUAL_SPREAD and self._wide_spread(images) > TRAINED_SPREAD
            ):
                raise InputError(
                    f"{self._path}: its features hardly vary: their spread over {len(found)} "
                    f"different images is {now:.1g}; does it want pixels of another scale? "
                    "(import-recognizer --mean --std)"
                )
        return found

    def _wide_spread(self, images: np.ndarray) -> float:
        if not isinstance(self._recognizer, OnnxRecognizer):
            return 0.0
        return spread(self._recognizer.features(images, wide=True))


def finite(features: np.ndarray) -> np.ndarray:
    """Return features as they come.

    Raises:
        NotFiniteError: for the first whose length in float32 is zero or not finite.
    """
    with np.errstate(over="ignore", under="ignore"):
        lengths = np.linalg.norm(features.astype(np.float32, copy=False), axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        raise NotFiniteError(int(bad[0]))
    return features


def spread(features: np.ndarray) -> float:
    """Return 1 - |mean direction|^2 of (N, D): 0 if all are alike, near 1 if they are unrelated."""
    wide = features.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    return 1 - float(np.square((wide / np.where(norms == 0, 1, norms)).mean(0)).sum())


def _contrast(images: np.ndarray) -> float:
    """Return how much the means of 8 x 8 cells differ from image to image, of 255."""
    side = min(8, *images.shape[1:3])
    cells = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images]
    return float(np.stack(cells).astype(np.float32).std(0).mean())


def _network(path: Path) -> nn.Module | None:
    """Return the network of a file that holds one in PyTorch's terms, None for all others."""
    if path.suffix == ".safetensors":
        return load_recognizer(path) if is_ours(path) else read_recognizer(path)
    return read_recognizer(path) if path.suffix in SUFFIXES else None


def open_recognizer(path: Path | str) -> CheckedRecognizer:
    """Return the recognizer of a file: ours (``.safetensors``), released weights, or ONNX.

    What it expects of its input is logged.

    Raises:
        InputError: the file is missing or no recognizer.
    """
    network = _network(Path(path))
    recognizer = OnnxRecognizer(path) if network is None else NetworkRecognizer(network)
    log.info("%s: takes %s", path, recognizer.convention)
    return CheckedRecognizer(path, recognizer)


def open_network(path: Path | str) -> TorchRecognizer:
    """Return the recognizer of the same files as a frozen module, to differentiate through.

    It takes RGB in [-1, 1] of any size, whatever convention the file's network follows.

    Raises:
        InputError: as ``open_recognizer``, or if an ONNX file has no PyTorch form.
    """
    network = _network(Path(path))
    if network is None:
        return to_torch(path)
    graph = fx.symbolic_trace(network)
    return TorchRecognizer(graph, network.image_size)  # type: ignore[arg-type]


def extract_to(path: Path | str, recognizer: Recognizer, source: Source) -> None:
    """Write the features of all images as ``.npy``: (N, dimension) float32, not L2-normalised.

    Several processes share the work, and it goes on where it was killed: finished blocks lie beside
    the file, until it is there. So its folder belongs to exactly these arguments. On the disk this
    takes twice the file; in memory, a block.

    Raises:
        InputError: as ``extract_rows``; if the disk is full.
    """
    path, total = Path(path), len(source)
    firsts = range(0, total, BLOCK)

    def make(first: int) -> Arrays:
        rows = range(first, min(first + BLOCK, total))
        return {"features": extract_rows(recognizer, source, rows)}

    blocks = Blocks(path.with_name(f"{path.name}.blocks"), make)
    if unfinished([0], lambda _: is_sealed(path)):
        blocks.finish(firsts, f"features of {source.name}")
        if processes().main:
            sweep(path)
            with row_file(path, total, recognizer.dimension) as append:
                for first in firsts:
                    append(blocks[first]["features"])
            seal(path)
    if processes().main:
        shutil.rmtree(blocks.folder)
    processes().wait()


def extract_rows(recognizer: Recognizer, source: Source, rows: range) -> np.ndarray:
    """Return the features of some rows, (len(rows), dimension) float32, not L2-normalised.

    Raises:
        InputError: naming the image that cannot be decoded, or whose feature is zero or not finite.
    """
    images = load_images(source, recognizer.input_size, rows)
    try:
        return finite(recognizer.features(images))
    except NotFiniteError as error:
        raise InputError(error.of(source.where(rows[error.row]))) from error
