"""Images a second of one stage or one of its parts (see ``throughput``)."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from benchmarks.gpu import subjects
from benchmarks.gpu.runner import Figures
from benchmarks.gpu.subjects import drawn
from benchmarks.gpu.timing import rate, synchronise
from vec2face.dataset.generate import generate, generate_images
from vec2face.dataset.perturbation import Perturbation
from vec2face.evaluation.verification import pair_distances
from vec2face.faces.images import decode, encode, to_tensor
from vec2face.generator.network import FullAttention
from vec2face.recognizers.augment import augment
from vec2face.recognizers.batches import augmented_batches
from vec2face.recognizers.features import NetworkRecognizer
from vec2face.recognizers.network import embed
from vec2face.runtime.processes import processes


def device_type() -> str:
    """Return ``cuda`` or ``cpu``."""
    return processes().device.type


def loop_rate(items: Iterator[Any], step: Callable[[Any], Any], images: int) -> Figures:
    """Return the rate of a training loop: ``step`` of every item, the first few not counted."""
    laps = []
    began = time.perf_counter()
    for item in items:
        step(item)
        synchronise()
        laps.append(time.perf_counter() - began)
        began = time.perf_counter()
    middle = float(np.median(laps[len(laps) // 3 :]))
    return {"images_per_second": images / middle, "milliseconds": 1e3 * middle}


@contextmanager
def what_if(run: subjects.GeneratorRun, change: str) -> Iterator[None]:
    """Change a training within, to see what it would be worth."""
    half = torch.autocast(device_type(), torch.bfloat16)
    if change == "attention in bfloat16":
        with patch.object(FullAttention, "forward", Attention.forward):
            yield
    elif change == "frozen networks in bfloat16":
        run.recognizer.forward_with_taps = half(run.recognizer.forward_with_taps)
        if run.lpips:
            run.lpips.forward = half(run.lpips.forward)
        yield
    elif change == "channels first":
        for net in (run.generator, run.recognizer, run.lpips, run.discriminator):
            if net is not None:
                net.to(memory_format=torch.contiguous_format)
        yield
    else:
        yield


def generator_step(
    place: Path,
    tiny: bool,
    ceiling: float | None,
    micro: int,
    *,
    losses: dict[str, float] | None = None,
    adversary: bool = False,
    change: str = "",
    loop: bool = False,
    **training: Any,
) -> Figures:
    """Time the generator's training step at the paper's size.

    Args:
        place: of the random networks.
        tiny: for a test.
        ceiling: of the bound.
        micro: images in the only micro-batch of a step.
        losses: other weights than the paper's.
        adversary: whether the adversarial loss counts, as in the last fifth of the training.
        change: see ``what_if``.
        loop: whether batches are drawn and carried to the card as in the training.
        training: other parameters.
    """
    start = {"start": 0.0 if adversary else 1.0}
    training |= {"batch": micro, "losses": losses or {}, "discriminator": start}
    training = {"precision": "bfloat16"} | training
    params = subjects.large_params(place, tiny=tiny, training=training)
    count = micro * 2
    images, features = subjects.faces(count, params.image_size), subjects.vectors(count)
    run = subjects.generator_run(params, features)
    flop = subjects.stage_flop(params, "generator")
    with what_if(run, change):
        if loop:
            batches = subjects.generator_batches(params, images, features, 3 if tiny else 18)
            return loop_rate(batches, run.step, micro)
        batch = subjects.on_device(next(subjects.generator_batches(params, images, features, 1)))
        return rate(lambda: run.step(batch), micro, flop, ceiling)


def recognizer_step(
    place: Path,
    tiny: bool,
    ceiling: float | None,
    batch: int,
    classes: int,
    *,
    change: str = "",
    loop: bool = False,
    **changes: Any,
) -> Figures:
    """Time the recognizer's training step at the paper's size; arguments as above."""
    params = subjects.large_params(place, tiny=tiny)
    counted = subjects.large_params(place, tiny=tiny, identities=classes)
    changes = {"precision": "bfloat16"} | changes
    config = subjects.recognizer_config(params, batch=batch, lr=1e-4, **changes)
    run = subjects.recognizer_run(config, params.image_size, classes)
    pictures = subjects.faces(batch, params.image_size)
    labels = np.random.default_rng(0).integers(0, classes, 2 * batch)
    if loop:
        many = np.concatenate([pictures, pictures[:, :, ::-1]])
        steps = range(3 if tiny else 24)
        parts = [part for _, part in run.rounds]
        read, changed = many.__getitem__, params.fr.augment
        batches = augmented_batches(read, labels, batch, changed, 0, parts, steps)
        return loop_rate(batches, run.step, batch)
    x = to_tensor(pictures).to(processes().device)
    if change == "channels first":
        run.backbone.to(memory_format=torch.contiguous_format)
        x = x.contiguous()
    item = subjects.recognizer_batch(run, 0, x, torch.from_numpy(labels[:batch]))
    flop = subjects.stage_flop(counted, "recognizer@generated")
    return rate(lambda: run.step(item), batch, flop, ceiling)


def painting(
    place: Path,
    tiny: bool,
    ceiling: float | None,
    batch: int,
    kind: str = "float32",
    *,
    whole: bool = False,
    channels_last: bool = False,
    compiled: bool = False,
) -> Figures:
    """Time the generator: alone, or ``whole``, from vectors in memory to pictures there."""
    params = subjects.large_params(place, tiny=tiny)
    net: Any = subjects.generator(params).to(processes().device)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    if compiled:
        net.compile()
    flop = subjects.stage_flop(params, "dataset")
    half = torch.autocast(device_type(), getattr(torch, kind), enabled=kind != "float32")
    if whole:
        rows = subjects.vectors(4 * batch)
        call = partial(generate_images, net, rows, drawn, 0, batch)
        return rate(call, len(rows), flop, ceiling)
    inputs = [torch.from_numpy(subjects.vectors(batch)), *drawn(0, batch)]
    inputs = [x.to(processes().device) for x in inputs]
    with torch.inference_mode(), half:
        return rate(lambda: net(*inputs), batch, flop, ceiling)


def dataset(place: Path, tiny: bool, ceiling: float | None) -> Figures:
    """Time the dataset stage whole: perturbing, generating, encoding, storing."""
    params = subjects.large_params(place, tiny=tiny)
    net = subjects.generator(params).to(processes().device)
    identities, each = subjects.vectors(2 if tiny else 64), 4 if tiny else 50
    perturbation = Perturbation(0, each, params.sigma, params.sigma_share, 0.5, 1.0)
    with torch.no_grad():
        generate_images(net, identities, drawn)
    with TemporaryDirectory() as folder:
        store, vectors = Path(folder, "store"), Path(folder, "vectors.npy")
        about = {"work": Path(folder, "work"), "made_by": "benchmarks/gpu"}
        began = time.perf_counter()
        generate(net, identities, perturbation, drawn, store=store, vectors=vectors, **about)
        seconds = time.perf_counter() - began
    images = len(identities) * each
    figures = {"images_per_second": images / seconds, "images": images}
    if ceiling:
        bound = ceiling / subjects.stage_flop(params, "dataset")
        figures |= {"bound_images_per_second": bound}
        figures |= {"share_of_bound": figures["images_per_second"] / bound}
    return figures


def features(
    place: Path,
    tiny: bool,
    ceiling: float | None,
    batch: int,
    kind: str = "float32",
    *,
    whole: bool = False,
) -> Figures:
    """Time the estimator's features: alone, or ``whole``, from pictures in memory."""
    params = subjects.large_params(place, tiny=tiny)
    net = subjects.open_teacher(place, tiny=tiny)
    pictures = subjects.faces(batch, params.image_size)
    flop = subjects.stage_flop(params, "features")
    if whole:
        return rate(partial(NetworkRecognizer(net).features, pictures), batch, flop, ceiling)
    return alone(net, pictures, kind, flop, ceiling)


