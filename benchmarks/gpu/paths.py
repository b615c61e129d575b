"""Every path that only a card takes, once; each beside the CPU or the plain float32 path.

A row says ``passed`` with the figures that were compared, and their limits. Float32 on the card is
compared twice: with TF32 switched off, where it has to agree with the CPU to rounding, and as
PyTorch has it by default (TF32 in convolutions), where it has to agree loosely.
"""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.gpu import ranks, subjects
from benchmarks.gpu.runner import Figures, Row
from benchmarks.gpu.subjects import CPU, RENDERED
from vec2face.dataset.generate import generate, generate_images
from vec2face.dataset.perturbation import Perturbation
from vec2face.evaluation.verification import evaluate
from vec2face.faces.images import resize, to_tensor
from vec2face.faces.store import FaceStore
from vec2face.generator.inference import arrange_for_inference
from vec2face.generator.masks import masks
from vec2face.generator.network import Vec2Face
from vec2face.recognizers.backbones import architecture
from vec2face.recognizers.features import NetworkRecognizer, open_network
from vec2face.recognizers.network import embed, untrained_recognizer
from vec2face.recognizers.onnx import OnnxRecognizer, export
from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.processes import Group, processes

HALF = 3e-2  # between float32 and a half precision: three times the rounding of bfloat16
TF32 = 2e-2
EXACT = 1e-3  # between two devices in float32
LATER, LATER_TF32 = 1e-2, 5e-2  # the same after steps of training, which amplify rounding
PEOPLE = 12


def verdict(**measured: tuple[float, float]) -> Figures:
    """Return figures and their limits, and whether each keeps to its own: name=(value, limit)."""
    figures: Figures = {"passed": all(value <= limit for value, limit in measured.values())}
    for name, (value, limit) in measured.items():
        figures |= {name: value, f"{name}_limit": limit}
    return figures


def apart(found: Any, wanted: Any, least: float = 1e-6) -> float:
    """Return the length of the difference as a share of the wanted array's length."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), least))


@contextmanager
def exactly() -> Iterator[None]:
    """Switch TF32 off within."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


Losses = list[dict[str, float]]


def generator_losses(
    place: Path, tiny: bool, steps: int, group: Group | None = None, **changes: Any
) -> tuple[Losses, Any, int]:
    """Train; return the losses of the steps that were taken, the training, and steps left out."""
    params = subjects.small_params(place, tiny=tiny, **changes)
    images, features = ranks.faces_and_features(params)
    run = subjects.generator_run(params, features, group)
    batches = subjects.generator_batches(params, images, features, steps)
    found = [run.step(batch) for batch in batches]
    return [losses for losses in found if losses], run, sum(losses is None for losses in found)


@cache
def float32_losses(
    place: Path, tiny: bool, steps: int, released: bool, training: tuple[tuple[str, Any], ...]
) -> Losses:
    """Return the losses of ``generator_losses`` for a training that several rows compare with."""
    slips = {"released": released}
    changes = {"training": {"steps": steps} | slips | dict(training), "generator": slips}
    return generator_losses(place, tiny, steps, **changes)[0]


def worst(found: dict[str, float], wanted: dict[str, float]) -> float:
    """Return the largest difference of a loss as a share of it, or of 0.1 if it is smaller."""
    return max(abs(found[name] - wanted[name]) / max(abs(wanted[name]), 0.1) for name in wanted)


def generator_like_cpu(place: Path, tiny: bool) -> Figures:
    """Compare every loss of three steps with the CPU's."""
    few = {"training": {"batch": 4}}  # the CPU's side is the row's time
    wanted = generator_losses(place, tiny, 3, CPU, **few)[0]
    with exactly():
        found = generator_losses(place, tiny, 3, **few)[0]
    default, run, _ = generator_losses(place, tiny, 3, **few)
    convolutions = [m for m in run.generator.modules() if isinstance(m, nn.Conv2d)]
    last = [m.weight.is_contiguous(memory_format=torch.channels_last) for m in convolutions]
    figures = verdict(
        first_step=(worst(found[0], wanted[0]), EXACT / 10),
        third_step=(worst(found[2], wanted[2]), LATER),
        third_step_with_tf32=(worst(default[2], wanted[2]), LATER_TF32),
    )
    figures["channels_last"] = all(last)
    figures["passed"] &= all(last) or processes().device.type == "cpu"
    return figures | {"losses": wanted[0], "losses_found": found[0]}


