"""Training of a face recognizer: backbone, margin head, SGD (the paper's Table 10).

    p = Params.load("params/paper.yaml")
    recognizer = train_recognizer(images, labels, p.fr, p.image_size, p.seed, "work/fr")
    save_recognizer("models/fr.safetensors", recognizer, architecture(p.fr, p.image_size))

A killed run continues from its last checkpoint and ends in the same weights, bit by bit on a CPU
with the same number of threads: order, augmentation and dropout of every step are functions of
the seed and the step alone. Processes that ``vec2face.runtime.processes`` has joined share every
step by micro-batches and the head by identities; how many they are, also when a run continues,
changes nothing but the order in which numbers are added up.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vec2face.config import RecognizerConfig
from vec2face.faces.source import Source
from vec2face.randomness import torch_seed
from vec2face.recognizers.batches import augmented_batches, reader
from vec2face.recognizers.step import RecognizerRun, rate
from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.files import InputError, fingerprint
from vec2face.runtime.parallel import Patience, agree
from vec2face.runtime.processes import Group, processes
from vec2face.runtime.progress import Progress

log = logging.getLogger(__name__)

VERSION = 2
"""Part of a work folder's fingerprint: raise it when a step computes something else."""


def train_recognizer(
    images: np.ndarray | Source,
    labels: np.ndarray,
    config: RecognizerConfig,
    image_size: int,
    seed: int,
    work: Path | str,
    *,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    save_seconds: float = 120.0,
) -> nn.Module:
    """Train a recognizer.

    Args:
        images: uint8 (N, image_size, image_size, 3), or a source of encoded faces.
        labels: (N,) integers 0 .. identities - 1.
        config: network and schedule.
        image_size: side of the network's input in pixels.
        seed: the experiment's seed; start weights, order, augmentation and dropout follow from it.
        work: folder of this run's checkpoints, the same for all processes. States of another
            config, seed or labels there are not continued.
        on_epoch: called on the first process after each epoch with ``step``, ``epoch`` (from 1),
            ``loss``, ``accuracy`` (share of images nearest to their own identity's direction,
            margin applied) and ``lr``. When a run continues, its finished epochs are reported again
            first.
        save_seconds: a checkpoint is written at each epoch's end, and within an epoch when this
            many seconds have passed since the last.

    Returns:
        The trained backbone in evaluation mode, on the CPU.

    Raises:
        ValueError: if images and labels do not match or there are fewer than two images.
        InputError: if there are fewer than two people, the processes cannot share the batch, or do
            not see the same states.
        FloatingPointError: if loss or gradient are not finite again and again, with the step and
            the images. A single such step changes nothing and is left out.
    """
    group = processes()
    labels = np.asarray(labels, np.int64)
    if len(np.unique(labels)) < 2:
        name = getattr(images, "name", "the training set")
        raise InputError(f"{name}: shows fewer than two people; a recognizer tells people apart")
    read = reader(images, labels, image_size)
    made_of = fingerprint(
        config.model_dump(), image_size, seed, hashlib.sha256(labels.tobytes()).hexdigest()
    )
    batch = min(config.batch, len(labels))
    per_epoch = len(labels) // batch
    with torch.random.fork_rng([group.device] if group.device.type == "cuda" else []):
        torch.manual_seed(torch_seed(seed, "recognizer"))
        run = RecognizerRun(config, image_size, int(labels.max()) + 1, batch, seed, group)
        checkpoint, patience = Checkpoint(work), Patience()
        step, state = _last_state(checkpoint, made_of, group)
        if state:
            run.load(state["run"])
            patience.load_state_dict(state["patience"])
        history = state.get("history", [])
        totals = state.get("totals", [0.0, 0.0, 0])
        report = on_epoch if on_epoch and group.main else lambda entry: None
        for entry in history:
            report(entry)

        last_saved = time.monotonic()
        steps = range(step, config.epochs * per_epoch)
        parts = [part for _, part in run.rounds]
        bar = Progress(what="recognizer", total=steps.stop, initial=step, unit="step")
        for indices, pictures in augmented_batches(
            read, len(labels), batch, steps, seed, config.augment, parts
        ):
            lr = rate(step, per_epoch, config)
            found = run.step(step, pictures, torch.from_numpy(labels[indices]), lr)
            if found.taken:
                totals = [totals[0] + found.loss, totals[1] + found.right, totals[2] + 1]
            else:
                patience.skip(step, indices, {"loss": found.loss, "gradient norm": found.norm})
            step += 1
            bar.update()
            epoch_ends = step % per_epoch == 0
            if epoch_ends:
                history.append(_entry(step, per_epoch, batch, totals, lr))
                totals = [0.0, 0.0, 0]
                bar.set_postfix(loss=history[-1]["loss"])
            late = group.main and time.monotonic() - last_saved > save_seconds
            if epoch_ends or not agree(group, not late):
                state = {"run": run.state(), "history": history, "totals": totals}
                state |= {"patience": patience.state_dict(), "made_of": made_of}
                if group.main:
                    checkpoint.save(step, state)
                last_saved = time.monotonic()
            if epoch_ends:
                report(history[-1])
        bar.close()
    return run.backbone.cpu().eval()


def _last_state(checkpoint: Checkpoint, made_of: str, group: Group) -> tuple[int, dict[str, Any]]:
    """Return the step and state to go on from; (0, {}) for a fresh start."""
    step, state = checkpoint.load() or (0, {})
    if state and state["made_of"] != made_of:
        log.warning(
            "%s: states of another config, seed or labels; starting afresh", checkpoint.folder
        )
        step, state = 0, {}
    if len(set(group.gather(step))) > 1:
        raise InputError(
            f"{checkpoint.folder}: the processes see different states there; it must lie on a file "
            "system that all of them share"
        )
    return step, state


def _entry(step: int, per_epoch: int, batch: int, totals: list[Any], lr: float) -> dict[str, Any]:
    """Return an epoch's line of the curve, of the steps that were taken."""
    loss, right, taken = totals
    return {
        "step": step,
        "epoch": step // per_epoch,
        "loss": loss / taken if taken else math.nan,
        "accuracy": right / (taken * batch) if taken else math.nan,
        "lr": lr,
    }
