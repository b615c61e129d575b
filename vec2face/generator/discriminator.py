"""The patch discriminator of the adversarial loss, in the layout of the authors' code."""

import torch
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Judges patches: images (B, 3, S, S) in [-1, 1] to logits (B, 1, S/8 - 3, S/8 - 3).

    Args:
        width: channels of the stem; the authors' code has 64. Later layers have 2, 4 and 8 times as
            many.
        kernels: sizes of the stem's parallel convolutions. The first has half of the channels, the
            others share the rest. The authors' 15 x 15 kernels are costly on a CPU.
        released: residual blocks have one convolution, as in the authors' code, and not two.
    """

    def __init__(self, width: int, kernels: tuple[int, ...], *, released: bool = False):
        super().__init__()
        rest = len(kernels) - 1
        shares = [width // 2] + [width // 2 // rest] * rest if rest else [width]
        self.stem = nn.ModuleList(
            nn.Conv2d(3, share, size, padding=size // 2)
            for share, size in zip(shares, kernels, strict=True)
        )
        current, layers = sum(shares), []
        for after in (2 * width, 4 * width, 8 * width):
            layers += [
                nn.Conv2d(current, after, 4, stride=2, padding=1),
                nn.LeakyReLU(0.1),
                nn.GroupNorm(8, after),
                _Residual(after, released),
            ]
            current = after
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Conv2d(current, current, 1), nn.LeakyReLU(0.1), nn.Conv2d(current, 1, 4)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return patch logits; high means real."""
        stem = torch.cat([conv(images) for conv in self.stem], 1)
        return self.head(self.body(nn.functional.leaky_relu(stem, 0.1)))


class _Residual(nn.Module):
    def __init__(self, channels: int, released: bool):
        super().__init__()

        def convolution() -> nn.Module:
            return nn.Conv2d(channels, channels, 3, padding=1)

        norm, slope = nn.GroupNorm(8, channels), nn.LeakyReLU(0.1)
        if released:
            self.branch = nn.Sequential(norm, slope, convolution())
        else:
            self.branch = nn.Sequential(convolution(), slope, norm, convolution())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)
