"""Training of the generator: faces and their features in, a generator out (paper, section 3.1).

A killed run continues from its last checkpoint and ends in the same weights, bit by bit on a CPU
with the same number of threads and processes: order, masks and dropout of a micro-batch follow from
the seed and its number alone. Another number of processes may continue it; only rounding differs.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from vec2face.config.params import Params
from vec2face.faces.source import Source
from vec2face.generator.batches import masked_batches
from vec2face.generator.network import Vec2Face
from vec2face.generator.step import GeneratorRun
from vec2face.randomness import torch_seed
from vec2face.recognizers.batches import reader
from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.loop import Curve, Line, loop, means
from vec2face.runtime.processes import processes


def train_generator(
    images: np.ndarray | Source,
    features: np.ndarray,
    params: Params,
    work: Path | str,
    *,
    on_log: Callable[[Line], None] | None = None,
    log_every: int = 20,
) -> Vec2Face:
    """Train a generator, together with the other processes of ``processes.processes()``.

    Args:
        images: uint8 (N, S, S, 3), S = ``params.image_size``, or a source of encoded images.
        features: float32 (N, D), the recognizer's features of these images, not normalised.
        params: ``generator``, ``training``, ``paths.recognizer``, ``seed``.
        work: folder of this run's checkpoints. It belongs to these images, features and parameters.
        on_log: called on rank 0 every ``log_every`` steps with ``step`` and the mean of each loss
            over the steps since then that had it; when a run continues, its earlier entries are
            reported again first.
        log_every: steps.

    Returns:
        The generator in evaluation mode (the averaged weights if ``training.ema`` > 0), on the CPU.

    Raises:
        ValueError: images and features do not match, or a feature is not finite.
        InputError: the processes cannot share a batch evenly, or do not share ``work``; a
            checkpoint cannot be written; losses or gradients were not finite repeatedly
            (``parallel.Patience``).
    """
    steps, group = params.training.steps, processes()
    _check(len(images), features, params.training.batch)
    read = reader(images, np.zeros(len(images), np.int64), params.image_size)
    curve = Curve(log_every, means, on_log if group.main else None)
    with torch.random.fork_rng([group.device] if group.device.type == "cuda" else []):
        torch.manual_seed(torch_seed(params.seed, "generator"))
        run = GeneratorRun(params, features, group)
        batches = partial(masked_batches, read, features, params, group)
        loop("generator", run, batches, steps, Checkpoint(work), curve, group)
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
