"""What a run costs, before it runs: operations, memory and disk, counted on tensors without data.

Networks are built on PyTorch's ``meta`` device, which knows shapes only, so the paper's sizes are
counted on any machine in seconds; a recognizer that is a file is run once. A multiplication and an
addition count as two operations (FLOP).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vec2face.config.params import Params
from vec2face.config.sections import GeneratorConfig
from vec2face.estimators.estimator import Estimator, open_estimator
from vec2face.generator.discriminator import PatchDiscriminator
from vec2face.generator.masks import ROWS
from vec2face.generator.network import SIDE, Vec2Face
from vec2face.recognizers.backbones import architecture, build_backbone
from vec2face.recognizers.features import open_network

JPEG_BYTES_PER_PIXEL = 0.55  # of a face at quality 95
CPU_GFLOPS = 70.0  # 10^9 operations a second of a process's products on the processor
OPTIMIZER = 4  # float32 copies of the weights: weights, gradients and AdamW's two moments


@dataclass(frozen=True)
class Cost:
    """Of one network and one image.

    Attributes:
        forward: FLOP of inference.
        backward: FLOP of all gradients.
        kept: bytes (float32) that a forward pass keeps for the backward one.
        parameters: how many.
    """

    forward: float
    backward: float
    kept: float
    parameters: int

    def __add__(self, other: "Cost") -> "Cost":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Cost(*(a + b for a, b in pairs))


def network_cost(build: Callable[[], nn.Module], *shape: int) -> Cost:
    """Count the network that ``build`` makes, on one input of ``shape`` (without the batch).

    Batch norms need two images in training; the figures are per image.
    """
    with torch.device("meta"):
        return _count(build().train(), torch.empty(2, *shape, requires_grad=True))


def file_cost(path: Path | str) -> Cost:
    """Count the frozen recognizer of a file, on images of its own size.

    Raises:
        InputError: the file is missing, or has no PyTorch form.
    """
    net = open_network(path)
    return _count(net, torch.zeros(2, 3, net.input_size, net.input_size, requires_grad=True))


def estimators_cost(p: Params) -> Cost:
    """Count the frozen estimators that AttrOP asks together, on images of ``image_size``.

    Raises:
        InputError: a file is missing, or is no such network.
    """
    faces = torch.zeros(2, 3, p.image_size, p.image_size, requires_grad=True)
    total = Cost(0, 0, 0, 0)
    for name in _asked(p):
        estimator = open_estimator(p.estimators[name], f"estimators.{name}")
        total += _count(_Stacked(estimator), faces)
    return total


def _asked(p: Params) -> set[str]:
    return {aim.estimator for aim in p.attrop.attributes.values()} if p.attrop else set()


class _Stacked(nn.Module):
    """An estimator whose outputs are one tensor."""

    def __init__(self, estimator: Estimator) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([*self.estimator(images).values()])


def _count(net: nn.Module, x: Tensor) -> Cost:
    """Count a network on the two images ``x``."""

    def place(tensor: Tensor) -> int:
        return id(tensor) if tensor.device.type == "meta" else tensor.data_ptr()

    weights = {place(p) for p in net.parameters()}
    kept: dict[int, Tensor] = {}  # by place; holding them keeps the places apart

    def keep(tensor: Tensor) -> Tensor:
        if place(tensor) not in weights:
            kept[place(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with FlopCounterMode(display=False) as forward:
            y = net(x)
        with FlopCounterMode(display=False) as backward:
            y.sum().backward()
    return Cost(
        forward.get_total_flops() / 2,
        backward.get_total_flops() / 2,
        sum(t.nbytes for t in kept.values()) / 2,
        sum(p.numel() for p in net.parameters()),
    )


@cache
def generator_cost(config: GeneratorConfig, drop: float) -> Cost:
    """Count the generator when a share ``drop`` of the rows does not enter the encoder.

    The linear layers between its three parts, under one percent, are left out.
    """

    def part(name: str) -> Callable[[], nn.Module]:
        return lambda: Vec2Face(config, dimension=512).get_submodule(name)

    kept_rows = 1 + int(ROWS * (1 - drop))
    return (
        network_cost(part("encoder"), kept_rows, config.width)
        + network_cost(part("decoder"), 1 + ROWS, config.decoder_width)
        + network_cost(part("to_image"), config.front_channels, SIDE, SIDE)
    )


@cache
def backbone_cost(
    name: str, image_size: int = 112, embedding: int = 512, widths: tuple[int, ...] | None = None
) -> Cost:
    """Count a recognizer of ``vec2face.recognizers.backbones``."""
    return network_cost(
        lambda: build_backbone(name, image_size=image_size, embedding=embedding, widths=widths),
        *(3, image_size, image_size),
    )


@cache
def _discriminator_cost(
    width: int, kernels: tuple[int, ...], image_size: int, released: bool
) -> Cost:
    return network_cost(
        lambda: PatchDiscriminator(width, kernels, released=released), 3, image_size, image_size
    )


@dataclass(frozen=True)
class StageCost:
    """What one stage needs.

    Attributes:
        stage: its name.
        flop: on the device.
        disk_bytes: written.
        memory_bytes: of a process.
        device_bytes: weights, optimiser and kept activations.
        cpu_flop: products of vectors, where no GPU takes them.
    """

    stage: str
    flop: float
    disk_bytes: float = 0.0
    memory_bytes: float = 0.0
    device_bytes: float = 0.0
    cpu_flop: float = 0.0


def attrop_flop(p: Params, generator: Cost, recognizer: Cost, estimators: Cost) -> float:
    """Count AttrOP, at most: all its images take all steps, and all attempts that they have.

    Each step draws an image, looks at it, and sends a gradient through all networks to the vector,
    none to weights: it costs as much as the way there. The last image is looked at, too.
    """
    if p.attrop is None:
        return 0.0
    images = p.identities * p.images_per_identity * sum(group.share for group in p.attrop.groups)
    attempts = p.attrop.attempts if p.attrop.unconverged == "again" else 1
    look = generator.forward + recognizer.forward + estimators.forward
    return images * attempts * (p.attrop.steps + 1) * 2 * look


def pipeline_cost(
    p: Params,
    *,
    pca_images: int,
    benchmark_images: int,
    pca_people: int | None = None,
    recognizer: Cost | None = None,
    second: Cost | None = None,
    estimators: Cost | None = None,
) -> list[StageCost]:
    """Estimate every stage of ``p``; those that render are left out.

    LPIPS is taken for VGG16, training sets of others for as large as ours, and AttrOP for as long
    as it may take (``attrop_flop``).

    Args:
        p: the parameters.
        pca_images: number of images of ``paths.pca_faces``.
        benchmark_images: number of images of all benchmarks together.
        pca_people: number of people on the former; at most its images if it is not given.
        recognizer: that of ``paths.recognizer``; an IResNet-100 at 112 pixels, as in the paper, if
            it is not given.
        second: that of ``paths.second_recognizer``; ``recognizer`` if it is not given.
        estimators: those of AttrOP together; each as large as ``recognizer`` if not given.
    """
    teacher = recognizer or backbone_cost("iresnet100")
    estimators = estimators or sum([teacher] * len(_asked(p)), Cost(0, 0, 0, 0))
    judges = teacher.forward + (second or teacher).forward
    name = architecture(p.fr, p.image_size)["name"]
    fr = backbone_cost(name, p.image_size, p.fr.embedding, p.fr.widths or None)
    t, w, d = p.training, p.training.losses, p.training.discriminator
    train = generator_cost(p.generator, t.masks.minimum)
    sample = generator_cost(p.generator, p.sampling.masks.minimum)
    judge = _discriminator_cost(d.width, d.kernels, p.image_size, t.released)
    faces = p.subset.identities * p.subset.images_per_identity
    made = p.identities * p.images_per_identity
    # Whom the generated people are compared with.
    real = p.subset.identities + (pca_people or pca_images) + benchmark_images
    jpeg = JPEG_BYTES_PER_PIXEL * p.image_size**2
    row = 4.0 * 512

    step = train.forward + train.backward
    if w.identity or w.perceptual:  # gradients go through it, none to its weights
        passes = 2 + bool(w.perceptual)
        step += w.recognizer_share * passes * teacher.forward
    sampled = w.sampled_share if w.sampled else 0.0
    step += sampled * (train.forward + train.backward + 2 * teacher.forward)
    if w.lpips:
        step += 3 * 2 * 7.68e9 * (p.image_size / 112) ** 2 / 2  # VGG16's convolutions, 3 passes
    if w.adversarial:
        step += (1 - d.start) * (2 * judge.forward + 2 * (judge.forward + judge.backward))
    head = 3 * 2 * p.fr.embedding * p.identities
    network = OPTIMIZER * 4.0 * train.parameters + 4.0 * (train.parameters + teacher.parameters)
    fr_network = 4.0 * (OPTIMIZER - 1) * (fr.parameters + p.fr.embedding * p.identities)
    pixels = 3.0 * p.image_size**2
    epochs = p.fr.epochs * made * (fr.forward + fr.backward + head)
    return [
        StageCost("subset", 0, faces * jpeg),
        StageCost("features", faces * teacher.forward, faces * row, faces * row),
        StageCost(
            "generator",
            t.steps * t.batch * step,
            4.0 * 2 * train.parameters,
            faces * (pixels + row),
            network
            + (t.micro_batch or t.batch)
            * ((1 + sampled) * train.kept + (w.recognizer_share + sampled) * teacher.kept),
        ),
        StageCost("pca", pca_images * teacher.forward, 4.0 * 513 * 512, pca_images * row),
        StageCost(
            *("identities", 0, p.identities * row, p.identities * row),
            cpu_flop=p.identities**2 * 512.0,
        ),
        StageCost(
            "dataset",
            made * sample.forward + attrop_flop(p, sample, teacher, estimators),
            made * (jpeg + row),
            p.identities * row,
        ),
        *(
            StageCost(
                f"recognizer@{which}",
                epochs,
                4.0 * fr.parameters,
                made * pixels,
                fr_network + (p.fr.micro_batch or p.fr.batch) * fr.kept,
            )
            for which in p.sets
        ),
        StageCost("measure", min(made, 20_000) * judges),
        StageCost(
            "labels",
            made * judges,
            2 * made * row,
            4.5 * p.identities * row,
            # Vectors, features twice, and identities among themselves.
            cpu_flop=2 * 512.0 * (3 * made + p.identities) * p.identities,
        ),
        StageCost(
            "leaks",
            (pca_images + benchmark_images) * teacher.forward,
            0.0,
            pca_images * row,
            cpu_flop=2 * 512.0 * (made + 2 * p.identities) * real,
        ),
        StageCost(
            "evaluate",
            (1 + p.evaluation.flip) * benchmark_images * ((1 + len(p.sets)) * fr.forward + judges),
        ),
    ]
