"""Estimators of face attributes: differentiable, with outputs that have names and units.

An estimator takes faces (B, 3, S, S) as RGB in [-1, 1], like all networks here, and gives each of
its outputs as (B,). What its file wants instead (another crop, size, order of channels or scale) is
said in the parameters (``EstimatorConfig``), and so is how its numbers are read.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

from vec2face.config.attributes import EstimatorConfig, Gives
from vec2face.estimators.pose import SixDRepNet, euler_angles, load_pose
from vec2face.recognizers.features import open_network
from vec2face.recognizers.onnx_graph import (
    fixed_batch,
    free_batch,
    image_input,
    pinned,
    read_model,
    upgraded,
)
from vec2face.runtime.files import InputError

TRIED = 3  # random images on which a file and its PyTorch form are compared


class Estimator(nn.Module):
    """A frozen estimator.

    Args:
        network: what the file holds: (B, 3, s, s), as it wants them, to (B, numbers).
        side: s; None for faces as they come.
        config: what the parameters say of it.

    Attributes:
        units: of the outputs, by name.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, side: int | None, config: EstimatorConfig) -> None:
        super().__init__()
        self.network = network
        self.side, self.config = side, config
        self.units = dict(config.gives.outputs)
        self.register_buffer("mean", torch.tensor(config.takes.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(config.takes.std).view(-1, 1, 1))
        self.requires_grad_(requires_grad=False).eval()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the outputs (B,) by name."""
        crops = cut(images, self.config.takes.box, self.side)
        if self.config.takes.channels == "bgr":
            crops = crops.flip(1)
        numbers = self.network(((crops + 1) / 2 - self.mean) / self.std)
        values = READINGS[self.config.gives.reading](numbers, self.config.gives)
        turned = self.config.gives.opposite
        return {
            name: -value if name in turned else value
            for name, value in zip(self.units, values.unbind(1), strict=True)
        }


def cut(images: Tensor, box: Sequence[float], side: int | None = None) -> Tensor:
    """Return a part of images (B, 3, S, S), scaled (bilinear, antialiased).

    It is a product with a matrix for each axis: on a GPU the gradients of padding and interpolation
    are sums in no fixed order.

    Args:
        images: of any values.
        box: left, top, right, bottom in sides of the images; beyond their edges the outermost
            pixels are repeated.
        side: of the result in pixels; None for that of the box.
    """
    left, top, right, bottom = (round(place * images.shape[3]) for place in box)
    across, down = _axis(images, left, right, side), _axis(images, top, bottom, side)
    images = images if across is None else images @ across.T
    return images if down is None else down @ images


def _axis(images: Tensor, low: int, high: int, side: int | None) -> Tensor | None:
    """Return what cuts and scales an axis: (side, S), whose rows sum to 1; None for nothing."""
    size, side = images.shape[3], side or high - low
    if (low, high, side) == (0, size, size):
        return None
    pixels = torch.arange(low, high, device=images.device).clamp(0, size - 1)
    rows = torch.eye(size, dtype=images.dtype, device=images.device)[pixels]
    if side == len(rows):
        return rows
    return functional.interpolate(
        rows[None, None], (side, size), mode="bilinear", align_corners=False, antialias=True
    )[0, 0]


def _plain(numbers: Tensor, gives: Gives) -> Tensor:
    return numbers[:, : len(gives.outputs)]


def _length(numbers: Tensor, gives: Gives) -> Tensor:
    del gives
    return numbers.norm(dim=1, keepdim=True)


def _expectation(numbers: Tensor, gives: Gives) -> Tensor:
    """Return the mean of ``gives.classes`` under probabilities (B, classes)."""
    values = numbers.new_tensor(gives.classes)
    if numbers.shape[1] != len(values):
        raise ValueError(f"{numbers.shape[1]} probabilities for {len(values)} classes")
    return (numbers * values).sum(1, keepdim=True) / numbers.sum(1, keepdim=True)


def _camera(numbers: Tensor, gives: Gives) -> Tensor:
    """Return (yaw, pitch, roll) in degrees of a 3D morphable model's camera.

    Its first twelve numbers are a scaled rotation and a translation, row by row (3DDFA, Zhu et
    al., 2016).
    """
    matrix = numbers[:, :12].reshape(-1, 3, 4)[:, :, :3]
    first, second = (functional.normalize(matrix[:, i], dim=1) for i in (0, 1))
    third = torch.linalg.cross(first, second)
    yaw = third[:, 0].clamp(-1 + 1e-6, 1 - 1e-6).asin()
    pitch = torch.atan2(third[:, 1], third[:, 2])
    roll = torch.atan2(second[:, 0], first[:, 0])
    return torch.rad2deg(torch.stack([yaw, pitch, roll], 1))[:, : len(gives.outputs)]


READINGS: Mapping[str, Callable[[Tensor, Gives], Tensor]] = {
    "plain": _plain,
    "length": _length,
    "expectation": _expectation,
    "camera": _camera,
}
"""How the numbers (B, n) of a network become outputs (B, outputs)."""


def open_estimator(config: EstimatorConfig, key: str = "estimators") -> Estimator:
    """Open the estimator that the parameters describe under ``key``.

    Raises:
        InputError: the file is missing, is no such network, has no differentiable form, or gives
            fewer numbers than outputs; the message names file or key.
    """
    path = Path(config.file)
    if config.network == "recognizer":
        estimator = Estimator(open_network(path), config.takes.side, config)
    elif config.network == "6drepnet":
        estimator = Estimator(_Angles(load_pose(path)), config.takes.side, config)
    else:
        module, own = _module(path)
        estimator = Estimator(module, config.takes.side or own, config)
    try:
        with torch.no_grad():
            found = estimator(torch.zeros(2, 3, 112, 112))
    except Exception as error:
        raise InputError(f"{key}: {path} does not do as it says there: {error}") from error
    for name, value in found.items():
        if value.shape != (2,):
            raise InputError(f"{key}: {path} gives {name} as {tuple(value.shape)}, not one a face")
    return estimator


def _module(path: Path) -> tuple[nn.Module, int | None]:
    """Return the PyTorch form of an ONNX file, which takes what the file takes, and its side."""
    model = read_model(path)
    try:
        return _converted(path, model)
    except InputError:
        if fixed_batch(model) is not None:
            raise
        return _converted(path, pinned(model))  # it claims any batch, and reshapes to one image


def _converted(path: Path, model: onnx.ModelProto) -> tuple[nn.Module, int]:
    from onnx2torch import convert  # noqa: PLC0415 - slow to import

    name, side = image_input(model)
    try:
        free = upgraded(free_batch(model))
        module = convert(free).eval()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(free.SerializeToString(), options)
        images = np.random.default_rng(0).normal(0, 0.5, (TRIED, 3, side, side)).astype(np.float32)
        expected = session.run(None, {name: images})[0]
        with torch.no_grad():
            found: Any = module(torch.from_numpy(images))
        found = (found if isinstance(found, Tensor) else found[0]).numpy()
    except Exception as error:
        raise InputError(f"{path}: it has no PyTorch form ({str(error)[:200]})") from error
    scale = float(np.abs(expected).max())
    if found.shape != expected.shape or not np.allclose(found, expected, atol=1e-3 * scale):
        raise InputError(f"{path}: in PyTorch its numbers differ; export it again, with opset 17")
    return _First(module), side


class _Angles(nn.Module):
    """A 6DRepNet as its own input has it, to (pitch, yaw, roll)."""

    def __init__(self, network: SixDRepNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return degrees."""
        return euler_angles(self.network.rotations_of(images))


class _First(nn.Module):
    """The first of a network's outputs, as (B, numbers)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, images: Tensor) -> Tensor:
        """Return it."""
        found = self.module(images)
        return (found if isinstance(found, Tensor) else found[0]).flatten(1)
