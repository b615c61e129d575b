"""RepVGG (Ding et al., CVPR 2021): a plain stack of 3x3 convolutions and ReLUs.

In training every convolution has a 1x1 and, where shapes allow, an identity beside it, each behind
a batch norm; as all are linear, ``fuse`` adds them up to the one convolution that is run. Parameter
names are those of released checkpoints (``layer1.0.rbr_reparam.weight``).
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

_EPSILON = 1e-5


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        self.rbr_reparam = nn.Conv2d(inputs, outputs, 3, stride, 1, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        return functional.relu(self.rbr_reparam(x))


class RepVGG(nn.Module):
    """Images (B, 3, H, W) to maps (B, C, H / 32, W / 32), by five layers that halve the map.

    Args:
        layers: for each, its blocks' (outputs, groups); the first layer has one block. B1g2 is
            [(64, 1)], 4 times 128, 6 times 256, 16 times 512 and [(2048, 1)], two groups in every
            second block after the first.
    """

    def __init__(self, layers: Sequence[Sequence[tuple[int, int]]]) -> None:
        super().__init__()
        inputs = 3
        self.depth = len(layers)
        for number, blocks in enumerate(layers):
            parts = []
            for i, (outputs, groups) in enumerate(blocks):
                parts.append(_Block(inputs, outputs, 1 if i else 2, groups))
                inputs = outputs
            self.add_module(f"layer{number}", nn.Sequential(*parts) if number else parts[0])
        self.channels = inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's map."""
        for number in range(self.depth):
            x = self.get_submodule(f"layer{number}")(x)
        return x


def layers_of(tensors: Mapping[str, Tensor]) -> list[list[tuple[int, int]]]:
    """Return the argument of ``RepVGG`` that fits fused weights.

    Raises:
        ValueError: if there are none, or a convolution does not fit the one before it.
    """
    layers: list[list[tuple[int, int]]] = []
    inputs = 3
    for number in range(5):
        layer: list[tuple[int, int]] = []
        while True:
            block = f"layer{number}.{len(layer)}" if number else "layer0"
            weight = tensors.get(f"{block}.rbr_reparam.weight")
            if weight is None or (layer and not number):
                break
            if weight.shape[2:] != (3, 3) or inputs % weight.shape[1]:
                raise ValueError(f"{block} is {tuple(weight.shape)} behind {inputs} channels")
            layer.append((len(weight), inputs // weight.shape[1]))
            inputs = len(weight)
        if not layer:
            raise ValueError(f"it has no {block}.rbr_reparam.weight or rbr_dense.conv.weight")
        layers.append(layer)
    return layers


def fuse(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with the branches of training added up; what has none stays as it is.

    A batch norm behind a kernel k is the kernel k g / s with bias b - m g / s, where g, b, m are
    its scale, shift and mean and s the root of variance + epsilon. Sums are in float64.

    Raises:
        KeyError: naming a tensor that is missing.
    """
    left = dict(tensors)
    blocks = [k.removesuffix(".rbr_dense.conv.weight") for k in tensors if "rbr_dense.conv" in k]

    def norm(name: str, kernel: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift, mean, variance = (
            left.pop(f"{name}.{k}").double()
            for k in ("weight", "bias", "running_mean", "running_var")
        )
        left.pop(f"{name}.num_batches_tracked", None)
        scale = scale / (variance + _EPSILON).sqrt()
        return kernel.double() * scale[:, None, None, None], shift - mean * scale

    for block in blocks:
        dense = left.pop(f"{block}.rbr_dense.conv.weight")
        outputs, inputs = dense.shape[:2]
        kernel, bias = norm(f"{block}.rbr_dense.bn", dense)
        narrow = left.pop(f"{block}.rbr_1x1.conv.weight")
        branches = [norm(f"{block}.rbr_1x1.bn", functional.pad(narrow, (1, 1, 1, 1)))]
        if f"{block}.rbr_identity.weight" in left:
            # Within its group, each channel sees itself at the centre.
            same = torch.zeros(outputs, inputs, 3, 3)
            same[torch.arange(outputs), torch.arange(outputs) % inputs, 1, 1] = 1
            branches.append(norm(f"{block}.rbr_identity", same))
        for other_kernel, other_bias in branches:
            kernel, bias = kernel + other_kernel, bias + other_bias
        left[f"{block}.rbr_reparam.weight"] = kernel.float()
        left[f"{block}.rbr_reparam.bias"] = bias.float()
    return left


def without_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without the ``module.`` that training on several devices puts before names."""
    return {re.sub(r"^module\.", "", name): tensor for name, tensor in tensors.items()}
