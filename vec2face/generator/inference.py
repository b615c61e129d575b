"""The generator, arranged for inference on a CPU: the same images up to rounding, sooner.

What a whole batch through the training form spends most time on is arranged anew:

- the image decoder's fine levels, one image at a time, so that maps stay in the cache;
- channels last in memory, the order that oneDNN's convolutions read fastest;
- the 3x3 convolutions of fine levels by Winograd's minimal filtering along the columns: half the
  multiplications (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016). In
  two dimensions it would be a quarter, but then moving the data costs what that saves;
- the 3x3 convolution after a nearest upsampling, as four 2x2 convolutions of the coarse map: 4/9 of
  the multiplications, since pixels of a 2x2 square repeat;
- the linear layers of the blocks through oneDNN, with weights in its own order, except on
  processors with AVX2 alone, where the usual products (MKL's) take 4 to 13 % less time.

Everything here is exact in exact arithmetic, and two threads give the bits of one (more need not:
where PyTorch cuts an array, its last numbers are rounded otherwise).
``benchmarks/generation.py`` measures speed, memory and the difference.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vec2face.generator.network import SIDE, ImageDecoder, Residual, Vec2Face

FINE = 28  # side from which maps outweigh weights: one image at a time, and Winograd
WINOGRAD_CHANNELS = 128  # with fewer, the additions cost what the multiplications save


@torch.no_grad()
def arrange_for_inference(generator: Vec2Face) -> Vec2Face:
    """Take a generator over for generating images, in place.

    The call ``generator(features, drop, mask)`` stays; the images differ by rounding, and an
    image depends on its batch by rounding only. The generator can no longer be trained, moved or
    saved. One that is not float32, or not on a CPU with oneDNN, stays as it is.

    Args:
        generator: trained; it comes back in evaluation mode.

    Returns:
        The same object.
    """
    generator.eval()
    weight = generator.embed.weight
    on_cpu = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
    if not on_cpu or weight.dtype != torch.float32:
        return generator
    generator.requires_grad_(False)
    generator.to_image = ArrangedDecoder(generator.to_image)  # type: ignore[assignment]
    blocks: list[Any] = [*generator.encoder, *generator.decoder]
    for block in blocks if torch.backends.cpu.get_cpu_capability() != "AVX2" else []:
        block.attn.qkv = PackedLinear(block.attn.qkv)
        block.attn.proj = PackedLinear(block.attn.proj)
        block.mlp.fc1 = PackedLinear(block.mlp.fc1, "gelu")
        block.mlp.act = nn.Identity()
        block.mlp.fc2 = PackedLinear(block.mlp.fc2)
    generator.register_state_dict_pre_hook(_refuse)
    return generator


def _refuse(*_: Any) -> None:
    raise TypeError("a generator arranged for inference cannot be saved; save it before")


class ArrangedDecoder(nn.Module):
    """The image decoder, see the module's head; made of ``decoder``'s parts."""

    def __init__(self, decoder: ImageDecoder):
        super().__init__()
        decoder = decoder.to(memory_format=torch.channels_last)
        side = SIDE
        parts: dict[bool, list[nn.Module]] = {False: [decoder.enter], True: []}  # by: is fine
        for layer in decoder.levels:
            if isinstance(layer, nn.Upsample):
                side *= 2
            elif isinstance(layer, Residual):
                layer.conv1 = _convolution(layer.conv1, side)  # type: ignore[assignment]
                layer.conv2 = _convolution(layer.conv2, side)  # type: ignore[assignment]
                if isinstance(layer.shortcut, nn.Conv2d):
                    layer.shortcut = PointwiseConv(layer.shortcut)  # type: ignore[assignment]
                if side >= FINE:
                    layer.norm1 = SteadyGroupNorm(layer.norm1)  # type: ignore[assignment]
                    layer.norm2 = SteadyGroupNorm(layer.norm2)  # type: ignore[assignment]
                parts[side >= FINE].append(layer)
            elif isinstance(layer, nn.Conv2d):
                parts[side >= FINE].append(UpsampledConv(layer))
        parts[True] += [SteadyGroupNorm(decoder.norm), nn.SiLU(inplace=True), decoder.out]
        self.coarse = nn.Sequential(*parts[False])
        self.fine = nn.Sequential(*parts[True])

    def forward(self, grid: Tensor) -> Tensor:
        """Map (B, front_channels, 7, 7) to (B, 3, S, S)."""
        x = self.coarse(grid.contiguous(memory_format=torch.channels_last))
        return torch.cat([self.fine(one) for one in x.split(1)])


def _convolution(conv: nn.Conv2d, side: int) -> nn.Module:
    """Return a residual block's convolution on maps of ``side``, by Winograd where that pays."""
    narrow = min(conv.in_channels, conv.out_channels) < WINOGRAD_CHANNELS
    return conv if side < FINE or side % 4 or narrow else WinogradConv(conv)


