"""From identity vectors to a labelled face dataset: vectors -> images -> FaceStore (section 3.2).

Samples are numbered identity by identity: sample s is image s % k of identity s // k, and its label
is that identity's number. Vector and masks of a sample depend on its number only, so an image does
not depend on batch size, order or an interruption (through the generator: up to float rounding).

Processes share a run shard by shard (``vec2face.runtime.blocks``), and a killed run makes those
again that it had not finished. The store gets the shards by links: the disk holds the images once,
the vectors twice.
"""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vec2face.dataset.aims import Aims, Astray
from vec2face.dataset.perturbation import Perturbation
from vec2face.faces.images import encode, to_uint8
from vec2face.faces.store import FaceStore, is_whole
from vec2face.faces.store_writer import (
    IMAGES_PER_SHARD,
    FaceStoreWriter,
    join_features,
    join_stores,
)
from vec2face.identities.cosines import cosines
from vec2face.identities.nearest import Crowd, nearest
from vec2face.runtime.blocks import cut, share, unfinished
from vec2face.runtime.files import InputError, is_sealed, seal, sweep, write_json
from vec2face.runtime.processes import processes

BLOCK = 512  # images whose vectors are drawn together; a multiple of the batch
SHARDS = 64  # a small set comes in about as many shards, for processes to share

Masks = Callable[[int, int], tuple[Tensor, Tensor]]
"""``masks(first, count)`` -> (drop, mask), each (count, 49) bool, of samples ``first ...``."""


def generate_images(
    generator: nn.Module,
    vectors: np.ndarray,
    masks: Masks,
    first: int = 0,
    batch: int = 32,
    truncated: bool = False,
) -> np.ndarray:
    """Generate the images of samples ``first .. first + len(vectors) - 1``.

    Args:
        generator: ``generator(features, drop, mask)`` -> (B, 3, S, S) in [-1, 1], in eval mode.
        vectors: (N, D) float32, features as the recognizer gives them.
        masks: see :data:`Masks`.
        first: sample index of the first row.
        batch: images at a time.
        truncated: whether fractions of pixel values are cut off, not rounded.

    Returns:
        (N, S, S, 3) uint8, RGB.
    """
    device = next((p.device for p in generator.parameters()), torch.device("cpu"))
    side = int(generator.image_size) if len(vectors) == 0 else 0  # type: ignore[arg-type]
    images = [np.empty((0, side, side, 3), np.uint8)] if side else []
    with torch.inference_mode():
        for start in range(0, len(vectors), batch):
            features = torch.from_numpy(np.ascontiguousarray(vectors[start : start + batch]))
            drop, mask = masks(first + start, len(features))
            output = generator(features.to(device), drop.to(device), mask.to(device))
            images.append(to_uint8(output.float().cpu(), truncated))
    return np.concatenate(images)


