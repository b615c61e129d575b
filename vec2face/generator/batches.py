"""The generator's training batches: a function of the seed and the step alone."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vec2face.config.params import Params
from vec2face.faces.images import to_tensor
from vec2face.generator.masks import masks
from vec2face.randomness import stream
from vec2face.recognizers.batches import Reader
from vec2face.runtime.parallel import rounds
from vec2face.runtime.prefetch import ahead
from vec2face.runtime.processes import Group


@dataclass(frozen=True)
class Piece:
    """A micro-batch of b images.

    Attributes:
        number: its number in the step, from 0.
        real: (b, 3, S, S) in [-1, 1].
        features: (b, D), not normalised.
        drop: (b, 49) bool, rows that never enter the encoder.
        mask: (b, 49) bool, rows whose content is the image feature.
    """

    number: int
    real: Tensor
    features: Tensor
    drop: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Batch:
    """One step's images.

    Attributes:
        step: from 0.
        chosen: (batch,) the images' numbers, of all processes together.
        count: of the step's micro-batches, of all processes together.
        pieces: the micro-batches of this process.
    """

    step: int
    chosen: np.ndarray
    count: int
    pieces: list[Piece]


def masked_batches(
    read: Reader, features: np.ndarray, params: Params, group: Group, steps: range
) -> Iterator[Batch]:
    """Yield this process's part of each step.

    Args:
        read: gives the images of some numbers.
        features: (N, D) of all images.
        params: ``training`` and ``seed``.
        group: this process among the others.
        steps: global step numbers.

    Raises:
        InputError: the processes cannot share a batch evenly.
    """
    batch = params.training.batch
    mine = rounds(batch, params.training.micro_batch, group)
    count = len(mine) * group.size

    def prepare(step: int) -> Batch:
        chosen = batch_indices(params.seed, step, batch, len(features))
        pieces = [
            Piece(
                number,
                to_tensor(read(chosen[part])),
                torch.from_numpy(features[chosen[part]]),
                *draw_masks(params, step, part),
            )
            for number, part in mine
        ]
        return Batch(step, chosen, count, pieces)

    return ahead(prepare, steps)


def batch_indices(seed: int, step: int, batch: int, count: int) -> np.ndarray:
    """Return the images of a step: an endless row of shuffled epochs, cut into batches."""
    place = np.arange(step * batch, (step + 1) * batch)
    chosen = np.empty(batch, np.int64)
    for epoch in np.unique(place // count):
        here = place // count == epoch
        chosen[here] = _order(seed, int(epoch), count)[place[here] % count]
    return chosen


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return stream(seed, "generator order", epoch).permutation(count)


def draw_masks(params: Params, step: int, part: slice) -> tuple[Tensor, Tensor]:
    """Return (drop, mask), each (b, 49) bool, of a ``part`` of a step's batch."""
    batch, m = params.training.batch, params.training.masks
    return masks(
        params.seed,
        step * batch + part.start,
        part.stop - part.start,
        m.minimum,
        m.maximum,
        m.mean,
        purpose="training mask",
        ratio_shared_by=batch if params.training.released else 1,
    )
