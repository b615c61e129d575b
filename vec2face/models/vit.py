"""The vision transformer of face recognition, with the parameter names of its checkpoints.

Source: Dosovitskiy et al., 2021, in the form that An et al. ("Killing two birds with one stone",
CVPR 2022) train and arcface_torch releases: patches of 9x9 pixels, no class token, ReLU6, no bias
in the queries, keys and values, and a head that sees all tokens.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

PATCH = 9
HEADS = 8
"""Heads of every size; a checkpoint does not tell their number."""

_HEAD_EPSILON = 2e-5


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        q, k, v = self.qkv(x).unflatten(2, (3, HEADS, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(
            functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        )


class _Perceptron(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        return self.fc2(functional.relu6(self.fc1(x)))


class _Block(nn.Module):
    """Attention and perceptron, each behind a LayerNorm; ``skipped`` is stochastic depth's rate."""

    def __init__(self, width: int, skipped: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Perceptron(width)
        self.skipped = skipped

    def _kept(self, branch: Tensor) -> Tensor:
        """Drop the branch for some samples while training, scale it up for the others."""
        if not self.training or self.skipped == 0:
            return branch
        kept = torch.rand(len(branch), 1, 1, device=branch.device) >= self.skipped
        return branch * kept / (1 - self.skipped)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, C) to (B, N, C)."""
        x = x + self._kept(self.attn(self.norm1(x)))
        return x + self._kept(self.mlp(self.norm2(x)))


class FaceTransformer(nn.Module):
    """Map faces (B, 3, image_size, image_size) in [-1, 1] to embeddings (B, embedding).

    Args:
        width: of a token; a multiple of 8, the number of heads.
        blocks: their number.
        image_size: side of the input; pixels beyond its last whole patch are not seen.
        embedding: length of the embedding.
        masked: share of the tokens that training withholds from the blocks.
        depth_dropout: stochastic depth's rate in the last block; it rises from 0 in the first.

    Raises:
        ValueError: if the image is smaller than a patch, or the width no multiple of 8.
    """

    def __init__(
        self,
        width: int,
        blocks: int,
        image_size: int = 112,
        embedding: int = 512,
        masked: float = 0.0,
        depth_dropout: float = 0.05,
    ) -> None:
        super().__init__()
        if image_size < PATCH or width % HEADS:
            raise ValueError(
                f"image_size >= {PATCH} and a width in eights, not {image_size}, {width}"
            )
        self.image_size = image_size
        self.dimension = embedding
        self.masked = masked
        tokens = (image_size // PATCH) ** 2
        self.patch_embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, width, PATCH, PATCH)))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width), requires_grad=masked > 0)
        rates = torch.linspace(0, depth_dropout, blocks, device="cpu").tolist()
        self.blocks = nn.Sequential(*(_Block(width, rate) for rate in rates))
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(tokens * width, width, bias=False),
            nn.BatchNorm1d(width, eps=_HEAD_EPSILON),
            nn.Linear(width, embedding, bias=False),
            nn.BatchNorm1d(embedding, eps=_HEAD_EPSILON),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, embedding), not normalised."""
        x = self.patch_embed(images).flatten(2).transpose(1, 2) + self.pos_embed
        if self.training and self.masked > 0:
            return self.feature(self._partly(x).flatten(1))
        return self.feature(self.norm(self.blocks(x)).flatten(1))

    def _partly(self, x: Tensor) -> Tensor:
        """Run the blocks on some tokens of each sample; the others become the mask token."""
        count = x.shape[1]
        kept = torch.rand(x.shape[:2], device=x.device).argsort(1)
        kept = kept[:, : int(count * (1 - self.masked)), None].expand(-1, -1, x.shape[2])
        seen = self.norm(self.blocks(x.gather(1, kept)).float())
        return self.mask_token.to(seen.dtype).expand_as(x).scatter(1, kept, seen)
