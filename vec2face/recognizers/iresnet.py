"""IResNet, the residual network of face recognition, with or without squeeze-and-excitation.

Sources: Duta et al., "Improved residual networks", 2020, as ArcFace (Deng et al., 2019) trains it;
squeeze-and-excitation: Hu et al., 2018. Parameter names follow the checkpoints of the field
(``conv1``, ``layer1.0.bn1``, ``fc``, ``features``), so that released weights can be read.

A block is BN, 3x3 convolution, BN, PReLU, 3x3 convolution (stride), BN, plus its shortcut.
The head is BN, dropout, a linear layer over the flattened map, and BN whose scale is fixed at 1.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from vec2face.recognizers.normalise import normalise

Gate = Literal["none", "residual", "shortcut"]

EPSILON = 1e-5


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class NarrowProjection(nn.Conv2d):
    """A strided 1x1 convolution that drops the pixels between strides before it multiplies.

    The result is that of ``nn.Conv2d``. Over fewer channels than a vector register holds (16 with
    AVX-512) and with channels last in memory, oneDNN's weight gradient of the strided form writes
    past its workspace and corrupts the heap (uxlfoundation/oneDNN, issue 6035).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outputs, ceil(H / stride), ceil(W / stride))."""
        rows, columns = self.stride
        return functional.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    kind = NarrowProjection if inputs < 16 and stride > 1 else nn.Conv2d
    return kind(inputs, outputs, 1, stride, bias=False)


class SqueezeExcitation(nn.Module):
    """Scale each channel of (B, C, H, W) by a gate in (0, 1) computed from all channels' means."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(channels // reduction, 4)
        self.fc1 = nn.Conv2d(channels, inner, 1)
        self.relu = nn.ReLU()
        self.fc2 = nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` gated, of the same shape."""
        means = x.mean((2, 3), keepdim=True)
        return x * self.fc2(self.relu(self.fc1(means))).sigmoid()


class IBasicBlock(nn.Module):
    """One residual block: (B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""

    def __init__(self, inputs: int, outputs: int, stride: int, gate: Gate) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, eps=EPSILON)
        self.conv1 = _convolution(inputs, outputs, 3)
        self.bn2 = nn.BatchNorm2d(outputs, eps=EPSILON)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = _convolution(outputs, outputs, 3, stride)
        self.bn3 = nn.BatchNorm2d(outputs, eps=EPSILON)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                _projection(inputs, outputs, stride), nn.BatchNorm2d(outputs, eps=EPSILON)
            )
        self.se: nn.Module = nn.Identity() if gate == "none" else SqueezeExcitation(outputs)
        self.gates_shortcut = gate == "shortcut"

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        residual = self.conv1(normalise(x, self.bn1))
        residual = self.conv2(normalise(residual, self.bn2, self.prelu))
        residual = normalise(residual, self.bn3)
        shortcut = x
        if isinstance(self.downsample, nn.Sequential):
            projection, norm = self.downsample
            shortcut = normalise(projection(x), norm)
        if self.gates_shortcut:
            return residual + self.se(shortcut)
        return self.se(residual) + shortcut


class IResNet(nn.Module):
    """Map faces (B, 3, image_size, image_size) in [-1, 1] to embeddings (B, embedding).

    Args:
        depths: blocks in each of the four stages, each of which halves the map.
        widths: channels of the four stages; the stem has the first stage's.
        embedding: length of the embedding.
        image_size: side of the input; a multiple of 8. Odd maps are halved upwards (7 to 4).
        squeeze_excitation: ``"residual"`` gates the residual branch of every block as Hu et al. do;
            ``"shortcut"`` gates the shortcut of each stage's first block instead, which is what the
            weights released with Vec2Face were trained with.
        dropout: share of the flattened map dropped in training.

    Raises:
        ValueError: on an image size, depths or widths that cannot be built.
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] = (64, 128, 256, 512),
        embedding: int = 512,
        image_size: int = 112,
        squeeze_excitation: Gate = "none",
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        if image_size < 8 or image_size % 8:
            raise ValueError(f"image_size is a multiple of 8, not {image_size}")
        if len(depths) != 4 or len(widths) != 4 or min(*depths, *widths) < 1:
            raise ValueError(f"four depths and four widths >= 1, not {depths} and {widths}")
        if squeeze_excitation not in ("none", "residual", "shortcut"):
            raise ValueError(f"squeeze_excitation cannot be {squeeze_excitation!r}")
        self.image_size = image_size
        self.dimension = embedding
        self.conv1 = _convolution(3, widths[0], 3)
        self.bn1 = nn.BatchNorm2d(widths[0], eps=EPSILON)
        self.prelu = nn.PReLU(widths[0])
        inputs = widths[0]
        for number, (depth, width) in enumerate(zip(depths, widths, strict=True), start=1):
            later: Gate = "residual" if squeeze_excitation == "residual" else "none"
            blocks = [IBasicBlock(inputs, width, 2, squeeze_excitation)]
            blocks += [IBasicBlock(width, width, 1, later) for _ in range(depth - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            inputs = width
        side = -(-image_size // 16)
        self.bn2 = nn.BatchNorm2d(inputs, eps=EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(inputs * side * side, embedding)
        self.features = nn.BatchNorm1d(embedding, eps=EPSILON)
        self.features.weight.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.normal_(module.weight, std=0.1)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the outputs of the four stages for ``images``, finest first."""
        x = normalise(self.conv1(images), self.bn1, self.prelu)
        outputs = []
        for number in range(1, 5):
            x = self.get_submodule(f"layer{number}")(x)
            outputs.append(x)
        return outputs

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, embedding), not normalised."""
        x = self.dropout(normalise(self.maps(images)[-1], self.bn2))
        return self.features(self.fc(x.flatten(1)))
