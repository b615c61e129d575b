"""The generator as an ONNX file: vectors and masks in, images out."""

from pathlib import Path

import torch
from torch import Tensor, nn

from vec2face.generator.masks import ROWS, masks
from vec2face.generator.network import SIDE, Vec2Face
from vec2face.recognizers.onnx_export import check_onnx, write_onnx
from vec2face.runtime.files import whole_file

RATIOS = 0.1, 1.0, 0.15  # minimum, maximum and mean of the masks that the check draws


def export_generator(generator: Vec2Face, path: Path | str) -> float:
    """Write a generator as ONNX, once onnxruntime has drawn the same images with it.

    The inputs are ``features`` (B, D) float32, as the recognizer gives them, and ``drop`` and
    ``mask`` (B, 49) bool (``generator.masks``), with equally many dropped rows in every sample; the
    output is ``images`` (B, 3, S, S), RGB in [-1, 1].

    Returns:
        How far the images are off, as a share of the largest value.

    Raises:
        InputError: if they are off by more than a thousandth; then nothing is written.
    """
    generator.eval()
    random = torch.Generator().manual_seed(0)
    normal = torch.randn(4, generator.dimension, generator=random)
    features = generator.feature_mean + generator.feature_std * normal
    drop, mask = masks(0, 0, len(features), *RATIOS)
    inputs = {"features": features, "drop": drop, "mask": mask}
    with torch.no_grad(), whole_file(path) as temporary:
        example = {name: value[:2] for name, value in inputs.items()}
        write_onnx(Traceable(generator).eval(), temporary, example, "images")
        return check_onnx(temporary, generator(features, drop, mask), inputs)


class Traceable(nn.Module):
    """A generator in terms that a trace keeps for any batch and any number of dropped rows."""

    def __init__(self, generator: Vec2Face) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, features: Tensor, drop: Tensor, mask: Tensor) -> Tensor:
        """Do what ``Vec2Face.forward`` does."""
        g, count = self.generator, features.shape[0]
        e, rows = g.feature_map(features)
        rows = torch.where(mask.unsqueeze(2), e.unsqueeze(1), rows)
        x = g.encoder_input_norm(torch.cat([e.unsqueeze(1), rows], 1) + g.encoder_position)
        order = (drop.long() * ROWS + torch.arange(ROWS)).sort(1).indices  # kept rows come first
        kept = order[:, : ROWS - drop[0].sum()] + 1
        kept = torch.cat([kept.new_zeros(count, 1), kept], 1).unsqueeze(2)
        x = g.encoder_norm(g.encoder(x.gather(1, kept.expand(-1, -1, x.shape[2]))))
        x = g.to_decoder(x)
        summary = x[:, :1]
        full = summary.expand(-1, 1 + ROWS, -1).scatter(1, kept.expand(-1, -1, x.shape[2]), x)
        full = torch.cat([summary, torch.where(mask.unsqueeze(2), summary, full[:, 1:])], 1)
        rows = g.decoder_norm(g.decoder(full + g.decoder_position))[:, 1:]
        grid = g.to_map(rows).transpose(1, 2).reshape(count, -1, SIDE, SIDE)
        return g.to_image(grid)
