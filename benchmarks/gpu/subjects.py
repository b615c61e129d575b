"""What is checked and measured: networks, trainings and images, made here and nowhere else.

Two scales: *small*, the networks of ``params.yaml`` on faces of its size, for checks; and *large*,
those of ``params/paper.yaml``, for rates. With ``tiny`` both shrink to what a laptop does in
seconds. No data are needed: weights are random, which cost what trained ones cost, and the
recognizers of models/rendered are in the repository.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torchvision
from torch import nn

from vec2face.config.params import Params
from vec2face.config.sections import RecognizerConfig
from vec2face.faces.benchmarks import Benchmark
from vec2face.faces.images import encode
from vec2face.generator.batches import Batch, masked_batches
from vec2face.generator.masks import masks
from vec2face.generator.network import Vec2Face
from vec2face.generator.step import GeneratorRun
from vec2face.planning.cost import pipeline_cost
from vec2face.randomness import torch_seed
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.batches import Batch as LabelledBatch
from vec2face.recognizers.network import load_recognizer, save_recognizer
from vec2face.recognizers.step import RecognizerRun
from vec2face.runtime.processes import Group, processes

CPU = Group(0, 1, torch.device("cpu"))
RENDERED = Path("models/rendered")
Changes = dict[str, Any]

# Every loss, so that every path is taken; LPIPS with random weights.
LOSSES = {"mse": 1.0, "gradient": 0.5, "lpips": 0.1, "perceptual": 0.1, "ssim": 0.1, "token": 0.1}
LOSSES |= {"identity": 0.4, "identity_start": 0.0, "identity_full": 0.0, "recognizer_share": 0.5}
LOSSES |= {"adversarial": 0.1}
TINY = {"width": 48, "decoder_width": 48, "encoder_blocks": 1, "encoder_heads": 2}
TINY |= {"decoder_blocks": 1, "decoder_heads": 2, "front_channels": 16, "channels": [8, 8, 16, 16]}


def merged(base: Changes, changes: Changes) -> Changes:
    """Return ``base`` with some values replaced, section by section."""
    return base | {
        key: merged(base[key], value) if isinstance(value, dict) else value
        for key, value in changes.items()
    }


def small_params(place: Path, *, tiny: bool, **changes: Any) -> Params:
    """Return ``params.yaml`` with every loss of the generator switched on from the first step."""
    training = {"steps": 24, "batch": 16, "lr": 1e-3, "warmup": 4}
    training |= {"lpips_weights": str(vgg(place)), "losses": LOSSES, "ema": 0.9}
    training |= {"discriminator": {"start": 0.0}}
    values: Changes = {"training": training}
    if tiny:
        values["fr"] = {"widths": [8, 8, 16, 16], "embedding": 32}
        shrunk = {"generator": TINY, "training": {"batch": 4, "losses": {"lpips": 0.0}}}
        values = merged(values | {"generator": {}}, shrunk)
    return parameters("params.yaml", values, changes)


def large_params(place: Path, *, tiny: bool, **changes: Any) -> Params:
    """Return ``params/paper.yaml`` for one process, with random networks in place of trained ones.

    The adversary is not yet on, as in four steps of five.
    """
    values: Changes = {
        "paths": {"recognizer": str(teacher(place, tiny=tiny))},
        "training": {
            "steps": 10**6,
            "micro_batch": None,
            "lr": 1e-7,  # nothing has to be learnt
            "lpips_weights": str(vgg(place)),
            "discriminator": {"start": 1.0},
        },
    }
    if tiny:
        discriminator = {"width": 16, "kernels": [3, 5, 7]}
        shrunk = {"image_size": 56, "generator": TINY, "training": {"discriminator": discriminator}}
        fr = {"backbone": "se_iresnet10", "widths": [8, 16, 16, 32], "embedding": 64}
        values = merged(values | {"generator": {}}, shrunk) | {"fr": fr}
    return parameters("params/paper.yaml", values, changes)


def parameters(file: str, *changes: Changes) -> Params:
    """Return a parameter file with some values replaced, checked as any."""
    values = Params.load(file).model_dump()
    for change in changes:
        values = merged(values, change)
    return Params.model_validate(values)


def vgg(place: Path) -> Path:
    """Return a file of random weights that LPIPS takes for VGG16's."""
    path = place / "vgg16.pth"
    if not path.is_file():
        torch.manual_seed(0)
        layers = torchvision.models.vgg16(init_weights=False).features.state_dict()
        torch.save({f"features.{name}": value for name, value in layers.items()}, path)
    return path


def teacher(place: Path, *, tiny: bool) -> Path:
    """Return a file of the paper's estimator, an IResNet-100, with random weights."""
    path = place / "teacher.safetensors"
    network: Changes = {"name": "iresnet100", "image_size": 112}
    if tiny:
        network = {"name": "iresnet10", "image_size": 56, "widths": [8, 8, 16, 16]}
    if not path.is_file():
        torch.manual_seed(0)
        recognizer = build_backbone(**network)
        for module in recognizer.modules():  # statistics that keep a hundred layers in range
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            recognizer(2 * torch.rand(4, 3, network["image_size"], network["image_size"]) - 1)
        save_recognizer(path, recognizer.eval(), network)
    return path


