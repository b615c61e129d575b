"""The subset that trains the generator: n identities with k images each (the paper's rule)."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from vec2face.faces.images import decode
from vec2face.faces.source import Source
from vec2face.faces.store import FaceStoreWriter
from vec2face.files import InputError
from vec2face.randomness import stream


def choose(
    labels: np.ndarray,
    *,
    identities: int,
    images_per_identity: int,
    seed: int,
    minimum_images: int | None = None,
    exclude: Collection[int] = (),
    where: str = "the source",
) -> np.ndarray:
    """Choose rows: ``identities`` at random, and of each up to ``images_per_identity`` at random.

    The choice is a pure function of (labels, seed and the numbers given). It is nested: more
    identities or more images add rows to those of fewer.

    Args:
        labels: (N,) the identity of every row; any integers.
        identities: how many to choose.
        images_per_identity: at most so many rows of each. The paper takes 20 of each.
        seed: the experiment's seed.
        minimum_images: identities with fewer rows are passed over; by default
            ``images_per_identity``, so that all identities get equally many.
        exclude: labels never chosen.
        where: names the source in an error.

    Returns:
        The chosen rows, rising, int64.

    Raises:
        InputError: if too few identities qualify; it says how many do.
    """
    minimum = images_per_identity if minimum_images is None else minimum_images
    people, counts = np.unique(labels, return_counts=True)
    excluded = np.isin(people, np.fromiter(exclude, np.int64))
    able = np.flatnonzero((counts >= minimum) & ~excluded)
    if len(able) < identities:
        apart = f" and {excluded.sum()} are already taken" if excluded.any() else ""
        raise InputError(
            f"{where}: {identities} identities asked, but only {len(able)} have at least {minimum} "
            f"images (it holds {len(people)}{apart}); lower subset.identities, subset.held_out or "
            "subset.minimum_images"
        )
    chosen = stream(seed, "subset identities").permutation(able)[:identities]
    by_person = np.argsort(labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)])
    rows = [np.empty(0, np.int64)]
    for person in chosen:
        own = by_person[starts[person] : starts[person + 1]]
        order = stream(seed, "subset images", int(person)).permutation(len(own))
        rows.append(own[order[:images_per_identity]])
    return np.sort(np.concatenate(rows))


def whole_people(labels: np.ndarray, images: int, *, seed: int) -> np.ndarray:
    """Choose people at random, with all their rows, until there are so many rows; the last is cut.

    Args:
        labels: (N,) the identity of every row; any integers.
        images: how many rows; all of them if there are fewer.
        seed: the experiment's seed.

    Returns:
        The chosen rows, rising, int64, min(images, N) of them.
    """
    people, person = np.unique(labels, return_inverse=True)
    turn = stream(seed, "subset identities").permutation(len(people))
    return np.sort(np.argsort(turn[person], kind="stable")[:images])


def copy_rows(
    source: Source, rows: np.ndarray, path: Path | str, *, seed: int, made_by: str
) -> None:
    """Copy rows of a source into a FaceStore: images byte by byte, labels renumbered 0..n-1.

    New labels follow the order of the old ones.

    Raises:
        InputError: if the first image cannot be decoded (its side goes into the manifest), naming
            its record.
    """
    labels = np.unique(source.labels[rows], return_inverse=True)[1]
    size = 0
    if len(rows):
        first = int(rows[0])
        size = decode(source.encoded(first), source.where(first)).shape[0]
    with FaceStoreWriter(path, image_size=size, seed=seed, made_by=made_by) as writer:
        for row, label in zip(rows, labels, strict=True):
            writer.append(source.encoded(int(row)), int(label))
