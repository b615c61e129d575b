"""The certificate of labels: is every image nearer to its own identity than to any other?

Vectors may be as near as ``tau`` to each other, and an image's vector as far as ``min_similarity``
from its own identity's: 72.5 and 60 degrees at the paper's 0.3 and 0.5. So an image's vector can
lie nearer to a stranger. An image within half of the smallest angle between two identities cannot:
by the triangle inequality it is at least the other half away from everybody else. At tau 0.3 that
half-angle is 36.3 degrees, a cosine of 0.806; from there on each vector is looked at.

All vectors are, exactly (``vec2face.identities.nearest``). So are the features of the images. What
an identity's features are compared with is the mean of *its* images: an image of it with the mean
of the others, since the image itself would pull a mean of all towards it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vec2face.evaluation.quality import PREFIXES
from vec2face.identities.cosines import cosines, largest_cosine
from vec2face.identities.nearest import Crowd, nearest
from vec2face.recognizers.statistics import identity_means
from vec2face.runtime.blocks import Arrays, Blocks
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import processes

BLOCK = 4096  # images at a time

Own = Callable[[slice], np.ndarray]
"""What each image of a block is compared with as its own, (B, D)."""


@dataclass(frozen=True)
class Verdict:
    """How a set's images compare with their own identity and with the others.

    Attributes:
        images: how many there are.
        wrong: how many are nearer to another identity.
        margin: the smallest difference between an image's cosine to its own identity and that to
            the nearest other one.
        pair: the image that has it, and that identity's label.
        own: the smallest cosine of an image to its own identity.
        inside: how many have a larger cosine to their own than ``judge`` was given as ``apart``.
    """

    images: int
    wrong: int
    margin: float
    pair: tuple[int, int]
    own: float
    inside: int


def judge(
    vectors: np.ndarray,
    labels: np.ndarray,
    identities: Crowd,
    own: Own,
    work: Path,
    apart: float = 1.0,
) -> Verdict | None:
    """Compare every image with its own identity and with the nearest other one.

    Several processes share the blocks, and a killed run keeps those it has finished. In memory are
    the identities and a block.

    Args:
        vectors: (N, D), possibly a memory map.
        labels: (N,) int64, of ``identities``.
        identities: at least two, by rising label.
        own: see :data:`Own`.
        work: where finished blocks lie; it belongs to exactly these arguments.
        apart: see :class:`Verdict`.

    Returns:
        The verdict, on the first process only.
    """

    def make(first: int) -> Arrays:
        part = slice(first, min(first + BLOCK, len(vectors)))
        rows = np.asarray(vectors[part])
        other, place = nearest(rows, identities, labels[part])
        return {"own": cosines(rows, own(part)), "other": other, "place": place}

    blocks = Blocks(work, make)
    blocks.finish(range(0, len(vectors), BLOCK), f"labels, {work.name}")
    if not processes().main:
        return None
    wrong, inside, least = 0, 0, np.inf
    smallest, pair = np.inf, (-1, -1)
    for first in range(0, len(vectors), BLOCK):
        found = blocks[first]
        margin = found["own"] - found["other"]
        wrong += int((margin < 0).sum())
        inside += int((found["own"] > apart).sum())
        least = min(least, float(found["own"].min()))
        at = int(margin.argmin())
        if margin[at] < smallest:
            smallest, pair = (
                float(margin[at]),
                (first + at, int(identities.labels[found["place"][at]])),
            )
    return Verdict(len(vectors), wrong, smallest, pair, least, inside)


def certify_vectors(
    vectors: np.ndarray, labels: np.ndarray, identities: np.ndarray, work: Path
) -> dict[str, Any]:
    """Prove what the vectors say of the labels; docs/measures.md describes the keys.

    Args:
        vectors: (N, D), of the images.
        labels: (N,) int64, rows of ``identities``.
        identities: (n, D), n >= 2.
        work: where finished blocks lie.

    Returns:
        A JSON-able record, on the first process only; nothing on the others.
    """
    half = np.arccos(largest_cosine(identities)[0]) / 2
    found = judge(
        vectors, labels, Crowd.of(identities), lambda part: identities[labels[part]], work,
        float(np.cos(half)),
    )  # fmt: skip
    if found is None:
        return {}
    return {
        "mislabelled_vectors": found.wrong,
        "vector_margin": found.margin,
        "vector_margin_pair": list(found.pair),
        "vector_angle_max": float(np.degrees(np.arccos(found.own))),
        "automatic_angle": float(np.degrees(half)),
        "automatic_share": found.inside / found.images,
    }


def certify_features(
    features: np.ndarray, labels: np.ndarray, work: Path, prefix: str = ""
) -> dict[str, Any]:
    """Prove what the images' features say of the labels; docs/measures.md describes the keys.

    Args:
        features: (N, D), of the images under one recognizer.
        labels: (N,) int64.
        work: where finished blocks lie.
        prefix: what the keys begin with.

    Returns:
        A JSON-able record, on the first process only. Nothing where an identity has one image: it
        has nothing of its own to be compared with.
    """
    people, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() < 2 or len(people) < 2:
        return {}
    means = identity_means(features, labels)

    def others(part: slice) -> np.ndarray:
        who = place[part]
        return means[who] * counts[who, None] - features[part]  # a mean but for its length

    found = judge(features, labels, Crowd.of(means, people), others, work)
    if found is None:
        return {}
    return {
        f"{prefix}mislabelled_features": found.wrong,
        f"{prefix}mislabelled_share": found.wrong / found.images,
        f"{prefix}feature_margin": found.margin,
        f"{prefix}feature_margin_pair": list(found.pair),
    }


def check(record: dict[str, Any], limit: float) -> None:
    """Refuse a set with wrong labels.

    Args:
        record: of ``certify_vectors``, and of ``certify_features`` under both recognizers.
        limit: largest share of images that may have a feature nearer to another identity.

    Raises:
        InputError: a vector is nearer to another identity, or more features are.
    """
    if record["mislabelled_vectors"]:
        image, identity = record["vector_margin_pair"]
        raise InputError(
            f"{record['mislabelled_vectors']} image vectors are nearer to another identity than to "
            f"their own, image {image} most (to identity {identity}); raise min_similarity, or "
            "lower sigma or tau"
        )
    for prefix, name in zip(PREFIXES, ("recognizer", "second_recognizer"), strict=True):
        share = record.get(f"{prefix}mislabelled_share", 0.0)
        if share > limit:
            image, identity = record[f"{prefix}feature_margin_pair"]
            raise InputError(
                f"{share:.2%} of the images look more like another identity to paths.{name}, "
                f"image {image} most (like identity {identity}); certificates.mislabelled_features "
                f"allows {limit:.2%}. Train the generator longer, or lower sigma"
            )