def generator_learns(
    place: Path, tiny: bool, steps: int = 24, *, released: bool = False, **training: Any
) -> Figures:
    """Train some steps, the adversary included, beside the same in plain float32."""
    steps = 5 if tiny else steps
    slips = {"released": released}
    changes = {"training": {"steps": steps} | slips | training, "generator": slips}
    plain = {"precision": "float32", "compile": False}
    wanted = float32_losses(place, tiny, steps, released, tuple((training | plain).items()))
    found, _, left_out = generator_losses(place, tiny, steps, **changes)
    precision = training.get("precision", "float32")
    measured = {
        "mse_against_float32": (abs(found[-1]["mse"] / wanted[-1]["mse"] - 1), 0.2),
        "mse_against_start": (found[-1]["mse"] / wanted[0]["mse"], 1.0),
        "steps_left_out": (left_out, 6 if precision == "float16" else 0),
    }
    if not left_out:
        limit = TF32 if precision == "float32" else HALF
        measured["first_step"] = (worst(found[0], wanted[0]), limit)
    return verdict(**measured) | {"losses": found[-1], "losses_of_float32": wanted[-1]}


def trained_generator(place: Path, tiny: bool) -> Figures:
    """Train as the stage does; save, load and use what comes out."""
    with TemporaryDirectory() as folder:
        weights = ranks.train("generator", place, Path(folder, "work"), tiny=tiny)
        params = subjects.small_params(place, tiny=tiny)
        net = subjects.generator(params, weights["feature_mean"].numel())
        net.load_state_dict(weights)
        net.save(Path(folder, "generator.safetensors"))
        again = Vec2Face.load(Path(folder, "generator.safetensors")).to(processes().device)
        images = generate_images(again, subjects.vectors(8, again.dimension), drawn)
    return verdict(not_finite=(sum(not v.isfinite().all() for v in weights.values()), 0)) | {
        "images": list(images.shape)
    }


def recognizer_steps(
    place: Path, tiny: bool, steps: int, group: Group | None = None, **changes: Any
) -> list[float]:
    """Return the losses of some steps on the same images."""
    params = subjects.small_params(place, tiny=tiny)
    count = PEOPLE if tiny else 4 * PEOPLE
    config = subjects.recognizer_config(params, **{"batch": count} | changes)
    run = subjects.recognizer_run(config, params.image_size, PEOPLE * 20, group)
    pictures = to_tensor(subjects.faces(count, params.image_size, PEOPLE))
    labels = torch.arange(count) % PEOPLE
    batches = [subjects.recognizer_batch(run, step, pictures, labels) for step in range(steps)]
    return [(run.step(batch) or {"loss": math.nan})["loss"] for batch in batches]


def recognizer_like_cpu(place: Path, tiny: bool, **changes: Any) -> Figures:
    """Compare the losses of three steps with the CPU's."""
    wanted = recognizer_steps(place, tiny, 3, CPU, **changes)
    with exactly():
        found = recognizer_steps(place, tiny, 3, **changes)
    default = recognizer_steps(place, tiny, 3, **changes)
    return verdict(
        first_step=(abs(found[0] / wanted[0] - 1), EXACT / 10),
        third_step=(abs(found[2] / wanted[2] - 1), LATER),
        third_step_with_tf32=(abs(default[2] / wanted[2] - 1), LATER_TF32),
    ) | {"losses": wanted}


def recognizer_learns(place: Path, tiny: bool, steps: int = 8, **changes: Any) -> Figures:
    """Train some steps beside the same in plain float32."""
    plain = {"precision": "float32", "compile": False}
    steps = 3 if tiny else steps
    wanted = recognizer_steps(place, tiny, steps, **changes | plain)
    found = recognizer_steps(place, tiny, steps, **changes)
    half = changes.get("precision", "float32") != "float32"
    return verdict(
        first_step=(abs(found[0] / wanted[0] - 1), HALF if half else TF32),
        last_step=(abs(found[-1] - wanted[-1]) / wanted[0], 0.1),
        loss_against_start=(found[-1] / found[0], 0.9),
    ) | {"losses": [found[0], found[-1]], "losses_of_float32": [wanted[0], wanted[-1]]}


