"""The subset that trains the generator: n identities, by the paper's rule or the released one."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from vec2face.faces.images import check_square, decode
from vec2face.faces.source import Source
from vec2face.faces.store import is_whole
from vec2face.faces.store_writer import IMAGES_PER_SHARD, FaceStoreWriter, join_stores
from vec2face.randomness import stream
from vec2face.runtime.blocks import cut, share, unfinished
from vec2face.runtime.files import InputError, sweep
from vec2face.runtime.processes import processes


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


def choose_released(
    labels: np.ndarray, *, identities: int, seed: int, where: str = "the source"
) -> np.ndarray:
    """Choose rows as the released code does: n identities at random, with all their images.

    Rows must stand in the order of their sorted paths, as they do in a folder, an archive, a list
    and the authors' LMDB; the identities are numbered as they first appear there, and numpy's old
    global generator draws among the numbers. With seed 0, 50 000 of WebFace4M give 1 022 444 rows.

    Args:
        labels: (N,) the identity of every row; any integers.
        identities: how many to choose.
        seed: the seed; the released code has 0.
        where: names the source in an error.

    Returns:
        The chosen rows, rising, int64.

    Raises:
        InputError: if there are fewer identities.
    """
    people, first, person = np.unique(labels, return_index=True, return_inverse=True)
    if len(people) < identities:
        raise InputError(
            f"{where}: {identities} identities asked, but it holds {len(people)}; lower "
            "subset.identities"
        )
    appearance = np.argsort(first)
    legacy = np.random.RandomState(seed)  # another generator makes another choice
    chosen = np.zeros(len(people), bool)
    chosen[appearance[legacy.choice(len(people), identities, replace=False)]] = True
    return np.flatnonzero(chosen[person])


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
    source: Source,
    rows: np.ndarray,
    path: Path | str,
    *,
    work: Path | str,
    seed: int,
    made_by: str,
    skipped: Sequence[str] | None = None,
) -> None:
    """Copy rows of a source into a FaceStore: images byte by byte, labels renumbered 0..n-1.

    New labels follow the order of the old ones. Features go along if the source has them. Several
    processes share the shards; those in ``work`` that are whole are taken as they are. The store
    has them by links, so that removing ``work`` afterwards is all the tidying there is.

    Args:
        source: where the rows are.
        rows: (n,) which ones, in which order.
        path: the store to write.
        work: a folder for finished shards, which belongs to exactly these arguments.
        seed: for the manifest, as the next.
        made_by: the program that copies.
        skipped: messages naming the entries left out, counted in the manifest.

    Raises:
        InputError: if the first image cannot be decoded or is not square (its side goes into the
            manifest), naming its record; if the disk is full.
    """
    labels = np.unique(source.labels[rows], return_inverse=True)[1]
    size = 0
    if len(rows):
        first = int(rows[0])
        image = decode(source.encoded(first), source.where(first))
        check_square(image, source.where(first))
        size = len(image)
    parts = cut(0, len(rows), IMAGES_PER_SHARD)
    paths = [Path(work) / f"store-{number:05d}" for number in range(len(parts))]

    def write(number: int) -> None:
        with FaceStoreWriter(paths[number], image_size=size, seed=seed, made_by=made_by) as writer:
            for n in parts[number]:
                row = int(rows[n])
                writer.append(source.encoded(row), int(labels[n]), source.feature(row))

    if processes().main:
        sweep(Path(work) / "*")
    share(unfinished(range(len(parts)), lambda n: is_whole(paths[n])), write, f"copying to {path}")
    if processes().main:
        join_stores(path, paths, image_size=size, seed=seed, made_by=made_by, skipped=skipped)
    processes().wait()