def alone(
    net: nn.Module, pictures: np.ndarray, kind: str, flop: float, ceiling: float | None
) -> Figures:
    """Time a recognizer on pictures that lie on the card."""
    x: Tensor = to_tensor(pictures).to(processes().device)
    half = torch.autocast(device_type(), getattr(torch, kind), enabled=kind != "float32")
    with torch.inference_mode(), half:
        return rate(lambda: net(x), len(x), flop, ceiling)


def evaluation(place: Path, tiny: bool, ceiling: float | None, pairs: int) -> Figures:
    """Time the evaluation of a trained recognizer: decoding, two embeddings of each picture."""
    params = subjects.large_params(place, tiny=tiny)
    config = subjects.recognizer_config(params, batch=8)
    run = subjects.recognizer_run(config, params.image_size, 8)
    run.backbone.eval()
    benchmark = subjects.benchmark(pairs, params.image_size)
    embeds = {"": partial(embed, run.backbone)}
    small = subjects.large_params(place, tiny=tiny, identities=1)  # with next to no head
    flop = 2 * subjects.stage_flop(small, "recognizer@generated") / 3  # two of a step's passes
    return rate(lambda: pair_distances(embeds, benchmark, range(pairs)), 2 * pairs, flop, ceiling)


def pictures_rate(place: Path, tiny: bool, what: str, threads: int) -> Figures:
    """Time what the processor does with JPEGs of 112 pixels, on so many threads."""
    changes = subjects.large_params(place, tiny=tiny).fr.augment
    pictures = subjects.faces(64 if tiny else 1024, 112)
    jpegs = [encode(picture) for picture in pictures]
    pieces = np.array_split(np.arange(len(pictures)), 2 * threads)

    def work(rows: np.ndarray) -> None:
        if what == "encode":
            for i in rows:
                encode(pictures[i])
            return
        found = pictures[rows]
        if "decode" in what:
            found = np.stack([decode(jpegs[i], "a picture") for i in rows])
        if "augment" in what:
            to_tensor(augment(found, rows, 0, 0, changes))

    with ThreadPoolExecutor(threads) as pool:
        return rate(lambda: list(pool.map(work, pieces)), len(pictures)) | {
            "bytes_of_a_jpeg": float(np.mean([len(jpeg) for jpeg in jpegs]))
        }
