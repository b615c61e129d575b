"""The certificate of labels: is every image nearer to its own identity than to any other?

Vectors may be as near as ``tau`` to each other, and an image's vector as far as ``min_similarity``
from its own identity's: 72.5 and 60 degrees at the paper's 0.3 and 0.5. So an image's vector can
lie nearer to a stranger. An image within half of the smallest angle between two identities cannot:
by the triangle inequality it is at least the other half away from everybody else. At tau 0.3 that
half-angle is 36.3 degrees, a cosine of 0.806; from there on each vector is looked at.

All vectors are, exactly (``vec2face.identities.nearest``). So are the features of the images. What
an identity's features are compared with is the mean of *its* images: an image of it with the mean
of the others, since the image itself would pull a mean of all towards it.

Each process holds up to three and a half float32 rows an identity at a time: the means, these in
order, and both types of the same of length 1.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vec2face.config.params import Params
from vec2face.evaluation.quality import PREFIXES
from vec2face.identities.cosines import cosines
from vec2face.identities.nearest import Crowd, nearest
from vec2face.runtime.blocks import Arrays, Blocks
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import processes

log = logging.getLogger(__name__)

BLOCK = 4096  # images at a time

Own = Callable[[np.ndarray], np.ndarray]
"""What each image of some rows is compared with as its own, (B, D)."""


@dataclass(frozen=True)
class Verdict:
    """How a set's images compare with their own identity and with the others.

    Attributes:
        images: how many were compared.
        wrong: how many are nearer to another identity.
        margin: the smallest difference between an image's cosine to its own identity and that to
            the nearest other one.
        pair: the image that has it, and that identity's label.
        own: the smallest cosine of an image to its own identity.
        inside: how many have a larger cosine to their own than ``apart``.
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
    *,
    rows: np.ndarray | None = None,
    apart: float = 1.0,
) -> Verdict | None:
    """Compare images with their own identity and with the nearest other one.

    Several processes share the blocks, and a killed run keeps those it has finished. In memory are
    the identities and a block.

    Args:
        vectors: (N, D), possibly a memory map.
        labels: (N,) int64, of ``identities``.
        identities: at least two, by rising label.
        own: see :data:`Own`.
        work: where finished blocks lie; it belongs to exactly these arguments but ``apart``.
        rows: which images are compared, at least one; None for all.
        apart: see :class:`Verdict`; counts on the first process.

    Returns:
        The verdict, on the first process only.
    """
    rows = np.arange(len(vectors)) if rows is None else rows

    def make(first: int) -> Arrays:
        part = rows[first : first + BLOCK]
        found = np.asarray(vectors[part])
        other, place = nearest(found, identities, labels[part])
        return {"own": cosines(found, own(part)), "other": other, "place": place}

    blocks = Blocks(work, make)
    blocks.finish(range(0, len(rows), BLOCK), f"labels, {work.name}")
    if not processes().main:
        return None
    wrong, inside, least = 0, 0, np.inf
    smallest, pair = np.inf, (-1, -1)
    for first in range(0, len(rows), BLOCK):
        found = blocks[first]
        margin = found["own"] - found["other"]
        wrong += int((margin < 0).sum())
        inside += int((found["own"] > apart).sum())
        least = min(least, float(found["own"].min()))
        at = int(margin.argmin())
        if margin[at] < smallest:
            smallest, pair = (
                float(margin[at]),
                (int(rows[first + at]), int(identities.labels[found["place"][at]])),
            )
    return Verdict(len(rows), wrong, smallest, pair, least, inside)


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
    crowd = Crowd.of(identities)
    counts = np.bincount(labels, minlength=len(identities))

    def make(first: int) -> Arrays:
        part = np.arange(first, min(first + BLOCK, len(identities)))
        return {"cosine": nearest(identities[part], crowd, part)[0]}

    blocks, firsts = Blocks(work / "apart", make), range(0, len(identities), BLOCK)
    blocks.finish(firsts, "labels, identities")
    half = np.arccos(blocks.join(firsts)["cosine"].max()) / 2 if processes().main else 0.0
    found = judge(
        vectors, labels, crowd, lambda part: identities[labels[part]], work,
        apart=float(np.cos(half)),
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
        "images_alone": int((counts == 1).sum()),
        "identities_without_images": int((counts == 0).sum()),
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
        A JSON-able record, on the first process only. An image that is the only one of its
        identity has nothing of its own to be compared with and does not count; nothing if all
        images are alone, or of one identity.
    """
    people, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[place] > 1)
    if not len(rows) or len(people) < 2:
        return {}
    crowd = Crowd.of(_means(features, labels, counts), people)

    def others(part: np.ndarray) -> np.ndarray:
        who = place[part]
        total = crowd.rows.raw[who].astype(np.float64) * counts[who, None]
        return total - features[part]  # a mean but for its length

    found = judge(features, labels, crowd, others, work, rows=rows)
    if found is None:
        return {}
    return {
        f"{prefix}mislabelled_features": found.wrong,
        f"{prefix}mislabelled_share": found.wrong / found.images,
        f"{prefix}feature_margin": found.margin,
        f"{prefix}feature_margin_pair": list(found.pair),
    }


def _means(features: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean of each label, by rising label: (n, D), rounded to float32 for its size."""
    order = np.argsort(labels, kind="stable")
    means = np.empty((len(counts), features.shape[1]), np.float32)
    for person, end in enumerate(np.cumsum(counts)):
        rows = order[end - counts[person] : end]
        means[person] = features[rows].mean(0, dtype=np.float64)
    return means


def check(record: dict[str, Any], p: Params) -> None:
    """Refuse a set with wrong labels.

    Where the parameters promise no least similarity, vectors that are nearer to another identity
    are warned of, not refused.

    Args:
        record: of ``certify_vectors``, and of ``certify_features`` under both recognizers.
        p: what the set was made with, and what it may fall short of.

    Raises:
        InputError: a vector is nearer to another identity, more features are than the parameters
            allow, or no feature could be compared although identities were to have several images.
    """
    noise = "max_angle" if p.perturbation == "angular" else "sigma"
    if record["mislabelled_vectors"]:
        image, identity = record["vector_margin_pair"]
        found = (
            f"{record['mislabelled_vectors']} image vectors are nearer to another identity than to "
            f"their own, image {image} most (to identity {identity})"
        )
        if not p.sampling.released and (p.attrop is None or p.attrop.mode == "ours"):
            raise InputError(f"{found}; raise min_similarity, or lower {noise} or tau")
        log.warning("%s; vectors made in this way keep to no min_similarity", found)
    limit = p.certificates.mislabelled_features
    for prefix, name in zip(PREFIXES, ("recognizer", "second_recognizer"), strict=True):
        share = record.get(f"{prefix}mislabelled_share")
        if share is None:
            if p.images_per_identity > 1:
                raise InputError(
                    f"no feature of paths.{name} could be compared: {record['images_alone']} "
                    f"identities have one image, {record['identities_without_images']} none; raise "
                    "images_per_identity, or let attrop.unconverged keep more images"
                )
        elif share > limit:
            image, identity = record[f"{prefix}feature_margin_pair"]
            raise InputError(
                f"{share:.2%} of the images look more like another identity to paths.{name}, "
                f"image {image} most (like identity {identity}); certificates.mislabelled_features "
                f"allows {limit:.2%}. Train the generator longer, or lower {noise}"
            )
