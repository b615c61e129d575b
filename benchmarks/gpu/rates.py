"""Images a second of every stage, beside what the card's matrix products would allow.

The bound is the rate of the 8192 x 8192 product in bfloat16 over the operations of one image as
``vec2face.planning.cost`` counts them; it is the same for every precision. *Alone* means that the
inputs lie on the card; *as the stage does it* takes them from memory as decoded pictures and
includes what the processor has to do. Rows named *what if* are not what the project does: they say
what a change would be worth.
"""

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
from benchmarks.gpu.paths import drawn
from benchmarks.gpu.runner import Figures, Row
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
from vec2face.runtime.processes import cores, processes


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


def rows(place: Path, tiny: bool, ceiling: float | None) -> dict[str, Row]:
    """Return the rows of the piece ``throughput``, the most telling first."""
    place.mkdir(parents=True, exist_ok=True)

    def row(function: Any, *arguments: Any, **named: Any) -> Row:
        return partial(function, place, tiny, ceiling, *arguments, **named)

    def of(full: int) -> int:
        return max(4, full // 32) if tiny else full

    def heads(full: int) -> int:
        return full // 100 if tiny else full

    step, fr = partial(row, generator_step), partial(row, recognizer_step)
    ten, hundred, all_ = heads(10_000), heads(100_000), heads(300_000)
    found: dict[str, Row] = {
        "generator step, bfloat16, 128": step(of(128)),
        "generator step, bfloat16, 128, as the stage does it": step(of(128), loop=True),
        "SE-IR50 step, bfloat16, 256, 10k": fr(of(256), ten),
        "SE-IR50 step, bfloat16, 256, 10k, as the stage does it": fr(of(256), ten, loop=True),
        "generate, float32, 128, as the stage does it": row(painting, of(128), whole=True),
        "dataset stage whole": row(dataset),
        "IResNet-100 features, float32, 512, as the stage does it": row(
            features, of(512), whole=True
        ),
        "generator step, bfloat16, 64": step(of(64)),
        "generator step, bfloat16, 256": step(of(256)),
        "generator step, float16, 128": step(of(128), precision="float16"),
        "generator step, float32, 64": step(of(64), precision="float32"),
        "generator step, bfloat16, 128, with the adversary": step(of(128), adversary=True),
        "SE-IR50 step, bfloat16, 128, 10k": fr(of(128), ten),
        "SE-IR50 step, bfloat16, 512, 10k": fr(of(512), ten),
        "SE-IR50 step, float16, 256, 10k": fr(of(256), ten, precision="float16"),
        "SE-IR50 step, float32, 256, 10k": fr(of(256), ten, precision="float32"),
        "SE-IR50 step, bfloat16, 256, 100k": fr(of(256), hundred),
        "SE-IR50 step, bfloat16, 256, 300k": fr(of(256), all_),
        "SE-IR50 step, bfloat16, 256, 300k, share 0.1": fr(of(256), all_, sample_rate=0.1),
        "SE-IR50 step, bfloat16, 128 as 8 x 16, 10k": fr(
            of(128), ten, micro_batch=max(2, of(128) // 8)
        ),
    }
    for batch in (32, 64, 128, 256):
        for kind in ("float32", "bfloat16"):
            found[f"generate alone, {kind}, {batch}"] = row(painting, of(batch), kind)
    for kind in ("float32", "bfloat16"):
        found[f"IResNet-100 alone, {kind}, 256"] = row(features, of(256), kind)
    found["evaluation of SE-IR50, 256 pairs"] = row(evaluation, of(256))
    for threads in (1, cores()):
        for what in ("encode", "decode", "augment", "decode and augment"):
            name = f"JPEG 112 pixels: {what}, {threads} threads"
            found[name] = partial(pictures_rate, place, tiny, what, threads)
    none = {"lpips": 0.0, "identity": 0.0, "adversarial": 0.0}
    found |= {
        "generator step, only the pixel loss, 128": step(of(128), losses=none),
        "generator step, without LPIPS, 128": step(of(128), losses={"lpips": 0.0}),
        "generator step, without identity, 128": step(of(128), losses={"identity": 0.0}),
        "what if attention ran in bfloat16: generator step, 128": step(
            of(128), change="attention in bfloat16"
        ),
        "what if frozen networks ran in bfloat16: generator step, 128": step(
            of(128), change="frozen networks in bfloat16"
        ),
        "what if channels were first: generator step, 128": step(of(128), change="channels first"),
        "what if channels were first: SE-IR50 step, 256, 10k": fr(
            of(256), ten, change="channels first"
        ),
        "what if channels were last: generate alone, bfloat16, 128": row(
            painting, of(128), "bfloat16", channels_last=True
        ),
        "SE-IR50 step, bfloat16, 256, 10k, compiled": fr(of(256), ten, compile=True),
        "generator step, bfloat16, 128, compiled": step(of(128), compile=True),
        "what if it were compiled: generate alone, bfloat16, 128": row(
            painting, of(128), "bfloat16", channels_last=True, compiled=True
        ),
    }
    return found
