"""The optimisers of generator and discriminator, AdamW or Muon, and their learning rate."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from vec2face.config.sections import Training
from vec2face.generator.muon import Muon
from vec2face.generator.network import Vec2Face


def rate(step: int, hyper: Training) -> float:
    """Return the factor on the learning rate: linear warm-up, then half a cosine to zero."""
    if step < hyper.warmup:
        return (step + 1) / hyper.warmup
    done = (step - hyper.warmup) / max(1, hyper.steps - hyper.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


def optimizers(generator: Vec2Face, hyper: Training, fused: bool) -> list[torch.optim.Optimizer]:
    """AdamW for all, or Muon for the blocks' matrices and AdamW for the rest."""
    if hyper.optimizer == "adamw":
        return [adamw(generator.parameters(), hyper.lr, hyper, fused)]
    blocks = [*generator.encoder.parameters(), *generator.decoder.parameters()]
    matrices = [p for p in blocks if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in generator.parameters() if id(p) not in chosen]
    return [
        adamw(rest, hyper.lr, hyper, fused),
        Muon(matrices, hyper.lr, weight_decay=_decay(hyper)),
    ]


def adamw(
    parameters: Iterable[nn.Parameter], lr: float, hyper: Training, fused: bool
) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices and filters only, or on all as released."""
    parameters = list(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1]},
    ]
    if not hyper.released:
        groups[1]["weight_decay"] = 0.0
    return torch.optim.AdamW(
        groups,
        lr=lr,
        betas=hyper.betas,
        weight_decay=_decay(hyper),
        fused=fused or None,
    )


def _decay(hyper: Training) -> float:
    return 0.01 if hyper.released else hyper.weight_decay