def open_teacher(place: Path, *, tiny: bool) -> nn.Module:
    """Return that estimator on the device."""
    return load_recognizer(teacher(place, tiny=tiny)).to(processes().device)


def generator_run(params: Params, features: np.ndarray, group: Group | None = None) -> GeneratorRun:
    """Return the generator's training at its start, the same weights on any device."""
    torch.manual_seed(torch_seed(params.seed, "generator"))
    return GeneratorRun(params, features, group or processes())


def generator_batches(
    params: Params, images: np.ndarray, features: np.ndarray, steps: int
) -> Iterator[Batch]:
    """Yield the training's batches, as the training itself draws them."""
    return masked_batches(images.__getitem__, features, params, CPU, range(steps))


def on_device(batch: Batch) -> Batch:
    """Return a batch whose tensors are on the device already."""
    device = processes().device
    pieces = [
        replace(
            piece,
            real=piece.real.to(device),
            features=piece.features.to(device),
            drop=piece.drop.to(device),
            mask=piece.mask.to(device),
        )
        for piece in batch.pieces
    ]
    return replace(batch, pieces=pieces)


def generator(params: Params, dimension: int = 512) -> Vec2Face:
    """Return a generator with random weights, on the CPU, in evaluation mode."""
    torch.manual_seed(0)
    return Vec2Face(params.generator, dimension).eval()


def recognizer_config(params: Params, **changes: Any) -> RecognizerConfig:
    """Return ``params.fr`` for one process in plain float32 at one learning rate, then changed."""
    values: Changes = {"precision": "float32", "compile": False, "micro_batch": None}
    values |= {"sample_rate": 1.0, "warmup": 0.0, "lr": 0.02}
    values |= {"schedule": "milestones", "milestones": ()}
    return RecognizerConfig.model_validate(params.fr.model_dump() | values | changes)


def recognizer_run(
    config: RecognizerConfig, image_size: int, classes: int, group: Group | None = None
) -> RecognizerRun:
    """Return the recognizer's training at its start, the same weights on any device."""
    torch.manual_seed(torch_seed(0, "recognizer"))
    labels = np.arange(max(classes, config.batch)) % classes
    return RecognizerRun(config, image_size, labels, 0, group or processes())


def recognizer_batch(
    run: RecognizerRun, step: int, images: torch.Tensor, labels: torch.Tensor
) -> LabelledBatch:
    """Return a step's images (batch, 3, S, S), cut as the training cuts them."""
    parts = [images[part] for _, part in run.rounds]
    return LabelledBatch(step, np.arange(len(labels)), labels, parts)


def stage_flop(params: Params, stage: str) -> float:
    """Return the operations that a stage spends on one image, by the project's own count.

    AttrOP is left out.
    """
    params = params.model_copy(update={"attrop": None})
    costs = {
        cost.stage: cost.flop for cost in pipeline_cost(params, pca_images=1, benchmark_images=1)
    }
    made = params.identities * params.images_per_identity
    images = {
        "features": params.subset.identities * params.subset.images_per_identity,
        "generator": params.training.steps * params.training.batch,
        "dataset": made,
        "recognizer@generated": made * params.fr.epochs,
    }
    return costs[stage] / images[stage]


def faces(count: int, size: int, people: int = 0) -> np.ndarray:
    """Return pictures uint8 (count, size, size, 3) as smooth as faces and about as many bytes.

    Args:
        count: how many.
        size: in pixels.
        people: if given, picture i shows person i mod ``people``: one picture with small changes.
    """
    rng = np.random.default_rng(0)
    known = rng.integers(0, 256, (people, 14, 14, 3))
    pictures = np.empty((count, size, size, 3), np.uint8)
    for i in range(count):
        coarse = rng.integers(0, 256, (14, 14, 3))
        if people:
            coarse = known[i % people] * 0.8 + coarse * 0.2
        smooth = cv2.resize(coarse.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        pictures[i] = np.clip(smooth + rng.integers(-4, 5, smooth.shape), 0, 255)
    return pictures


def vectors(count: int, dimension: int = 512) -> np.ndarray:
    """Return features float32 (count, dimension) of about the norm that ArcFace gives."""
    return np.random.default_rng(1).standard_normal((count, dimension), np.float32)


def benchmark(pairs: int, size: int) -> Benchmark:
    """Return a verification benchmark; half of its pairs are of one person."""
    pictures = faces(2 * pairs, size, people=pairs)  # pictures i and i + pairs are one person's
    same = np.arange(pairs) % 2 == 0
    other = np.where(same, np.arange(pairs), (np.arange(pairs) + 1) % pairs)
    order = np.stack([np.arange(pairs), pairs + other], 1).ravel()
    return Benchmark("made up", [encode(pictures[i]) for i in order], same)


def drawn(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the masks of some samples, as ``params.yaml`` draws them for generation."""
    return masks(0, first, count, 0.1, 1.0, 0.15)
