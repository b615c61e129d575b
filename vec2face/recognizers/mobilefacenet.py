"""MobileFaceNet (Chen et al., 2018): inverted residuals, and a global depthwise convolution.

Its blocks are those of MobileNetV2 with PReLUs: a 1x1 convolution widens the map, a depthwise 3x3
one filters it, another 1x1 narrows it, without an activation. A depthwise convolution as large as
the last map weighs places of the face apart, where an average would not.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from vec2face.recognizers.normalise import normalise

WIDTHS = (64, 64, 128, 512)
# Of each bottleneck: which of the widths, expansion, how many, stride of the first.
_PLAN = ((1, 2, 5, 2), (2, 4, 1, 2), (2, 2, 6, 1), (2, 4, 1, 2), (2, 2, 2, 1))


class _Unit(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise, activate."""
        return normalise(self.conv(x), self.norm, self.prelu)


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.widen = _Unit(inputs, wide, 1)
        self.filter = _Unit(wide, wide, 3, stride, groups=wide)
        self.narrow = nn.Conv2d(wide, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        y = normalise(self.narrow(self.filter(self.widen(x))), self.norm)
        return x + y if self.shortcut else y


class MobileFaceNet(nn.Module):
    """Map faces (B, 3, image_size, image_size) in [-1, 1] to embeddings (B, embedding).

    Args:
        widths: channels of the stem, of the first five blocks, of the others, and of the last map.
        embedding: length of the embedding.
        image_size: side of the input; the last map's is a sixteenth, rounded up.

    Raises:
        ValueError: on an image size or widths that cannot be built.
    """

    def __init__(
        self, widths: Sequence[int] = WIDTHS, embedding: int = 512, image_size: int = 112
    ) -> None:
        super().__init__()
        if image_size < 8 or image_size % 8:
            raise ValueError(f"image_size is a multiple of 8, not {image_size}")
        if len(widths) != 4 or min(widths) < 1:
            raise ValueError(f"four widths >= 1, not {widths}")
        self.image_size = image_size
        self.dimension = embedding
        inputs = widths[0]
        layers: list[nn.Module] = [_Unit(3, inputs, 3, 2), _Unit(inputs, inputs, 3, groups=inputs)]
        for place, expansion, repeats, stride in _PLAN:
            for i in range(repeats):
                step = 1 if i else stride
                layers.append(_Bottleneck(inputs, widths[place], expansion, step))
                inputs = widths[place]
        layers.append(_Unit(inputs, widths[3], 1))
        side = -(-image_size // 16)
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Conv2d(widths[3], widths[3], side, groups=widths[3], bias=False),
            nn.BatchNorm2d(widths[3]),
            nn.Flatten(),
            nn.Linear(widths[3], embedding, bias=False),
            nn.BatchNorm1d(embedding),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, embedding), not normalised."""
        return self.head(self.body(images))
