"""The generator's training batches: a function of the seed and the step alone."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vec2face.config.params import Params
from vec2face.faces.images import to_tensor
from vec2face.generator.masks import ROWS, masks
from vec2face.randomness import stream
from vec2face.recognizers.batches import Reader
from vec2face.runtime.parallel import rounds
from vec2face.runtime.prefetch import ahead
from vec2face.runtime.processes import Group

DEVIATIONS = 1024  # images whose deviations make up a vector


@dataclass(frozen=True)
class Piece:
    """A micro-batch of b images.

    Attributes:
        number: its number in the step, from 0.
        real: (b, 3, S, S) in [-1, 1].
        features: (b, D), not normalised.
        drop: (b, 49) bool, rows that never enter the encoder.
        mask: (b, 49) bool, rows whose content is the image feature.
        sampled: what vectors without a picture, (s, D), add to features, drop and mask; s may be 0.
    """

    number: int
    real: Tensor
    features: Tensor
    drop: Tensor
    mask: Tensor
    sampled: tuple[Tensor, Tensor, Tensor]


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
    middle = features.mean(0, dtype=np.float64)

    def prepare(step: int) -> Batch:
        chosen = batch_indices(params.seed, step, batch, len(features))
        pieces = [
            Piece(
                number,
                to_tensor(read(chosen[part])),
                torch.from_numpy(features[chosen[part]]),
                *draw_masks(params, step, part),
                sampled(params, features, middle, step, part),
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


def sampled(
    params: Params, features: np.ndarray, middle: np.ndarray, step: int, part: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw vectors that have no picture beside a ``part`` of a step's batch, and their masks.

    A vector is the features' mean plus a sum of some images' deviations from it, times independent
    normal numbers over the root of their count: as a normal distribution with the mean and the
    covariance of the features, without its estimate.

    Args:
        params: ``training`` and ``seed``.
        features: (N, D) of all images.
        middle: (D,) their mean.
        step: from 0.
        part: of the step's batch.

    Returns:
        Vectors (s, D) float32, drop and mask (s, 49).
    """
    w = params.training.losses
    share = w.sampled_share if w.sampled else 0.0
    # Image i of the batch has one beside it where i x share passes a whole number.
    beside = [i for i in range(part.start, part.stop) if int((i + 1) * share) > int(i * share)]
    if not beside:
        none = torch.zeros(2, 0, ROWS, dtype=torch.bool)
        return torch.zeros(0, features.shape[1]), none[0], none[1]
    found = np.empty((len(beside), features.shape[1]), np.float32)
    for vector, number in zip(found, beside, strict=True):
        draw = stream(params.seed, "sampled vector", step, number)
        around = features[draw.integers(len(features), size=DEVIATIONS)] - middle
        vector[:] = middle + draw.standard_normal(DEVIATIONS) @ around / DEVIATIONS**0.5
    drop, mask = draw_masks(params, step, part, "sampled mask")
    chosen = np.array(beside) - part.start
    return torch.from_numpy(found), drop[chosen], mask[chosen]


def draw_masks(
    params: Params, step: int, part: slice, purpose: str = "training mask"
) -> tuple[Tensor, Tensor]:
    """Return (drop, mask), each (b, 49) bool, of a ``part`` of a step's batch."""
    batch, m = params.training.batch, params.training.masks
    return masks(
        params.seed,
        step * batch + part.start,
        part.stop - part.start,
        m.minimum,
        m.maximum,
        m.mean,
        purpose=purpose,
        ratio_shared_by=batch if params.training.released else 1,
    )
