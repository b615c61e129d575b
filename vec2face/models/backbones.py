"""Recognition backbones by name: those of the paper's Table 9, and a small one for laptops."""

from collections.abc import Sequence

from torch import Tensor, nn

from vec2face.models.iresnet import Gate, IResNet

DEPTHS = {
    "10": (1, 1, 1, 1),
    "18": (2, 2, 2, 2),
    "50": (3, 4, 14, 3),
    "100": (3, 13, 30, 3),
    "200": (6, 26, 60, 6),
}
WIDTHS = (64, 128, 256, 512)
TRANSFORMERS = {"vit_s": (512, 12, 8), "vit_b": (512, 24, 8)}
"""Width, blocks and heads: the sizes that face recognition gives to "S" and "B"."""

NAMES = tuple(f"{kind}{n}" for kind in ("iresnet", "se_iresnet") for n in DEPTHS) + tuple(
    TRANSFORMERS
)


class FaceTransformer(nn.Module):
    """A vision transformer over 8x8 patches: (B, 3, image_size, image_size) to (B, embedding).

    The tokens are flattened into one linear layer between batch norms, as in IResNet's head,
    so no class token is used.
    """

    def __init__(
        self, width: int, blocks: int, heads: int, image_size: int, embedding: int, dropout: float
    ) -> None:
        import timm  # noqa: PLC0415 - takes seconds, which all the other networks need not wait

        super().__init__()
        if image_size < 8 or image_size % 8:
            raise ValueError(f"image_size is a multiple of 8, not {image_size}")
        self.image_size = image_size
        self.dimension = embedding
        self.body = timm.models.vision_transformer.VisionTransformer(
            img_size=image_size,
            patch_size=8,
            embed_dim=width,
            depth=blocks,
            num_heads=heads,
            class_token=False,
            global_pool="",
            num_classes=0,
            drop_path_rate=0.1,
        )
        tokens = (image_size // 8) ** 2
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(tokens * width, embedding)
        self.features = nn.BatchNorm1d(embedding)
        self.features.weight.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, embedding), not normalised."""
        return self.features(self.fc(self.dropout(self.body(images).flatten(1))))


def build_backbone(
    name: str,
    *,
    image_size: int = 112,
    embedding: int = 512,
    widths: Sequence[int] | None = None,
    squeeze_excitation: Gate | None = None,
    dropout: float = 0.4,
) -> nn.Module:
    """Build an untrained backbone.

    Args:
        name: one of ``NAMES``: ``iresnet50``, ``se_iresnet50``, ..., ``vit_s``, ``vit_b``; the
            number is the paper's, ``se_iresnet10`` has one block a stage.
        image_size: side of the input, a multiple of 8.
        embedding: length of the embedding.
        widths: channels of the four stages (IResNet only); default 64, 128, 256, 512.
        squeeze_excitation: overrides the gate (``se_`` means ``"residual"``).
        dropout: before the last linear layer.

    Returns:
        A module with ``image_size`` and ``dimension``; input (B, 3, S, S) in [-1, 1].

    Raises:
        ValueError: on an unknown name, or widths for a transformer.
    """
    if name in TRANSFORMERS:
        if widths is not None or squeeze_excitation is not None:
            raise ValueError(f"{name} takes neither widths nor squeeze_excitation")
        return FaceTransformer(*TRANSFORMERS[name], image_size, embedding, dropout)
    kind, _, number = name.rpartition("iresnet")
    if name not in NAMES:
        raise ValueError(f"no backbone {name!r}; there are {', '.join(NAMES)}")
    default: Gate = "residual" if kind == "se_" else "none"
    return IResNet(
        DEPTHS[number],
        widths or WIDTHS,
        embedding,
        image_size,
        squeeze_excitation or default,
        dropout,
    )
