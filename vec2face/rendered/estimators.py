"""Estimators for rendered faces, small enough to ship (together under 8 MB).

In the paper ArcFace-R100 estimates identity, MagFace-R100 quality (the norm of its feature) and
SixDRepNet pose. ``second`` and ``second_pose``, of another architecture, judge what the first ones
taught. All see faces as RGB, (x / 255 - 0.5) / 0.5, at ``SIZE`` pixels.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vec2face.config.bounds import Backbone
from vec2face.config.sections import Augmentation, RecognizerConfig
from vec2face.faces.images import to_tensor
from vec2face.randomness import stream, torch_seed
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.iresnet import IResNet
from vec2face.recognizers.network import embed
from vec2face.runtime.progress import Progress

SIZE = 56
RATE = 2e-3  # highest learning rate of attributes
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

    ``epochs`` are those of the identity network; the others take fewer. Networks this narrow need
    smaller margins than the paper's to start learning in so few epochs.
    """

    def config(
        backbone: Backbone, widths: tuple[int, ...], share: float, **rest: Any
    ) -> RecognizerConfig:
        return RecognizerConfig(
            backbone=backbone,
            widths=widths,
            scale=32.0,
            epochs=max(1, round(share * epochs)),
            batch=128,
            micro_batch=None,
            lr=0.1,
            schedule="cosine",
            milestones=(),
            warmup=0.5,
            momentum=0.9,
            weight_decay=5e-4,
            dropout=0.0,
            seed=None,
            clip=5.0,
            sample_rate=1.0,
            precision="float32",
            compile=False,
            augment=AUGMENTATION,
            released=False,
            **rest,
        )

    arc: dict[str, Any] = {"embedding": 512, "head": "arcface", "margin": 0.25}
    cos: dict[str, Any] = {"embedding": 256, "head": "cosface", "margin": 0.15}
    mag: dict[str, Any] = {"embedding": 192, "head": "magface", "margin": 0.2}
    return {
        "identity": (0, config("iresnet10", (16, 48, 96, 128), 1, **arc)),
        "second": (1, config("mobilefacenet", (24, 32, 64, 256), 2 / 3, **cos)),
        "quality": (2, config("iresnet10", (16, 32, 48, 48), 1 / 3, **mag)),
    }


def equalise(
    recognizer: IResNet, images: np.ndarray, labels: np.ndarray, power: float = 0.45
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


@dataclass(frozen=True)
class Attribute:
    """What a network of ``train_attribute`` says of a face.

    Attributes:
        names: of its outputs, as in ``produce.Attributes``.
        centre: about the mean of the outputs.
        spread: about their standard deviation.
        mirrored: factors on the outputs when the face is mirrored.
        backbone: its body.
        widths: of the body.
        unit: what the ONNX file calls its output.
    """

    names: tuple[str, ...]
    centre: float
    spread: float
    mirrored: tuple[float, ...]
    backbone: Backbone
    widths: tuple[int, ...]
    unit: str


POSE = Attribute(("yaw", "pitch"), 0.0, 30.0, (-1.0, 1.0), "iresnet10", (12, 24, 32, 48), "degrees")
ATTRIBUTES = {
    "pose": POSE,
    "second_pose": replace(POSE, backbone="mobilefacenet", widths=(16, 16, 32, 96)),
    "age": Attribute(("age",), 45.0, 20.0, (1.0,), "iresnet10", (12, 24, 32, 48), "years"),
}


class AttributeEstimator(nn.Module):
    """Faces (B, 3, 56, 56) to the values of an attribute, (B, values), in its unit."""

    def __init__(self, attribute: Attribute) -> None:
        super().__init__()
        a = attribute
        self.body = build_backbone(
            a.backbone, image_size=SIZE, embedding=32, widths=a.widths, dropout=0.0
        )
        self.out = nn.Linear(32, len(a.names))
        self.centre, self.spread = a.centre, a.spread

    def forward(self, images: Tensor) -> Tensor:
        """Return the values."""
        return self.centre + self.spread * self.out(self.body(images))


def train_attribute(
    images: np.ndarray, values: np.ndarray, name: str, epochs: int, seed: int, batch: int = 64
) -> AttributeEstimator:
    """Fit one of ``ATTRIBUTES`` by the mean absolute error.

    Args:
        images: uint8 (N, 56, 56, 3).
        values: (N, values), in the attribute's unit. Half the images are seen mirrored.
        name: of the attribute.
        epochs: passes over the images.
        seed: start weights, order and mirroring follow from it.
        batch: images in a step, at most all.
    """
    attribute, batch = ATTRIBUTES[name], min(batch, len(images))
    signs = torch.tensor(attribute.mirrored)
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, name))
        net = AttributeEstimator(attribute).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(net.parameters(), RATE)
        per_epoch = len(images) // batch
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, RATE, total_steps=epochs * per_epoch
        )
        targets = torch.from_numpy(values.astype(np.float32))
        with Progress(what=name, total=epochs * per_epoch, unit="step") as progress:
            for epoch in range(epochs):
                draw = stream(seed, f"{name} order", epoch)
                order = draw.permutation(len(images))[: per_epoch * batch]
                for chosen in order.reshape(per_epoch, batch):
                    mirrored = torch.from_numpy(draw.random(batch) < 0.5)
                    x, y = to_tensor(images[chosen]), targets[chosen].clone()
                    x[mirrored] = x[mirrored].flip(3)
                    y[mirrored] *= signs
                    loss = (net(x) - y).abs().mean()
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    progress.update()
    return net.eval()
