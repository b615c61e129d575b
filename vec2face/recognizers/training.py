"""Training of a face recognizer: backbone, margin head, SGD (paper, Table 10).

    p = Params.load("params/paper.yaml")
    recognizer = train_recognizer(images, labels, p.fr, p.image_size, p.seed, "work/fr")
    save_recognizer("models/fr.safetensors", recognizer, architecture(p.fr, p.image_size))

A killed run continues from its last checkpoint and ends in the same weights, bit by bit on a CPU
with the same number of threads: order, augmentation and dropout of every step are functions of
the seed and the step alone. Processes that ``vec2face.runtime.processes`` has joined share every
step by micro-batches, or each of these, and the head by identities; how many they are, also when a
run continues, changes nothing but the order in which numbers are added up.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vec2face.config.sections import RecognizerConfig
from vec2face.faces.source import Source
from vec2face.randomness import torch_seed
from vec2face.recognizers.batches import augmented_batches, reader
from vec2face.recognizers.step import RecognizerRun
from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.files import InputError
from vec2face.runtime.loop import Curve, Line, loop
from vec2face.runtime.processes import processes


def train_recognizer(
    images: np.ndarray | Source,
    labels: np.ndarray,
    config: RecognizerConfig,
    image_size: int,
    seed: int,
    work: Path | str,
    *,
    on_epoch: Callable[[Line], None] | None = None,
) -> nn.Module:
    """Train a recognizer, together with the other processes of ``processes.processes()``.

    Args:
        images: uint8 (N, image_size, image_size, 3), or a source of encoded faces.
        labels: (N,) integers 0 .. identities - 1.
        config: network and schedule.
        image_size: side of the network's input in pixels.
        seed: the experiment's seed; start weights, order, augmentation and dropout follow from it.
        work: folder of this run's checkpoints, the same for all processes. It belongs to these
            images, labels, parameters and this seed.
        on_epoch: called on the first process after each epoch with ``step``, ``epoch`` (from 1),
            ``loss``, ``accuracy`` (share of images nearest to their own identity's direction,
            margin applied) and ``lr``. When a run continues, its finished epochs are reported again
            first.

    Returns:
        The trained backbone in evaluation mode, on the CPU.

    Raises:
        ValueError: if images and labels do not match or there are fewer than two images.
        InputError: if there are fewer than two people, the processes cannot share the batch or do
            not see the same states, or a checkpoint cannot be written; if loss or gradient are not
            finite again and again, with the step and the images. A single such step changes nothing
            and is left out.
    """
    group = processes()
    labels = np.asarray(labels, np.int64)
    if len(np.unique(labels)) < 2:
        name = getattr(images, "name", "the training set")
        raise InputError(f"{name}: shows fewer than two people; a recognizer tells people apart")
    read = reader(images, labels, image_size)
    with torch.random.fork_rng([group.device] if group.device.type == "cuda" else []):
        torch.manual_seed(torch_seed(seed, "recognizer"))
        run = RecognizerRun(config, image_size, labels, seed, group)
        parts = [part for _, part in run.rounds]
        arguments = read, labels, run.batch, config.augment, seed, parts
        batches = partial(augmented_batches, *arguments, released=config.released)
        curve = Curve(run.per_epoch, run.line, on_epoch if group.main else None)
        steps = config.epochs * run.per_epoch
        loop("recognizer", run, batches, steps, Checkpoint(work), curve, group)
    return run.backbone.cpu().eval()
