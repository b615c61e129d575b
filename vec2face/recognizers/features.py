"""Features of a whole source of faces: one row per image, in the source's order."""

import logging
import shutil
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import fx, nn

from vec2face.faces.source import Source, load_images
from vec2face.recognizers.convention import Convention
from vec2face.recognizers.network import embed, load_recognizer
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


def _network(path: Path) -> nn.Module | None:
    """Return the network of a file that holds one in PyTorch's terms, None for all others."""
    if path.suffix == ".safetensors":
        return load_recognizer(path)
    return read_recognizer(path) if path.suffix in SUFFIXES else None


def open_recognizer(path: Path | str) -> Recognizer:
    """Return the recognizer of a file: ours (``.safetensors``), released weights, or ONNX.

    Raises:
        InputError: the file is missing or no recognizer.
    """
    network = _network(Path(path))
    recognizer = OnnxRecognizer(path) if network is None else NetworkRecognizer(network)
    log.info("%s: takes %s", path, recognizer.convention)
    return recognizer


def open_network(path: Path | str) -> TorchRecognizer:
    """Return the recognizer of the same files as a frozen module, to differentiate through.

    It takes RGB in [-1, 1] of any size, whatever convention the file's network follows.

    Raises:
        InputError: as ``open_recognizer``, or if an ONNX file has no PyTorch form.
    """
    network = _network(Path(path))
    if network is None:
        return to_torch(path)
    graph = fx.GraphModule(network, _Tracer().trace(network))
    return TorchRecognizer(graph, network.image_size)  # type: ignore[arg-type]


class _Tracer(fx.Tracer):
    """Leaves our PReLU whole, as PyTorch's own layers: its forward looks at what it is given."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.PReLU) or super().is_leaf_module(m, module_qualified_name)


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
        InputError: naming the image that cannot be decoded, or whose feature is not finite.
    """
    block = recognizer.features(load_images(source, recognizer.input_size, rows))
    bad = np.flatnonzero(~np.isfinite(block).all(1))
    if len(bad):
        where = source.where(rows[int(bad[0])])
        raise InputError(f"{where}: its feature is not finite; is this recognizer sound?")
    return block
