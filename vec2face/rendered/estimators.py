"""Estimators for rendered faces, small enough to ship (together under 5 MB).

In the paper ArcFace-R100 estimates identity, MagFace-R100 quality (the norm of its feature) and
SixDRepNet pose. The recognizer ``second`` is narrower and starts elsewhere; it judges what
the first one taught. All see faces as RGB, (x / 255 - 0.5) / 0.5, at ``SIZE`` pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vec2face.config.sections import Augmentation, RecognizerConfig
from vec2face.faces.images import to_tensor
from vec2face.randomness import stream, torch_seed
from vec2face.recognizers.iresnet import IResNet
from vec2face.recognizers.network import embed
from vec2face.runtime.progress import Progress

SIZE = 56
AUGMENTATION = Augmentation(
    flip=0.5,
    crop=0.3,
    low_resolution=0.3,
    photometric=0.3,
    erasing=0.3,
    least_window=0.2,
    least_resolution=0.2,
    photometric_change=0.5,
    erased=(0.02, 0.2),
)


def recognizer_configs(epochs: int) -> dict[str, tuple[int, RecognizerConfig]]:
    """Return {name: (offset to the seed, configuration)} of the three recognizers.

    ``epochs`` are those of the identity network; the others are narrower and take fewer. Networks
    this narrow need smaller margins than the paper's to start learning in so few epochs.
    """

    def config(widths: tuple[int, ...], share: float, **rest: Any) -> RecognizerConfig:
        return RecognizerConfig(
            backbone="iresnet10",
            widths=widths,
            scale=32.0,
            epochs=max(1, round(share * epochs)),
            batch=64,
            micro_batch=None,
            lr=0.1,
            schedule="cosine",
            milestones=(),
            warmup=0.5,
            momentum=0.9,
            weight_decay=5e-4,
            dropout=0.0,
            clip=5.0,
            sample_rate=1.0,
            precision="float32",
            compile=False,
            augment=AUGMENTATION,
            released=False,
            **rest,
        )

    return {
        "identity": (0, config((16, 48, 96, 128), 1, embedding=512, head="arcface", margin=0.25)),
        "second": (1, config((16, 32, 64, 96), 2 / 3, embedding=256, head="arcface", margin=0.2)),
        "quality": (2, config((16, 32, 48, 48), 1 / 2, embedding=192, head="magface", margin=0.2)),
    }


@dataclass(frozen=True)
class PoseTraining:
    """How the pose estimator is trained."""

    epochs: int
    batch: int = 64
    lr: float = 2e-3


def equalise(
    recognizer: IResNet, images: np.ndarray, labels: np.ndarray, power: float = 0.375
) -> None:
    """Turn the features so that identities fill more dimensions, in place.

    Skin, hair and sex tell rendered people apart so easily that the features vary in few directions
    only, and hardly a hundred people fit below a cosine of 0.3. Within-class covariance
    normalisation (Hatch et al., 2006) multiplies features by C^-1/2, where C is the covariance of
    images about their identity's mean. A ``power`` below 1/2 goes part of the way and costs less
    accuracy. Features are also centred, and keep their total variance. The last linear layer
    applies all of this.

    Args:
        recognizer: in evaluation mode.
        images: uint8 (N, 56, 56, 3), what it was trained on.
        labels: (N,) 0 .. identities - 1.
        power: of C, negated.
    """
    features = embed(recognizer, images).astype(np.float64)
    counts = np.bincount(labels)
    means = np.zeros((len(counts), features.shape[1]))
    np.add.at(means, labels, features)
    within = np.cov((features - (means / counts[:, None])[labels]).T)
    values, vectors = np.linalg.eigh(within)
    turn = (vectors * np.maximum(values, 1e-6 * values[-1]) ** -power) @ vectors.T
    turned = (features - features.mean(0)) @ turn
    turn *= features.std() / turned.std()

    norm, fc = recognizer.features, recognizer.fc
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).double()
    shift = norm.bias - norm.running_mean * scale - torch.from_numpy(features.mean(0))
    matrix = torch.from_numpy(turn)
    with torch.no_grad():
        fc.bias.copy_(matrix @ (scale * fc.bias + shift))
        fc.weight.copy_(matrix @ (scale[:, None] * fc.weight))
    recognizer.add_module("features", nn.Identity())


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
        for epoch in Progress(range(training.epochs), "pose", unit="epoch"):
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
