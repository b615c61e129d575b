"""The vision transformer of face recognition: timm's, in the sizes of its released checkpoints.

Source: Dosovitskiy et al., 2021, in the form that An et al. ("Killing two birds with one stone",
CVPR 2022) train and arcface_torch releases: patches of 9x9 pixels, no class token, ReLU6, no bias
in the queries, keys and values, and a head that sees all tokens. Their training also masks a
twentieth of the tokens of the larger one; here stochastic depth alone regularises.
"""

from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

PATCH = 9
HEADS = 8
"""Heads of every size; a checkpoint does not tell their number."""

_HEAD_EPSILON = 2e-5


class FaceTransformer(nn.Module):
    """Map faces (B, 3, image_size, image_size) in [-1, 1] to embeddings (B, embedding).

    Args:
        width: of a token; a multiple of 8, the number of heads.
        blocks: their number.
        image_size: side of the input; pixels beyond its last whole patch are not seen.
        embedding: length of the embedding.

    Raises:
        ValueError: if the image is smaller than a patch, or the width no multiple of 8.
    """

    def __init__(
        self, width: int, blocks: int, image_size: int = 112, embedding: int = 512
    ) -> None:
        super().__init__()
        if image_size < PATCH or width % HEADS:
            raise ValueError(
                f"image_size >= {PATCH} and a width in eights, not {image_size}, {width}"
            )
        self.image_size = image_size
        self.dimension = embedding
        self.body = VisionTransformer(
            img_size=image_size,
            patch_size=PATCH,
            embed_dim=width,
            depth=blocks,
            num_heads=HEADS,
            qkv_bias=False,
            class_token=False,
            global_pool="",
            num_classes=0,
            drop_path_rate=0.05,
            norm_layer=nn.LayerNorm,
            act_layer=nn.ReLU6,
        )
        tokens = (image_size // PATCH) ** 2
        self.feature = nn.Sequential(
            nn.Linear(tokens * width, width, bias=False),
            nn.BatchNorm1d(width, eps=_HEAD_EPSILON),
            nn.Linear(width, embedding, bias=False),
            nn.BatchNorm1d(embedding, eps=_HEAD_EPSILON),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, embedding), not normalised."""
        return self.feature(self.body(images).flatten(1))
