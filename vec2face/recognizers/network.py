"""A recognizer in use: kept in a file with its architecture, embedding pictures.

The file is safetensors whose metadata hold, under ``recognizer``, the arguments of
``build_backbone`` as JSON, and a ``convention`` if the network expects another input than ours;
nothing is unpickled.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vec2face.faces.images import resize, to_tensor
from vec2face.randomness import torch_seed
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.convention import Convention
from vec2face.recognizers.weights import load_into
from vec2face.runtime.files import InputError, whole_file


class Adapted(nn.Module):
    """A network of another convention behind ours: it takes RGB in [-1, 1] as all others do."""

    def __init__(self, network: nn.Module, convention: Convention) -> None:
        super().__init__()
        self.network = network
        self.convention = convention
        self.image_size = network.image_size
        self.dimension = network.dimension

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, dimension), not normalised, of (B, 3, S, S)."""
        c = self.convention
        if c.channels == "bgr":
            images = images.flip(1)
        return self.network(images * c.scale + c.shift)


def quality(embeddings: Tensor) -> Tensor:
    """Return MagFace's estimate of quality (B,): the norms of embeddings that are not normalised.

    Only networks trained so (Meng et al., CVPR 2021) put quality there; theirs are about 10 to 110
    for the paper's lower and upper bound, and Vec2Face aims at 27.
    """
    return embeddings.norm(dim=1)


def save_recognizer(path: Path | str, recognizer: nn.Module, architecture: dict[str, Any]) -> None:
    """Write weights and architecture; equal weights give equal bytes.

    Args:
        path: a ``.safetensors`` file.
        recognizer: the network.
        architecture: the arguments of ``build_backbone`` that rebuild it, and those of its
            ``Convention`` under ``convention`` if it is ``Adapted``.
    """
    if isinstance(recognizer, Adapted):
        recognizer = recognizer.network
    tensors = {k: v.detach().cpu().contiguous() for k, v in recognizer.state_dict().items()}
    # One metadata entry only: the format does not keep the order of several.
    metadata = {"recognizer": json.dumps(architecture, sort_keys=True)}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_recognizer(path: Path | str) -> nn.Module:
    """Return the recognizer of ``path`` in evaluation mode.

    It has ``image_size``, ``dimension`` and ``architecture``.

    Raises:
        InputError: if the file is missing, no safetensors file, or not of a recognizer.
    """
    if not Path(path).is_file():  # a pipe would be waited for
        raise InputError(f"{path}: no such file; give a recognizer's, or train one first")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if "config" in metadata and "recognizer" not in metadata:
                message = f"{path}: it is a generator, not a recognizer"
                raise InputError(message)  # noqa: TRY301
            architecture = json.loads(metadata["recognizer"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        arguments = {k: v for k, v in architecture.items() if k != "convention"}
        with torch.device("meta"):  # what the metadata say takes no memory until shapes agree
            recognizer = build_backbone(**arguments)
        load_into(recognizer, tensors, path)
        ready = adapt(recognizer, architecture)
    except InputError:
        raise
    except Exception as error:  # whatever metadata from outside bring about
        reason = f" ({error})" if isinstance(error, ValueError | SafetensorError) else ""
        raise InputError(
            f"{path}: not a recognizer written by save_recognizer{reason}; train it again"
        ) from error
    return ready


def is_ours(path: Path | str) -> bool:
    """Tell whether a ``.safetensors`` has metadata of this project, or is none at all."""
    if not Path(path).is_file():
        return True  # load_recognizer says what is wrong
    try:
        with safe_open(path, "pt") as file:
            return not {"recognizer", "config"}.isdisjoint(file.metadata() or {})
    except (OSError, SafetensorError):
        return True


def adapt(recognizer: nn.Module, architecture: dict[str, Any]) -> nn.Module:
    """Return a network ready for use: in evaluation mode, ``Adapted`` if its convention says so."""
    if architecture.get("convention"):
        recognizer = Adapted(recognizer, Convention(**architecture["convention"]))
    recognizer.architecture = architecture  # type: ignore[assignment]
    return recognizer.to(memory_format=torch.channels_last).eval()


def untrained_recognizer(
    architecture: dict[str, Any], images: np.ndarray, seed: int, batch: int = 128
) -> nn.Module:
    """Return a freshly initialised recognizer whose batch norms know the training images.

    This is the floor of a comparison. With the initial statistics (mean 0, variance 1) the signal
    would grow or vanish from layer to layer and the floor would be too low; what remains is a
    random projection of the pictures, which pairs them by their looks.

    Args:
        architecture: arguments of ``build_backbone``.
        images: uint8 (N, H, W, 3), training images without augmentation; one pass over them.
        seed: the experiment's seed; the start weights are those that training starts from.
        batch: images per forward pass.
    """
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "recognizer"))
        recognizer = build_backbone(**architecture)
    estimate_statistics(recognizer, images, batch)
    return recognizer.to(memory_format=torch.channels_last)


def estimate_statistics(recognizer: nn.Module, images: np.ndarray, batch: int = 128) -> None:
    """Replace the batch norms' statistics by averages over ``images`` (one pass, no dropout).

    Args:
        recognizer: left in evaluation mode.
        images: uint8 (N, H, W, 3).
        batch: images per forward pass; a last batch of one joins the one before.
    """
    norms = [m for m in recognizer.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # noqa: SLF001
    momenta = [norm.momentum for norm in norms]
    recognizer.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average over all batches, each with equal weight
        norm.train()
    pieces = np.array_split(np.arange(len(images)), max(len(images) // batch, 1))
    with torch.inference_mode():
        for piece in pieces:
            recognizer(_input(images[piece], recognizer.image_size))  # type: ignore[arg-type]
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    recognizer.eval()


def embed(recognizer: nn.Module, images: np.ndarray, batch: int = 128) -> np.ndarray:
    """Return embeddings float32 (N, D), not normalised, of uint8 (N, H, W, 3) of any size."""
    device = next(recognizer.parameters()).device
    rows = []
    with _evaluating(recognizer), torch.inference_mode():
        for first in range(0, len(images), batch):
            x = _input(images[first : first + batch], recognizer.image_size)  # type: ignore[arg-type]
            rows.append(recognizer(x.to(device)).float().cpu().numpy())
    if not rows:
        return np.empty((0, recognizer.dimension), np.float32)  # type: ignore[arg-type]
    return np.concatenate(rows)


def _input(images: np.ndarray, size: int) -> torch.Tensor:
    """Return (B, 3, size, size) in [-1, 1]."""
    if images.shape[1:3] != (size, size):
        images = np.stack([resize(image, size) for image in images])
    return to_tensor(images)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
