"""Batches of training images: order and augmentation are functions of the seed and the step."""

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from torch import Tensor

from vec2face.config import Augmentation
from vec2face.faces.images import to_tensor
from vec2face.faces.source import Source, load_images
from vec2face.randomness import stream
from vec2face.recognizers.augment import augment

IN_MEMORY = 4 * 2**30
"""Decoded sources up to this many bytes are read once; larger ones batch by batch."""

T = TypeVar("T")
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


def augmented_batches(
    read: Reader,
    count: int,
    batch: int,
    steps: range,
    seed: int,
    settings: Augmentation,
    parts: Sequence[slice] = (slice(None),),
) -> Iterator[tuple[np.ndarray, list[Tensor]]]:
    """Yield image numbers (B,) of each step and, of some parts of it, augmented images.

    The images of a part are (part, 3, S, S), in [-1, 1].

    Args:
        read: gives the images of some numbers.
        count: images in the training set.
        batch: images in a step; the last count mod batch of an epoch's order are left out.
        steps: global step numbers; step s lies in epoch s // (count // batch).
        seed: the experiment's seed.
        settings: the augmentation.
        parts: of the batch, whose images are read: this process's micro-batches.
    """
    per_epoch = count // batch

    @functools.lru_cache(maxsize=1)
    def order(epoch: int) -> np.ndarray:
        return stream(seed, "order", epoch).permutation(count)

    def prepare(step: int) -> tuple[np.ndarray, list[Tensor]]:
        epoch, place = divmod(step, per_epoch)
        indices = order(epoch)[place * batch : (place + 1) * batch]
        own = [indices[part] for part in parts]
        return indices, [to_tensor(augment(read(i), i, epoch, seed, settings)) for i in own]

    return ahead(prepare, steps)


def ahead(prepare: Callable[[int], T], steps: range) -> Iterator[T]:
    """Yield ``prepare(step)`` of each step; a thread prepares the next during the current one."""
    with ThreadPoolExecutor(1) as pool:
        following = [pool.submit(prepare, step) for step in steps[:1]]
        for step in steps:
            current = following.pop().result()
            following = [pool.submit(prepare, s) for s in (step + 1,) if s in steps]
            yield current
