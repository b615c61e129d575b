"""Which faces a reader gets to see: rows of images for the contact sheets.

People, and images of one person, are taken at even steps through a set, never picked by looks.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import nn

from vec2face.dataset.generate import Masks, generate_images
from vec2face.dataset.perturbation import Perturbation
from vec2face.faces.source import Source, load_images

Rows = list[list[np.ndarray]]
"""Rows of uint8 (S, S, 3) images."""


def evenly(count: int, wanted: int) -> np.ndarray:
    """Choose ``wanted`` of ``count`` positions at even steps, or all if there are fewer."""
    return np.linspace(0, count - 1, min(wanted, count)).astype(np.int64)


def rows_of_people(labels: np.ndarray, people: int, images: int) -> list[np.ndarray]:
    """Choose people at even steps, and images of each at even steps.

    Args:
        labels: (N,) identity of every image.
        people: how many people, or all if there are fewer.
        images: how many images of each, or all it has.

    Returns:
        Row indices, one array per person.
    """
    rows = (np.flatnonzero(labels == i) for i in shown(labels, people))
    return [own[evenly(len(own), images)] for own in rows]


def shown(labels: np.ndarray, people: int = 6) -> np.ndarray:
    """Return the identities that ``people`` shows of a set with these labels, in its order."""
    identities = np.unique(labels)
    return identities[evenly(len(identities), people)]


def people(source: Source, size: int, *, people: int = 6, images: int = 9) -> Rows:
    """One person a row, those of ``shown``."""
    return [
        list(load_images(source, size, indices))
        for indices in rows_of_people(source.labels, people, images)
    ]


def reconstructions(
    generator: nn.Module,
    source: Source,
    features: np.ndarray,
    masks: Masks,
    *,
    size: int,
    columns: int = 9,
) -> Rows:
    """Originals above the images the generator makes from their features, two rows of each.

    Args:
        generator: see :func:`vec2face.dataset.generate.generate_images`.
        source: the originals, of people the generator was not trained on.
        features: (N, D) float32, of the originals, row by row.
        masks: see :data:`vec2face.dataset.generate.Masks`.
        size: side of the generator's images; the originals are shown at the same.
        columns: images in a row, one per person.

    Raises:
        ValueError: features and images disagree in number.
    """
    if len(features) != len(source):
        raise ValueError(f"{len(features)} features for {len(source)} images")
    indices = np.concatenate(rows_of_people(source.labels, 2 * columns, 1))
    originals = load_images(source, size, indices)
    copies = generate_images(generator, np.asarray(features[indices], np.float32), masks)
    rows: Rows = []
    for start in range(0, len(indices), columns):
        rows += [list(originals[start : start + columns]), list(copies[start : start + columns])]
    return rows


def rising_sigma(
    generator: nn.Module,
    identities: np.ndarray,
    masks: Masks,
    *,
    perturbation: Perturbation,
    sigma: Sequence[float],
    people: int = 6,
) -> Rows:
    """One sampled identity a row, perturbed more and more from left to right (paper Fig. 1).

    Here the least similarity to the identity is not enforced: the sheet shows what sigma does, also
    for a run that turns its vectors instead.

    Args:
        generator: see :func:`vec2face.dataset.generate.generate_images`.
        identities: (n, D) float32 identity vectors.
        masks: see :data:`vec2face.dataset.generate.Masks`.
        perturbation: the run's, whose seed, reading of sigma and lengths are taken.
        sigma: level of every column; 0 is the identity vector itself.
        people: rows.
    """
    count = len(sigma)
    chosen = evenly(len(identities), people)
    rising = replace(
        perturbation,
        images_per_identity=count,
        sigma=sigma,
        share=[1 / count] * count,
        min_similarity=-1.0,
        mixture="identity",
        max_angle=None,
    )
    vectors, _ = rising.vectors(identities[chosen], range(count * len(chosen)))
    images = generate_images(generator, vectors, masks)
    return [list(images[i * count : (i + 1) * count]) for i in range(len(chosen))]
