"""Estimators for the rendered world, small enough to ship (together under 5 MB).

They stand where ArcFace-R100 (identity), MagFace-R100 (quality: the feature's norm) and SixDRepNet
(pose) stand in the paper; ``second`` is a recognizer of another architecture and start, which
judges what the first one taught. All see faces as RGB, (x / 255 - 0.5) / 0.5, at ``SIZE`` pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from vec2face.faces.images import to_tensor
from vec2face.models.iresnet import IResNet
from vec2face.randomness import stream, torch_seed
from vec2face.training.recognizer import RecognizerConfig

SIZE = 56


def recognizer_configs(epochs: int) -> dict[str, tuple[int, RecognizerConfig]]:
    """Return {name: (offset to the seed, configuration)} of the three recognizers.

    ``epochs`` are the identity network's; the others, which are narrower, take fewer. Nets this
    narrow need a softer margin than the paper's to get going in so few epochs.
    """

    def config(widths: tuple[int, ...], share: float, **rest: Any) -> RecognizerConfig:
        return RecognizerConfig(
            backbone="iresnet10",
            widths=widths,
            image_size=SIZE,
            dropout=0.0,
            scale=32.0,
            epochs=max(1, round(share * epochs)),
            batch=64,
            schedule="cosine",
            warmup=0.5,
            **rest,
        )

    return {
        "identity": (0, config((16, 48, 96, 128), 1, embedding=512, margin=0.25)),
        "second": (1, config((16, 32, 64, 96), 2 / 3, embedding=256, margin=0.2)),
        "quality": (2, config((16, 32, 48, 64), 1 / 2, embedding=256, head="magface", margin=0.2)),
    }


@dataclass(frozen=True)
class PoseTraining:
    """How the pose estimator is trained."""

    epochs: int
    batch: int = 64
    lr: float = 2e-3


class PoseEstimator(nn.Module):
    """Faces (B, 3, 56, 56) to (yaw, pitch) in degrees, (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = IResNet(
            (1, 1, 1, 1), (12, 24, 32, 48), embedding=32, image_size=SIZE, dropout=0.0
        )
        self.out = nn.Linear(32, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Return angles in degrees; the linear layer works in units of 30 degrees."""
        return 30 * self.out(self.body(images))


def train_pose(
    images: np.ndarray, angles: np.ndarray, training: PoseTraining, seed: int
) -> PoseEstimator:
    """Fit yaw and pitch by their mean absolute error.

    Args:
        images: uint8 (N, 56, 56, 3).
        angles: (N, 2) degrees. Every image is also seen mirrored, with the opposite yaw.
        training: schedule.
        seed: start weights, order and mirroring follow from it.
    """
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "pose"))
        net = PoseEstimator()
        optimizer = torch.optim.AdamW(net.parameters(), training.lr)
        per_epoch = len(images) // training.batch
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, training.lr, total_steps=training.epochs * per_epoch
        )
        targets = torch.from_numpy(angles.astype(np.float32))
        for epoch in tqdm(range(training.epochs), unit="epoch", disable=None):
            draw = stream(seed, "pose order", epoch)
            order = draw.permutation(len(images))[: per_epoch * training.batch]
            for chosen in order.reshape(per_epoch, training.batch):
                mirrored = torch.from_numpy(draw.random(training.batch) < 0.5)
                x, y = to_tensor(images[chosen]), targets[chosen].clone()
                x[mirrored] = x[mirrored].flip(3)
                y[mirrored, 0] *= -1
                loss = (net(x) - y).abs().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return net.eval()