def drawn(first: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the masks of some samples, as ``params.yaml`` draws them for generation."""
    return masks(0, first, count, 0.1, 1.0, 0.15)


def painter(place: Path, tiny: bool) -> Vec2Face:
    """Return the small generator on the CPU, its images spread over the range of pixels."""
    net = subjects.generator(subjects.small_params(place, tiny=tiny))
    with torch.no_grad():
        spread = net(torch.from_numpy(subjects.vectors(8)), *drawn(0, 8)).std()
        net.to_image.out.weight.mul_(0.4 / spread)
    return net


def generation_like_cpu(place: Path, tiny: bool) -> Figures:
    """Compare generated pixels with the CPU's."""
    net, rows = painter(place, tiny), subjects.vectors(64)
    wanted = generate_images(net, rows, drawn).astype(int)
    net.to(processes().device)
    with exactly():
        exact = np.abs(generate_images(net, rows, drawn).astype(int) - wanted)
    default = np.abs(generate_images(net, rows, drawn).astype(int) - wanted)
    return verdict(
        levels_apart=(int(exact.max()), 1),
        levels_apart_with_tf32=(int(default.max()), 2),
        pixels_apart_with_tf32=(float((default > 0).mean()), 0.25),
    ) | {"spread_of_pixels": float(wanted.std())}


def dataset(place: Path, tiny: bool) -> Figures:
    """Generate a store as the stage does, from a generator arranged as there."""
    net = painter(place, tiny).to(processes().device)
    net = arrange_for_inference(net)
    identities = subjects.vectors(8)
    perturbation = Perturbation(0, 16, [0.3, 0.5, 0.7], [0.4, 0.4, 0.2], 0.5, 1.0)
    with TemporaryDirectory() as folder:
        store, vectors = Path(folder, "store"), Path(folder, "vectors.npy")
        about = {"work": Path(folder, "work"), "made_by": "benchmarks/gpu"}
        made = generate(net, identities, perturbation, drawn, store=store, vectors=vectors, **about)
        found = len(FaceStore(store).verify())
    return verdict(images_missing=(abs(128 - found), 0)) | made


def arrangement(place: Path, tiny: bool) -> Figures:
    """On a card the arrangement for inference leaves a generator as it is, in every precision."""
    figures = {}
    inputs = [torch.from_numpy(subjects.vectors(4)), *drawn(0, 4)]
    inputs = [x.to(processes().device) for x in inputs]
    kinds = ("float32", "bfloat16", "float16")
    for kind in kinds if processes().device.type == "cuda" else kinds[:1]:
        net = painter(place, tiny).to(processes().device)
        half = torch.autocast(
            processes().device.type, getattr(torch, kind), enabled=kind != "float32"
        )
        with torch.inference_mode(), half:
            wanted = net(*inputs).float().cpu()
            found = arrange_for_inference(net)(*inputs).float().cpu()
        figures[kind] = (apart(found, wanted), 1e-5 if kind == "float32" else HALF)
    return verdict(**figures)


def features_like_cpu(place: Path, tiny: bool) -> Figures:
    """Compare the features of a network on the card with those on the CPU."""
    images = subjects.faces(32, 112)
    net = subjects.open_teacher(place, tiny=tiny).cpu()
    wanted = embed(net, images)
    recognizer = NetworkRecognizer(net)
    with exactly():
        exact = apart(recognizer.features(images), wanted)
    default = apart(recognizer.features(images), wanted)
    return verdict(exact=(exact, EXACT), with_tf32=(default, LATER_TF32))  # a hundred layers


def file_like_onnxruntime(path: Path) -> Figures:
    """Compare an ONNX file's PyTorch form on the card with onnxruntime on the CPU."""
    images = subjects.faces(24, 112)
    runtime = OnnxRecognizer(path)
    wanted = runtime.features(images)
    net = open_network(path).to(processes().device)
    pictures = np.stack([resize(image, net.input_size) for image in images])
    x = to_tensor(pictures).to(processes().device).requires_grad_()
    with exactly():
        found = net(x)
        (gradient,) = torch.autograd.grad(found.sum(), x)
    default = net(x).detach().cpu()
    figures = verdict(
        exact=(apart(found.detach().cpu(), wanted), EXACT),
        with_tf32=(apart(default, wanted), TF32),
        gradient_not_finite=(int((~gradient.isfinite()).sum()), 0),
    )
    return figures | {"providers": str(runtime._session.get_providers())}  # noqa: SLF001


def exported(place: Path, tiny: bool) -> Figures:
    """Export a network that lies on the card, and compare the file with it."""
    net = subjects.open_teacher(place, tiny=tiny)
    images = subjects.faces(4, net.image_size)  # type: ignore[arg-type]
    with TemporaryDirectory() as folder, exactly():
        export(net, Path(folder, "net.onnx"), net.image_size)  # type: ignore[arg-type]
        found = OnnxRecognizer(Path(folder, "net.onnx")).features(images)
        return verdict(exact=(apart(found, embed(net, images)), EXACT))


def untrained(place: Path, tiny: bool) -> Figures:
    """Compare the untrained network's embeddings, made as the evaluation makes them."""
    params = subjects.small_params(place, tiny=tiny)
    images = subjects.faces(64, params.image_size)
    net = untrained_recognizer(architecture(params.fr, params.image_size), images, 0)
    wanted = embed(net, images)
    net.to(processes().device)
    with exactly():
        exact = apart(embed(net, images), wanted)
    return verdict(exact=(exact, EXACT), with_tf32=(apart(embed(net, images), wanted), TF32))


def verification(place: Path, tiny: bool) -> Figures:
    """Verify pairs on the card and on the CPU."""
    benchmark = subjects.benchmark(80, 112)
    net = subjects.open_teacher(place, tiny=tiny)
    with exactly():
        found = evaluate(partial(embed, net), benchmark)
    net.cpu()
    wanted = evaluate(partial(embed, net), benchmark)
    return verdict(
        accuracy_apart=(abs(found.accuracy - wanted.accuracy), 0.0125),
        distances_apart=(apart(found.distances, wanted.distances), EXACT),
    ) | {"accuracy": found.accuracy}


def moved(end: ranks.State, other: ranks.State, start: ranks.State) -> float:
    """Return how far two ends lie from each other, as a share of the way from the start."""
    names = [name for name, value in end.items() if value.ndim and name in start]
    far = sum(float((end[name] - other[name]).square().sum()) for name in names) ** 0.5
    way = sum(float((end[name] - start[name]).square().sum()) for name in names) ** 0.5
    return far / max(way, 1e-12)


def resumed(place: Path, tiny: bool, what: str, die: int) -> Figures:
    """Kill a training, continue it in another process, and compare with one nobody interrupted.

    Sums on a card are rounded in another order every time, so two uninterrupted trainings differ,
    too: the continued one may be three times as far, and 2 % of the way in any case.
    """
    with TemporaryDirectory() as folder:
        work = Path(folder, "work")
        killed = child(what, work, place / "killed.pt", tiny, "--die", str(die))
        step = (Checkpoint(work).load() or (0, {}))[0]
        ended = child(what, work, place / "resumed.pt", tiny)
        if ended.returncode:
            raise RuntimeError(ended.stderr[-3000:])
        found = torch.load(place / "resumed.pt", weights_only=True)
        ways = [ranks.train(what, place, Path(folder, name), tiny=tiny) for name in ("a", "b")]
    start = ranks.start(what, place, tiny=tiny)
    spread = moved(ways[0], ways[1], start)
    figures = verdict(apart=(moved(ways[0], found, start), max(3 * spread, 0.02)))
    figures["passed"] &= killed.returncode == -9 and step > 0
    return figures | {
        "two_uninterrupted_apart": spread,
        "killed_with": killed.returncode,
        "continued_from_step": step,
    }


def child(
    what: str, work: Path, result: Path, tiny: bool, *arguments: str, start: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run ``benchmarks.gpu.ranks`` in a process of its own, with a checkpoint after every step."""
    command = [sys.executable, *start, "-m", "benchmarks.gpu.ranks", what, str(work), str(result)]
    command += [*arguments, *["--tiny"] * tiny]
    environment = os.environ | {"VEC2FACE_CHECKPOINT_SECONDS": "0"}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=150, env=environment
    )


def group_of_one(place: Path, tiny: bool) -> Figures:
    """Train under torchrun in a group of one, exchanging everything as several processes do."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1")
    done = child("group", place, place / "group.pt", tiny, start=torchrun)
    if done.returncode:
        lines = done.stderr.splitlines()
        own = [line for line in lines if line.startswith("[rank")]  # the rest is torchrun's
        raise RuntimeError("\n".join(own or lines)[-3000:])
    result = torch.load(place / "group.pt", weights_only=True)
    differences = {
        name: max(
            abs(a - b) / max(abs(b), 0.1)
            for a, b in zip(result["exchanging"][name], values, strict=True)
        )
        for name, values in result["alone"].items()
    }
    figures = verdict(worst=(max(differences.values()), TF32))
    figures["passed"] &= result["gathered"] == ["all objects"]
    about = {"backend": result["backend"], "adapted_to_older_pytorch": str(result["adapted"])}
    return figures | about | {"differences": differences}


def rows(place: Path, tiny: bool) -> dict[str, Row]:
    """Return the rows of the piece ``paths``."""
    place.mkdir(parents=True, exist_ok=True)

    def row(function: Any, *arguments: Any, **named: Any) -> Row:
        return partial(function, place, tiny, *arguments, **named)

    generator = {
        "generator like the CPU's": row(generator_like_cpu),
        "generator in float32": row(generator_learns),
        "generator in bfloat16": row(generator_learns, precision="bfloat16"),
        "generator in float16": row(generator_learns, precision="float16"),
        "generator by Muon, micro-batches": row(generator_learns, optimizer="muon", micro_batch=2),
        "generator with the released slips": row(generator_learns, released=True),
        "generator trained, saved, used": row(trained_generator),
    }
    half = {"bfloat16": "bfloat16", "float16": "float16"}
    recognizer = {
        "recognizer like the CPU's": row(recognizer_like_cpu),
        "recognizer like the CPU's, share 0.3": row(recognizer_like_cpu, sample_rate=0.3),
        "recognizer in float32": row(recognizer_learns),
        **{f"recognizer in {k}": row(recognizer_learns, precision=p) for k, p in half.items()},
        "recognizer in float16, share 0.3, micro-batches": row(
            recognizer_learns, precision="float16", sample_rate=0.3, micro_batch=6
        ),
        "recognizer with MagFace": row(recognizer_learns, head="magface", margin=0.45),
        "recognizer with CosFace": row(recognizer_learns, head="cosface"),
        "recognizer vit_s in bfloat16": row(
            recognizer_learns, backbone="vit_s", widths=(), precision="bfloat16", lr=0.005
        ),
    }
    using = {
        "features like the CPU's": row(features_like_cpu),
        **{
            f"{path.name} like onnxruntime": partial(file_like_onnxruntime, path)
            for path in sorted(RENDERED.glob("*.onnx"))
        },
        "network on the card as ONNX": row(exported),
        "generation like the CPU's": row(generation_like_cpu),
        "dataset stage": row(dataset),
        "arranged for inference": row(arrangement),
        "untrained network": row(untrained),
        "verification like the CPU's": row(verification),
    }
    long = {
        "NCCL in a group of one": row(group_of_one),
        "generator killed and continued": row(resumed, "generator", 10),
        "recognizer killed and continued": row(resumed, "recognizer", 2),
        "recognizer compiled": row(recognizer_learns, compile=True),
        "recognizer compiled in bfloat16": row(
            recognizer_learns, compile=True, precision="bfloat16"
        ),
        "generator compiled": row(generator_learns, compile=True),
        "generator compiled in bfloat16": row(generator_learns, compile=True, precision="bfloat16"),
    }
    return generator | recognizer | using | long