class WinogradConv(nn.Module):
    """A 3x3 convolution without bias, padding 1, of maps whose height is a multiple of 4.

    Four rows of output come from six of input: the input's rows are combined to six (the transposed
    matrix B of Winograd's F(4, 3)), each is convolved along the rows alone with its own combination
    of the kernel's rows (the matrix G), and the six results are combined to four (transposed A).
    """

    KERNEL = (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    )

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        matrix = torch.tensor(self.KERNEL, dtype=torch.float64)
        kernels = torch.einsum("fr,oirc->foic", matrix, conv.weight.double()).unsqueeze(3)
        self.kernels = [k.to(conv.weight.dtype, memory_format=torch.channels_last) for k in kernels]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W), channels last."""
        x = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 0, 1, 1))  # (B, H + 2, W, inputs)
        height = x.shape[1] - 2
        d0, d1, d2, d3, d4, d5 = (x[:, row : row + height : 4] for row in range(6))
        even, odd = d4 - d2, d3 - d1
        even4, odd4 = torch.sub(d4, d2, alpha=4), torch.sub(d3, d1, alpha=4)
        m0, m1, m2, m3, m4, m5 = (
            functional.conv2d(v.permute(0, 3, 1, 2), k, padding=(0, 1)).permute(0, 2, 3, 1)
            for v, k in zip(
                (
                    torch.add(even, d0 - d2, alpha=4),
                    even4 + odd4,
                    even4 - odd4,
                    torch.add(even, odd, alpha=2),
                    torch.sub(even, odd, alpha=2),
                    torch.sub(d5 - d3, odd, alpha=4),
                ),
                self.kernels,
                strict=True,
            )
        )
        sum1, difference1, sum2, difference2 = m1 + m2, m1 - m2, m3 + m4, m3 - m4
        y = x.new_empty(len(x), height, *m0.shape[2:])
        torch.add(m0.add_(sum1), sum2, out=y[:, 0::4])
        torch.add(difference1, difference2, alpha=2, out=y[:, 1::4])
        torch.add(sum1, sum2, alpha=4, out=y[:, 2::4])
        torch.add(m5.add_(difference1), difference2, alpha=8, out=y[:, 3::4])
        return y.permute(0, 3, 1, 2)


class UpsampledConv(nn.Module):
    """Nearest upsampling by two and then a 3x3 convolution, padding 1, without the upsampling.

    Along one axis, output 2i sees the inputs i - 1, i, i, output 2i + 1 sees i, i, i + 1: two
    inputs, one of them with the sum of two weights.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.bias = conv.bias
        merge = torch.tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]]).double()
        kernels = torch.einsum("prk,qsl,oikl->pqoirs", merge, merge, conv.weight.double())
        kernels = kernels.to(conv.weight.dtype)  # (2, 2, outputs, inputs, 2, 2) by parity
        self.kernels = [
            [k.contiguous(memory_format=torch.channels_last) for k in r] for r in kernels
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, 2H, 2W), channels last."""
        count, _, height, width = x.shape
        x = functional.pad(x, (1, 1, 1, 1))
        y = x.new_empty(count, 2 * height, 2 * width, len(self.kernels[0][0])).permute(0, 3, 1, 2)
        for i, row in enumerate(self.kernels):
            for j, kernel in enumerate(row):
                window = x[:, :, i : i + height + 1, j : j + width + 1]
                y[:, :, i::2, j::2] = functional.conv2d(window, kernel, self.bias)
        return y


class SteadyGroupNorm(nn.Module):
    """Group normalisation of channels-last maps, in one order of sums for any number of threads.

    PyTorch's adds large channels-last maps up in as many parts as there are threads.
    """

    def __init__(self, norm: nn.GroupNorm):
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W), channels last, to the same."""
        x = x.permute(0, 2, 3, 1)
        x = x - self._group_means(x)
        scale = self.weight / (self._group_means(x * x) + self.eps).sqrt()
        return torch.addcmul(self.bias, x, scale).permute(0, 3, 1, 2)

    def _group_means(self, x: Tensor) -> Tensor:
        """Return each channel's mean over its group in (B, H, W, channels): (B, 1, 1, channels)."""
        count, height, width, channels = x.shape
        sums = x.sum(2).sum(1).view(count, self.groups, -1)
        means = sums.mean(2, keepdim=True) / (height * width)
        return means.expand_as(sums).reshape(count, 1, 1, channels)


class PackedLinear(nn.Module):
    """A linear layer through oneDNN: twice as fast as MKL's on AMD processors.

    The operator is the one that ``torch.compile`` emits for a frozen layer on a CPU.

    Args:
        linear: the layer.
        then: ``"gelu"`` applies GELU to the result.
    """

    def __init__(self, linear: nn.Linear, then: str = "none"):
        super().__init__()
        rows = 512  # oneDNN chooses the weights' order for about so many; others work too
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.data, rows)  # noqa: SLF001
        self.weight: Tensor
        self.register_buffer("weight", packed)
        self.bias = linear.bias
        self.then = then

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
            x, self.weight, self.bias, self.then, [], "none"
        )


class PointwiseConv(PackedLinear):
    """A 1x1 convolution without bias as a linear layer on the channels."""

    def __init__(self, conv: nn.Conv2d):
        linear = nn.Linear(conv.in_channels, conv.out_channels, bias=False)
        linear.weight = nn.Parameter(conv.weight[:, :, 0, 0].contiguous(), requires_grad=False)
        super().__init__(linear)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, H, W), channels last."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
