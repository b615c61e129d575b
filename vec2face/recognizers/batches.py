"""Batches of training images: order and augmentation are functions of the seed and the step."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vec2face.config.sections import Augmentation
from vec2face.faces.images import to_tensor
from vec2face.faces.source import Source, load_images
from vec2face.randomness import stream
from vec2face.recognizers.augment import augment
from vec2face.runtime.prefetch import ahead

IN_MEMORY = 4 * 2**30
"""Decoded sources up to this many bytes are read once; larger ones batch by batch."""

Reader = Callable[[np.ndarray], np.ndarray]
"""From image numbers (B,) to uint8 (B, size, size, 3)."""


def reader(images: np.ndarray | Source, labels: np.ndarray, size: int) -> Reader:
    """Return a function from image numbers (B,) to uint8 (B, size, size, 3).

    Args:
        images: uint8 (N, size, size, 3), or a source of encoded images.
        labels: (N,), >= 0.
        size: side in pixels.

    Raises:
        ValueError: if images and labels do not match, or images have another size or type.
    """
    if labels.ndim != 1 or len(labels) != len(images) or len(labels) < 2:
        raise ValueError(f"{len(images)} images and labels {labels.shape}: two or more of each")
    if labels.min() < 0:
        raise ValueError(f"labels are >= 0, not {labels.min()}")
    if not isinstance(images, np.ndarray):
        if len(images) * size * size * 3 > IN_MEMORY:
            source = images
            return lambda indices: load_images(source, size, indices)
        images = load_images(images, size)
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3):
        raise ValueError(
            f"images are uint8 (N, {size}, {size}, 3), not {images.dtype} {images.shape}"
        )
    return lambda indices: images[indices]


@dataclass(frozen=True)
class Batch:
    """One step's images.

    Attributes:
        step: from 0.
        chosen: (batch,) the images' numbers, of all processes together.
        labels: (batch,) int64, their identities.
        pieces: the images of this process's micro-batches, each (b, 3, S, S) in [-1, 1].
    """

    step: int
    chosen: np.ndarray
    labels: Tensor
    pieces: list[Tensor]


def augmented_batches(
    read: Reader,
    labels: np.ndarray,
    batch: int,
    settings: Augmentation,
    seed: int,
    parts: Sequence[slice],
    steps: range,
    *,
    released: bool = False,
) -> Iterator[Batch]:
    """Yield this process's part of each step.

    Args:
        read: gives the images of some numbers.
        labels: (N,) int64, of the whole training set.
        batch: images in a step; the last N mod batch of an epoch's order are left out.
        settings: the augmentation.
        seed: the experiment's seed.
        parts: of the batch, whose images are read: this process's micro-batches.
        steps: global step numbers; step s lies in epoch s // (N // batch).
        released: see ``augment``.
    """
    per_epoch = len(labels) // batch

    @functools.lru_cache(maxsize=1)
    def order(epoch: int) -> np.ndarray:
        return stream(seed, "order", epoch).permutation(len(labels))

    def prepare(step: int) -> Batch:
        epoch, place = divmod(step, per_epoch)
        chosen = order(epoch)[place * batch : (place + 1) * batch]
        own = [chosen[part] for part in parts]
        pieces = [
            to_tensor(augment(read(i), i, epoch, seed, settings, released=released)) for i in own
        ]
        return Batch(step, chosen, torch.from_numpy(labels[chosen]), pieces)

    return ahead(prepare, steps)