def shard_size(total: int) -> int:
    """Return the images of a shard: whole blocks, ``SHARDS`` shards or more, by ``total`` alone.

    So an image's batch depends on its number only, however the shards are shared.
    """
    return min(-(-total // (SHARDS * BLOCK)) * BLOCK, IMAGES_PER_SHARD // BLOCK * BLOCK)


def generate(
    generator: nn.Module,
    identities: np.ndarray,
    perturbation: Perturbation,
    masks: Masks,
    *,
    store: Path | str,
    vectors: Path | str,
    work: Path | str,
    made_by: str,
    batch: int = 32,
    quality: int = 95,
    truncated: bool = False,
    images_per_shard: int | None = None,
    aims: Aims | None = None,
) -> dict[str, Any]:
    """Generate ``images_per_identity`` images of every identity into a FaceStore.

    Args:
        generator: see :func:`generate_images`; its attribute ``image_size`` goes into the manifest.
        identities: (n, D) float32 identity vectors.
        perturbation: how an identity's images vary.
        masks: see :data:`Masks`.
        store: folder to write, replaced whole.
        vectors: ``.npy`` to write, (n * images_per_identity, D) float32, row s of sample s.
        work: folder of the finished shards. It must belong to exactly these arguments.
        made_by: goes into the manifest.
        batch: images at a time in the generator.
        quality: of the JPEGs, 1 to 100.
        truncated: see :func:`generate_images`.
        images_per_shard: of the store; by default ``shard_size``.
        aims: which images AttrOP makes, and of what; None for none.

    Returns:
        What was done: images, draws in all, draws per image (mean and largest), and what
        ``Aims.summary`` says of each group of AttrOP.

    Raises:
        InputError: if the mixture of sigma cannot keep the similarity asked for; if AttrOP drops
            all images; if the disk is full, naming the file.
    """
    perturbation.check(identities)
    certain = aims is not None and aims.mode == "ours" and len(identities) > 1
    crowd = Crowd.of(identities) if certain else None

    def astray(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if crowd is None:
            return np.zeros(len(vectors), bool)
        return nearest(vectors, crowd, labels)[0] >= cosines(vectors, identities[labels])

    work, total = Path(work), len(identities) * perturbation.images_per_identity
    shards = cut(0, total, images_per_shard or shard_size(total))
    paths = [work / f"store-{number:05d}" for number in range(len(shards))]
    about: dict[str, Any] = {
        "image_size": int(generator.image_size),  # type: ignore[arg-type]
        "seed": perturbation.seed,
        "made_by": made_by,
    }

    def make(number: int) -> None:
        """Write a shard as a store whose features are the vectors."""
        draws, largest, shard = 0, 0, shards[number]
        counts: Counter[str] = Counter()
        with FaceStoreWriter(paths[number], images_per_shard=len(shard), **about) as writer:
            for block in cut(shard.start, shard.stop, BLOCK):
                rows, drawn = perturbation.vectors(identities, block)
                made: dict[int, tuple[bytes, np.ndarray]] = {}
                plain, lost = np.arange(len(block)), np.zeros(0, np.int64)
                if aims is not None:
                    made, found, plain, lost = _aimed(
                        aims, block, identities, masks, perturbation, astray
                    )
                    counts.update(found)
                # What AttrOP gives up comes one by one, so that no other image's batch changes.
                for some, size in ((plain, batch), (lost, 1)):
                    images = generate_images(
                        generator, rows[some], of(block, some), 0, size, truncated
                    )
                    for row, image in zip(some, images, strict=True):
                        made[block[row]] = encode(image, quality), rows[row]
                for sample, (jpeg, vector) in sorted(made.items()):
                    writer.append(jpeg, sample // perturbation.images_per_identity, vector)
                draws, largest = draws + int(drawn.sum()), max(largest, int(drawn.max()))
            write_json(_beside(paths[number]), {"draws": draws, "largest": largest, **counts})
            seal(_beside(paths[number]))

    def of(block: range, chosen: np.ndarray) -> Masks:
        """Return the masks of some samples of a block, by their places in ``chosen``."""
        drop, mask = (m[torch.from_numpy(chosen)] for m in masks(block.start, len(block)))
        return lambda first, count: (drop[first : first + count], mask[first : first + count])

    def done(number: int) -> bool:
        return _summary(paths[number]) is not None and is_whole(paths[number])

    if processes().main:
        sweep(work / "*")
    share(unfinished(range(len(shards)), done), make, "generating")
    if processes().main:
        sweep(vectors)
        parts = [part for path in paths if len(part := FaceStore(path))]  # AttrOP may drop all
        if not parts:
            raise InputError(
                "attrop.unconverged: drop: no image has converged, so nothing is left; raise "
                "attrop.steps or the tolerances of attrop.attributes, or keep the best"
            )
        join_features(vectors, parts)
        join_stores(store, [part.path for part in parts], features=False, **about)
    found = [summary for path in paths if (summary := _summary(path))]
    counted = Counter[str]()
    for shard in found:
        counted.update(shard)  # type: ignore[arg-type]
    return {
        "images": len(FaceStore(store)) if processes().main else total,
        "draws": counted["draws"],
        "draws_per_image": counted["draws"] / total,
        "draws_per_image_max": max(shard["largest"] for shard in found),
    } | (aims.summary(counted) if aims is not None else {})


def _aimed(
    aims: Aims,
    block: range,
    identities: np.ndarray,
    masks: Masks,
    perturbation: Perturbation,
    astray: Astray,
) -> tuple[dict[int, tuple[bytes, np.ndarray]], Counter[str], np.ndarray, np.ndarray]:
    """Make what AttrOP makes of a block.

    Returns:
        It, its counts, the rows that are none of it, and the rows that it has given up, whose
        optimised vectors went astray.
    """
    samples = np.asarray(block)
    chosen = aims.groups_of(samples) >= 0
    places = torch.from_numpy(np.flatnonzero(chosen))
    drop, mask = (m[places] for m in masks(block.start, len(block)))
    start = aims.starts(perturbation)
    results, counts = aims.make(
        samples[chosen],
        identities[samples[chosen] // perturbation.images_per_identity],
        (drop, mask),
        lambda which, again: start.vectors(identities, which, again)[0],
        astray,
    )
    made = {number: (result.jpeg, result.vector) for number, result in results.items()}
    lost = np.flatnonzero(chosen & ~np.isin(samples, list(made)))
    return made, counts, np.flatnonzero(~chosen), lost[: 0 if aims.unconverged == "drop" else None]


def _beside(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}-draws.json")


def _summary(shard: Path) -> dict[str, float] | None:
    """Return the counts of a finished shard, or None if they are not there, or damaged."""
    file = _beside(shard)
    return json.loads(file.read_text()) if is_sealed(file) else None
