"""Rows of ``paths`` that train: beside the CPU, in every precision, killed, in a group."""

import math
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from benchmarks.gpu import ranks, subjects
from benchmarks.gpu.comparing import EXACT, HALF, LATER, LATER_TF32, TF32, exactly, verdict
from benchmarks.gpu.runner import Figures
from benchmarks.gpu.subjects import CPU, drawn
from vec2face.dataset.generate import generate_images
from vec2face.faces.images import to_tensor
from vec2face.generator.network import Vec2Face
from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.processes import Group, processes

PEOPLE = 12


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
