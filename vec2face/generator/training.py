"""Training of the generator: faces and their features in, a generator out (paper, section 3.1).

A killed run continues from its last checkpoint and ends in the same weights, bit by bit on a CPU
with the same number of threads and processes: order, masks and dropout of a micro-batch follow from
the seed and its number alone. Another number of processes may continue it; only rounding differs.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vec2face.config import Params
from vec2face.faces.source import Source
from vec2face.generator.batches import masked_batches
from vec2face.generator.network import Vec2Face
from vec2face.generator.step import GeneratorRun
from vec2face.randomness import torch_seed
from vec2face.recognizers.batches import reader
from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import Group, processes
from vec2face.runtime.progress import Progress

VERSION = 3  # part of the checkpoint's fingerprint: raise it when a step, or the curve, is another


def train_generator(
    images: np.ndarray | Source,
    features: np.ndarray,
    params: Params,
    work: Path | str,
    *,
    on_log: Callable[[dict[str, float]], None] | None = None,
    log_every: int = 20,
) -> Vec2Face:
    """Train a generator, together with the other processes of ``processes.processes()``.

    Args:
        images: uint8 (N, S, S, 3), S = ``params.image_size``, or a source of encoded images.
        features: float32 (N, D), the recognizer's features of these images, not normalised.
        params: ``generator``, ``training``, ``paths.recognizer``, ``seed``.
        work: folder for this run's checkpoints, one for each fingerprint.
        on_log: called on rank 0 every ``log_every`` steps with ``step`` and the mean of each loss
            over the steps since then that had it; when a run continues, its earlier entries are
            reported again first.
        log_every: steps.

    Returns:
        The generator in evaluation mode (the averaged weights if ``training.ema`` > 0), on the CPU.

    Raises:
        ValueError: images and features do not match, or a feature is not finite.
        InputError: the processes cannot share a batch evenly, or do not share ``work``.
        FloatingPointError: losses or gradients were not finite repeatedly (``parallel.Patience``).
        OSError: a checkpoint cannot be written; the earlier ones stay.
    """
    hyper, group = params.training, processes()
    _check(len(images), features, hyper.batch)
    read = reader(images, np.zeros(len(images), np.int64), params.image_size)
    with torch.random.fork_rng([group.device] if group.device.type == "cuda" else []):
        torch.manual_seed(torch_seed(params.seed, "generator"))
        run, checkpoint = GeneratorRun(params, features, group), Checkpoint(work)
        curve = Curve(on_log if group.main else None)
        first = _continue(checkpoint, run, curve, group)
        bar = Progress(what="generator", total=hyper.steps, initial=first, unit="step")
        for batch in masked_batches(read, features, params, group, range(first, hyper.steps)):
            curve.add(run.step(batch))
            done = batch.step + 1
            bar.update()
            if done % log_every == 0 or done == hyper.steps:
                bar.set_postfix(mse=curve.close(done).get("mse"))
            if group.main and (done % hyper.checkpoint_every == 0 or done == hyper.steps):
                checkpoint.save(done, {"run": run.state(), "curve": curve.state()})
        bar.close()
    return run.result()


def _check(images: int, features: np.ndarray, batch: int) -> None:
    if images != len(features) or images < batch:
        raise ValueError(
            f"{images} images, {len(features)} features: equally many, at least one batch ({batch})"
        )
    for first in range(0, len(features), 65536):
        bad = np.flatnonzero(~np.isfinite(features[first : first + 65536]).all(1))
        if len(bad):
            raise ValueError(f"the feature of image {first + bad[0]} is not finite; extract again")


def _continue(checkpoint: Checkpoint, run: GeneratorRun, curve: "Curve", group: Group) -> int:
    """Take over the last state, whatever number of processes wrote it; return the next step."""
    first, state = checkpoint.load() or (0, {})
    found = group.gather(first)
    if len(set(found)) > 1:
        raise InputError(
            f"{checkpoint.folder}: the processes found checkpoints of steps {found}: it has to lie "
            "on a file system that all machines share"
        )
    if state:
        run.load(state["run"])
        curve.load(state["curve"])
    return first


class Curve:
    """Means of the losses over several steps, each over those in which it was switched on.

    A continued run reports the earlier ones again.
    """

    def __init__(self, report: Callable[[dict[str, float]], None] | None) -> None:
        self._report = report or (lambda _: None)
        self._entries: list[dict[str, float]] = []
        self._sums: dict[str, list[float]] = {}  # total and number of steps

    def add(self, losses: dict[str, float] | None) -> None:
        """Take in a step's losses; None for a step that was left out."""
        for name, value in (losses or {}).items():
            total, steps = self._sums.get(name, (0.0, 0))
            self._sums[name] = [total + value, steps + 1]

    def close(self, done: int) -> dict[str, float]:
        """Report and return the means since the last call, after ``done`` steps."""
        means = {name: total / steps for name, (total, steps) in self._sums.items()}
        self._entries.append({"step": done} | means)
        self._report(self._entries[-1])
        self._sums = {}
        return means

    def state(self) -> dict[str, Any]:
        """Return what a continued run needs."""
        return {"entries": self._entries, "sums": self._sums}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned, and report it."""
        self._entries, self._sums = state["entries"], state["sums"]
        for entry in self._entries:
            self._report(entry)
