"""The Vec2Face generator: a feature masked autoencoder and an image decoder (paper, section 3).

Shapes in comments: B images, R = 49 rows of the feature map, W encoder width, D decoder width.

    rep (B, features) -> e (B, W) -> rows (B, R, W) -> encoder -> decoder -> (B, R, D)
      -> map (B, front_channels, 7, 7) -> image (B, 3, 7 * 2**doublings, same)
"""

import contextlib
import json
import math
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import Attention, Block
from torch import Tensor, nn
from torch.nn import functional as F

from vec2face.config.sections import GeneratorConfig
from vec2face.generator.masks import ROWS
from vec2face.recognizers.weights import load_into
from vec2face.runtime.files import InputError, whole_file

SIDE = 7  # the 49 rows form a 7 x 7 map


class Vec2Face(nn.Module):
    """Turns features of a face recognizer into face images.

    Args:
        config: the sizes.
        dimension: length of the features.

    Attributes:
        image_size: side of the images in pixels; 7, doubled from level to level.
    """

    def __init__(self, config: GeneratorConfig, dimension: int):
        super().__init__()
        self.config = c = config
        self.dimension = dimension
        self.image_size = SIDE * 2 ** (len(c.channels) - 1)
        # Features enter standardised by one offset per dimension and one scale (fitted, not
        # learnt), so that recognizers of any feature scale start training alike.
        self.feature_mean: Tensor
        self.feature_std: Tensor
        self.register_buffer("feature_mean", torch.zeros(dimension))
        self.register_buffer("feature_std", torch.ones(()))
        self.embed = nn.Linear(dimension, c.width)
        self.expand = nn.Linear(1, ROWS)
        self.encoder_position = nn.Parameter(torch.empty(1, 1 + ROWS, c.width))
        self.encoder_input_norm = nn.LayerNorm(c.width, eps=1e-6)
        self.encoder_dropout = nn.Dropout(c.dropout)
        self.encoder = _blocks(c.width, c.encoder_blocks, c.encoder_heads, c)
        self.encoder_norm = nn.LayerNorm(c.width, eps=1e-6)
        self.to_decoder = nn.Linear(c.width, c.decoder_width)
        self.decoder_position = nn.Parameter(torch.empty(1, 1 + ROWS, c.decoder_width))
        self.decoder = _blocks(c.decoder_width, c.decoder_blocks, c.decoder_heads, c)
        self.decoder_norm = nn.LayerNorm(c.decoder_width, eps=1e-6)
        self.to_map = nn.Linear(c.decoder_width, c.front_channels)
        self.to_image = ImageDecoder(c)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.expand.weight, std=self.config.expansion_std)
        nn.init.normal_(self.encoder_position, std=self.config.position_std)
        nn.init.normal_(self.decoder_position, std=self.config.position_std)
        blocks: list[Any] = [*self.encoder, *self.decoder]
        gain = self.config.residual_gain / math.sqrt(2 * len(blocks))
        for block in blocks:
            for last in (block.attn.proj, block.mlp.fc2):
                last.weight.data.mul_(gain)

    def standardise(self, mean: Tensor, std: float) -> None:
        """Set the feature offset (features,) and the common scale, fitted on training features."""
        self.feature_mean.copy_(mean)
        self.feature_std.fill_(std)

    def feature_map(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image feature e (B, W) and its expansion to rows (B, R, W)."""
        e = self.embed((features - self.feature_mean) / self.feature_std)
        return e, self.expand(e.unsqueeze(2)).transpose(1, 2)

    def rows(self, features: Tensor, drop: Tensor, mask: Tensor) -> Tensor:
        """Run the masked autoencoder.

        Args:
            features: (B, features) as the recognizer gives them, not normalised.
            drop: (B, R) bool, rows that never enter the encoder; equally many in every sample.
            mask: (B, R) bool, rows whose content is e; contains ``drop``.

        Returns:
            The decoder's rows (B, R, D).
        """
        e, rows = self.feature_map(features)
        rows = torch.where(mask.unsqueeze(2), e.unsqueeze(1), rows)
        x = torch.cat([e.unsqueeze(1), rows], 1) + self.encoder_position
        x = self.encoder_dropout(self.encoder_input_norm(x))

        # Row 0 and the kept rows, in their order; a stable sort keeps the shape static.
        kept_count = ROWS - int(drop[0].sum())
        kept = torch.argsort(drop.to(torch.uint8), dim=1, stable=True)[:, :kept_count] + 1
        kept = torch.cat([kept.new_zeros(len(kept), 1), kept], 1)  # (B, 1 + kept)
        index = kept.unsqueeze(2).expand(-1, -1, x.shape[2])
        x = self.encoder_norm(self.encoder(x.gather(1, index)))

        x = self.to_decoder(x)  # (B, 1 + kept, D)
        summary = x[:, :1]
        full = summary.expand(-1, 1 + ROWS, -1).scatter(
            1, kept.unsqueeze(2).expand(-1, -1, x.shape[2]), x
        )
        full = torch.cat([summary, torch.where(mask.unsqueeze(2), summary, full[:, 1:])], 1)
        full = self.decoder_norm(self.decoder(full + self.decoder_position))
        return full[:, 1:]

    def paint(self, rows: Tensor) -> Tensor:
        """Decode rows (B, R, D) to images (B, 3, S, S)."""
        grid = self.to_map(rows).transpose(1, 2).reshape(len(rows), -1, SIDE, SIDE)
        return self.to_image(grid)

    def forward(
        self, features: Tensor, drop: Tensor, mask: Tensor, with_rows: bool = False
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Turn features (B, features) into images (B, 3, S, S), roughly in [-1, 1].

        With ``with_rows``, return the images and the decoder's rows (B, R, D).
        """
        rows = self.rows(features, drop, mask)
        return (self.paint(rows), rows) if with_rows else self.paint(rows)

    @property
    def last_layer(self) -> nn.Parameter:
        """The weight at which the adaptive adversarial weight compares gradients."""
        return cast(nn.Parameter, self.to_image.out.weight)

    def save(self, path: Path | str) -> None:
        """Write weights and sizes as one safetensors file."""
        with whole_file(path) as temporary:
            tensors = {k: v.contiguous() for k, v in self.state_dict().items()}
            sizes = {"features": self.dimension, "image_size": self.image_size}
            sizes |= self.config.model_dump()
            save_file(tensors, temporary, {"config": json.dumps(sizes)})

    @classmethod
    def load(cls, path: Path | str) -> "Vec2Face":
        """Read what ``save`` wrote, in evaluation mode.

        Raises:
            InputError: the file is missing, no safetensors file, or not a generator.
        """
        if not Path(path).is_file():
            raise InputError(f"{path}: no such file; give a generator's, or train one first")
        try:
            with safe_open(str(path), "pt") as file:
                sizes = json.loads((file.metadata() or {})["config"])
            dimension, _ = sizes.pop("features"), sizes.pop("image_size")
            tensors = load_file(str(path))
            model = cls.unfilled(GeneratorConfig(**sizes), dimension, len(tensors))
            load_into(model, tensors, path)
        except InputError:
            raise
        except Exception as error:  # whatever sizes from outside bring about
            text = " ".join(str(error).split())[:200]
            reason = f" ({text})" if isinstance(error, ValueError | SafetensorError) else ""
            raise InputError(
                f"{path}: not a generator written by this project{reason}; train it again"
            ) from error
        return model.eval()

    @classmethod
    def unfilled(cls, config: GeneratorConfig, dimension: int, tensors: int) -> "Vec2Face":
        """Return a generator without memory, to be given the weights of a file.

        Args:
            config: as the file has it.
            dimension: the same.
            tensors: how many the file holds; every block needs some.

        Raises:
            ValueError: if they are too few.
        """
        c = config
        blocks = c.encoder_blocks + c.decoder_blocks + c.residual_blocks * len(c.channels)
        if blocks > tensors:
            raise ValueError(f"{blocks} blocks of {tensors} tensors")
        with torch.device("meta"):
            return cls(config, dimension)


class ImageDecoder(nn.Module):
    """Convolutional decoder: 7 x 7 map to image, nearest upsampling between levels."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        levels = list(reversed(config.channels))  # coarse to fine
        current, groups = levels[0], config.groups
        self.enter = nn.Conv2d(config.front_channels, current, 3, padding=1)
        layers: list[nn.Module] = [Residual(current, current, groups) for _ in range(2)]
        for number, width in enumerate(levels):
            for _ in range(config.residual_blocks):
                layers.append(Residual(current, width, groups, config.released))
                current = width
            if number < len(levels) - 1:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(current, current, 3, padding=1)]
        self.levels = nn.Sequential(*layers)
        self.norm = _group_norm(current, groups)
        self.out = nn.Conv2d(current, 3, 3, padding=1)

    def forward(self, grid: Tensor) -> Tensor:
        """Map (B, front_channels, 7, 7) to (B, 3, S, S)."""
        x = self.levels(self.enter(grid))
        return self.out(nn.functional.silu(self.norm(x)))


class Residual(nn.Module):
    """GroupNorm-SiLU-conv twice, plus the input (through a 1x1 conv where channels change).

    With ``released`` that 1x1 conv sees what it is added to.
    """

    def __init__(self, before: int, after: int, groups: int, released: bool = False):
        super().__init__()
        self.onto_itself = released and before != after
        self.norm1 = _group_norm(before, groups)
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.norm2 = _group_norm(after, groups)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        seen = after if released else before
        self.shortcut = nn.Conv2d(seen, after, 1, bias=False) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, before, H, H) to (B, after, H, H)."""
        y = self.conv1(nn.functional.silu(self.norm1(x)))
        y = self.conv2(nn.functional.silu(self.norm2(y)))
        return self.shortcut(y if self.onto_itself else x) + y


class FullAttention(Attention):
    """timm's attention, in float32 also where autocast lowers the rest, as in the released code."""

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Map (B, rows, width) to the same; there are no attention masks here."""
        assert attn_mask is None
        assert not is_causal
        qkv = self.qkv(x)
        full = torch.promote_types(qkv.dtype, torch.float32)
        parts = qkv.to(full).unflatten(2, (3, self.num_heads, self.head_dim))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        dropout = self.attn_drop.p if self.training else 0.0
        lowered = qkv.dtype != full
        with torch.autocast(x.device.type, enabled=False) if lowered else contextlib.nullcontext():
            rows = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return self.proj_drop(self.proj(rows.transpose(1, 2).flatten(2).to(qkv.dtype)))


def _group_norm(channels: int, groups: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(channels, groups), channels, eps=1e-6)


def _blocks(width: int, count: int, heads: int, config: GeneratorConfig) -> nn.Sequential:
    return nn.Sequential(
        *(
            Block(
                width,
                heads,
                mlp_ratio=config.mlp_ratio,
                qkv_bias=True,
                proj_drop=config.dropout,
                attn_drop=config.dropout,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),  # type: ignore[arg-type]
                attn_layer=FullAttention,
            )
            for _ in range(count)
        )
    )
