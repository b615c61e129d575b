"""The identity filter at the paper's largest size and beyond; where the time of a step goes."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import identities
from benchmarks.gpu import subjects
from benchmarks.gpu.runner import Figures, Row
from benchmarks.gpu.timing import synchronise
from vec2face.faces.images import to_tensor
from vec2face.runtime.processes import processes

TOP = 15


def filter_rows(tiny: bool) -> dict[str, Row]:
    """Return the rows of the piece ``filter``: drawing, filter and certificate, on the device."""
    few, *many = (1000, 3000) if tiny else (300_000, 3_000_000, 10_000_000)
    identities.stage(1000)  # compiles the kernel
    return {f"identities stage, {few}": partial(identities.stage, few)} | {
        f"identities stage, {n}, nearly none refused": partial(identities.stage, n, 0.999)
        for n in many
    }


def generator_profile(place: Path, tiny: bool, **training: Any) -> Figures:
    """Profile a step of the generator at the paper's size."""
    micro = 4 if tiny else 128
    values = {"batch": micro, "precision": "bfloat16"} | training
    params = subjects.large_params(place, tiny=tiny, training=values)
    features = subjects.vectors(2 * micro)
    images = subjects.faces(2 * micro, params.image_size)
    run = subjects.generator_run(params, features)
    batch = subjects.on_device(next(subjects.generator_batches(params, images, features, 1)))
    return profiled(lambda: run.step(batch))


def recognizer_profile(place: Path, tiny: bool, **changes: Any) -> Figures:
    """Profile a step of SE-IR50, 10 000 identities."""
    count, classes = (4, 100) if tiny else (256, 10_000)
    params = subjects.large_params(place, tiny=tiny)
    values = {"batch": count, "precision": "bfloat16", "lr": 1e-4} | changes
    config = subjects.recognizer_config(params, **values)
    run = subjects.recognizer_run(config, params.image_size, classes)
    x = to_tensor(subjects.faces(count, params.image_size)).to(processes().device)
    labels = torch.arange(count) % classes
    batch = subjects.recognizer_batch(run, 0, x, labels)
    return profiled(lambda: run.step(batch))


def profiled(step: Any, steps: int = 3) -> Figures:
    """Return what takes the time of a step: operators, and the device's kernels."""
    for _ in range(3):
        step()
    synchronise()
    gpu = torch.cuda.is_available()
    kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * gpu]
    with profile(activities=kinds) as recorded:
        began = time.perf_counter()
        for _ in range(steps):
            step()
        synchronise()
        wall = time.perf_counter() - began
    # An optimiser's range covers what is counted on its own.
    events = [e for e in recorded.key_averages() if not e.key.startswith("Optimizer.")]
    on_device = [e for e in events if "CUDA" in str(e.device_type)]
    operators = [e for e in events if "CUDA" not in str(e.device_type)]
    figures: Figures = {"milliseconds": 1e3 * wall / steps}
    text = []
    for name, chosen in (("operators", operators), ("kernels", on_device)):
        table = [
            {
                "name": e.key,
                "milliseconds": (e.self_device_time_total if gpu else e.self_cpu_time_total)
                / steps
                / 1e3,
                "calls": e.count / steps,
            }
            for e in chosen
        ]
        table = sorted(table, key=lambda entry: -entry["milliseconds"])
        busy = sum(entry["milliseconds"] for entry in table)
        figures[f"{name}_milliseconds"] = busy
        figures[f"{name}_top"] = table[:TOP]
        text += [f"{name}: {busy:.2f} of {1e3 * wall / steps:.2f} ms a step"]
        text += [
            f"{e['milliseconds']:9.3f} ms {e['milliseconds'] / max(busy, 1e-9):6.1%} "
            f"{e['calls']:7.1f} x  {e['name'][:110]}"
            for e in table[:TOP]
        ]
    return figures | {"text": "\n".join(text)}


def profile_rows(place: Path, tiny: bool) -> dict[str, Row]:
    """Return the rows of the piece ``profile``."""
    place.mkdir(parents=True, exist_ok=True)
    found: dict[str, Row] = {
        "generator step, bfloat16, 128": partial(generator_profile, place, tiny),
        "SE-IR50 step, bfloat16, 256, 10k": partial(recognizer_profile, place, tiny),
    }
    return found
