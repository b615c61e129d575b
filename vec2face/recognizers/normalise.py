"""Batch norm and the activation behind it, as one step where a CPU trains in float32.

PyTorch passes over the maps about a dozen times for the two, forward and backward; two fifths of a
small recognizer's training go there. ``kernels`` passes four times. Its sums are exact to the last
digits of float32, where PyTorch's lose two or three more over a large map, and they do not depend
on the number of threads.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vec2face.recognizers.partial_fc import gather_rows
from vec2face.runtime.processes import Group

PARTS = 8  # of a map, whose sums are taken apart, on any number of threads
WIDTH = 64  # numbers of a row, at least, where rows can be joined
SEEN = 64  # rows whose mean is taken off before squares are summed


def normalise(x: Tensor, norm: nn.Module, activation: nn.PReLU | None = None) -> Tensor:
    """Return ``activation(norm(x))``: (B, C, H, W) to the same.

    Args:
        x: the maps.
        norm: a BatchNorm2d, or what ``exchange`` put in its place, or another module.
        activation: None for none.
    """
    group = getattr(norm, "group", None)
    known = (type(norm) is nn.BatchNorm2d or group is not None) and _is_usual(norm)
    known = known and norm.training and torch.is_grad_enabled() and _is_plain(x)
    if not (known and (activation is None or activation.num_parameters == x.shape[1])):
        y = norm(x)
        return y if activation is None else activation(y)
    assert isinstance(norm, nn.BatchNorm2d)
    slope = torch.ones(x.shape[1]) if activation is None else activation.weight
    x = x.contiguous(memory_format=torch.channels_last)
    return _Step.apply(x, norm.weight, norm.bias, slope, norm, group)


def _is_usual(norm: nn.Module) -> bool:
    rest = norm.affine, norm.track_running_stats, norm.momentum is not None
    return isinstance(norm, nn.BatchNorm2d) and all(rest)


def _is_plain(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and x.ndim == 4
        and x.numel() > x.shape[1]  # PyTorch refuses a single value
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads)


class _Rows:
    """Maps (B, C, H, W) as rows for the kernels, in parts."""

    def __init__(self, channels: int, count: int) -> None:
        self.channels, self.count = channels, count
        self.joined = max(1, WIDTH // channels)
        while count % self.joined:
            self.joined //= 2
        rows = count // self.joined
        self.parts = [slice(rows * i // PARTS, rows * (i + 1) // PARTS) for i in range(PARTS)]

    def view(self, maps: Tensor) -> np.ndarray:
        rows = maps.detach().permute(0, 2, 3, 1).reshape(-1, self.joined * self.channels)
        return rows.numpy()

    def widened(self, *values: np.ndarray) -> list[np.ndarray]:
        """Repeat values of channels (C,) for joined rows."""
        return [np.tile(value.astype(np.float32), self.joined) for value in values]

    def run(self, kernel: Callable[..., None], *arguments: np.ndarray) -> None:
        """Call a kernel part by part, on the threads that PyTorch may use.

        Maps are cut into the parts, of sums (PARTS, ...) each has its own, and values of channels
        are the same for all.
        """

        def call(part: int) -> None:
            cut: dict[int, Any] = {1: ..., 2: self.parts[part], 3: part}
            kernel(*(argument[cut[argument.ndim]] for argument in arguments))

        threads = min(torch.get_num_threads(), PARTS)
        list((_pool(threads).map if threads > 1 else map)(call, range(PARTS)))

    def sums(self, of: int) -> np.ndarray:
        """Return room for sums of the parts, (PARTS, of, width) float64."""
        return np.zeros((PARTS, of, self.joined * self.channels))

    def total(self, sums: np.ndarray) -> np.ndarray:
        """Return the sums over parts and joined rows, (of, C)."""
        return sums.sum(0).reshape(sums.shape[1], self.joined, self.channels).sum(1)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        slope: Tensor,
        norm: nn.BatchNorm2d,
        group: Group | None,
    ) -> Tensor:
        from vec2face.recognizers import kernels  # noqa: PLC0415 - numba, where a CPU trains

        rows = _Rows(x.shape[1], x[:, 0].numel())
        maps = rows.view(x)
        seen = maps[:: -(-len(maps) // SEEN)].mean(0, dtype=np.float64)
        pivot = seen.reshape(rows.joined, rows.channels).mean(0)
        sums = rows.sums(2)
        rows.run(kernels.moments, maps, *rows.widened(pivot), sums)
        first, second = rows.total(sums) / rows.count
        mean, variance, count = _of_all(pivot + first, second - first**2, rows.count, group)
        _move(norm, mean, variance * count / (count - 1))
        inverse = 1 / np.sqrt(variance + norm.eps)
        scale = _values(weight) * inverse
        shift = _values(bias) - mean * scale
        y = torch.empty_like(x)
        rows.run(kernels.activate, maps, *rows.widened(scale, shift, _values(slope)), rows.view(y))
        ctx.save_for_backward(x, slope)
        ctx.rows, ctx.group, ctx.count = rows, group, count
        ctx.mean, ctx.inverse, ctx.scale, ctx.shift = mean, inverse, scale, shift
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from vec2face.recognizers import kernels  # noqa: PLC0415

        x, slope = ctx.saved_tensors
        rows, scale = ctx.rows, ctx.scale
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        both = rows.view(x), rows.view(gradient)
        known = rows.widened(scale, ctx.shift, _values(slope))
        sums = rows.sums(3)
        rows.run(kernels.gradient_sums, *both, *known, *rows.widened(ctx.mean), sums)
        whole, along, to_slope = rows.total(sums)
        of_all = whole, along
        if ctx.group is not None:
            of_all = ctx.group.sum(torch.from_numpy(np.stack(of_all))).numpy()
        tilt = -scale * ctx.inverse**2 * of_all[1] / ctx.count
        level = -scale * of_all[0] / ctx.count - tilt * ctx.mean
        to_x = torch.empty_like(x)
        rows.run(kernels.gradient_input, *both, *known, *rows.widened(tilt, level), rows.view(to_x))
        found = [along * ctx.inverse, whole, to_slope]
        to_weight, to_bias, to_slope = (torch.from_numpy(v.astype(np.float32)) for v in found)
        return to_x, to_weight, to_bias, to_slope if ctx.needs_input_grad[3] else None, None, None


def _values(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy().astype(np.float64)


def _of_all(
    mean: np.ndarray, variance: np.ndarray, count: int, group: Group | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return mean, variance and number of the images of all processes."""
    if group is None:
        return mean, variance, count
    own = torch.from_numpy(np.stack([variance, mean]))
    variances, means = gather_rows(own[None], group).numpy().swapaxes(0, 1)
    middle = means.mean(0)
    return middle, (variances + (means - middle) ** 2).mean(0), count * group.size


def _move(norm: nn.BatchNorm2d, mean: np.ndarray, variance: np.ndarray) -> None:
    """Move the running statistics as ``nn.BatchNorm2d`` does."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    with torch.no_grad():
        norm.num_batches_tracked += 1
        for running, found in ((norm.running_mean, mean), (norm.running_var, variance)):
            running.lerp_(torch.from_numpy(found.astype(np.float32)), norm.momentum)
