"""From identity vectors to a labelled face dataset: vectors -> images -> FaceStore (section 3.2).

Samples are numbered identity by identity: sample s is image s % k of identity s // k, and its label
is that identity's number. Vector and masks of a sample depend on its number only, so an image does
not depend on batch size, order or an interruption (through the generator: up to float rounding).

Processes share a run block by block (``vec2face.runtime.blocks``), and a killed run goes on.
Finished blocks become shards, and those the store, by links: the disk holds the images once, and
those of one shard for each process twice; the vectors twice.
"""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vec2face.dataset.perturbation import Perturbation
from vec2face.faces.images import encode, to_uint8
from vec2face.faces.store import FaceStore, is_whole
from vec2face.faces.store_writer import (
    IMAGES_PER_SHARD,
    FaceStoreWriter,
    join_features,
    join_stores,
)
from vec2face.runtime.blocks import Arrays, Blocks, cut, share, unfinished
from vec2face.runtime.files import sweep, write_json
from vec2face.runtime.processes import processes

BLOCK = 512  # images of a block; a multiple of the batch, as is a shard, so that an image's batch
# depends on its number only, however the blocks are shared

Masks = Callable[[int, int], tuple[Tensor, Tensor]]
"""``masks(first, count)`` -> (drop, mask), each (count, 49) bool, of samples ``first ...``."""


def generate_images(
    generator: nn.Module, vectors: np.ndarray, masks: Masks, first: int = 0, batch: int = 32
) -> np.ndarray:
    """Generate the images of samples ``first .. first + len(vectors) - 1``.

    Args:
        generator: ``generator(features, drop, mask)`` -> (B, 3, S, S) in [-1, 1], in eval mode.
        vectors: (N, D) float32, features as the recognizer gives them.
        masks: see :data:`Masks`.
        first: sample index of the first row.
        batch: images at a time.

    Returns:
        (N, S, S, 3) uint8, RGB.
    """
    device = next((p.device for p in generator.parameters()), torch.device("cpu"))
    images = []
    with torch.inference_mode():
        for start in range(0, len(vectors), batch):
            features = torch.from_numpy(np.ascontiguousarray(vectors[start : start + batch]))
            drop, mask = masks(first + start, len(features))
            output = generator(features.to(device), drop.to(device), mask.to(device))
            images.append(to_uint8(output.float().cpu()))
    return np.concatenate(images)


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
    images_per_shard: int = IMAGES_PER_SHARD,
) -> dict[str, Any]:
    """Generate ``images_per_identity`` images of every identity into a FaceStore.

    Args:
        generator: see :func:`generate_images`; its attribute ``image_size`` goes into the manifest.
        identities: (n, D) float32 identity vectors.
        perturbation: how an identity's images vary.
        masks: see :data:`Masks`.
        store: folder to write, replaced whole.
        vectors: ``.npy`` to write, (n * images_per_identity, D) float32, row s of sample s.
        work: folder of the finished blocks and shards. It must belong to exactly these arguments
            (name it by a fingerprint); remove it when the result is safe.
        made_by: goes into the manifest.
        batch: images at a time in the generator.
        quality: of the JPEGs, 1 to 100.
        images_per_shard: of the store.

    Returns:
        What was done: images, draws in all, and draws per image (mean and largest).

    Raises:
        InputError: if the mixture of sigma cannot keep the similarity asked for; if the disk is
            full, naming the file.
    """
    perturbation.check(identities)
    work, total = Path(work), len(identities) * perturbation.images_per_identity
    shards = cut(0, total, images_per_shard)
    paths = [work / f"store-{shard:05d}" for shard in range(len(shards))]
    about: dict[str, Any] = {
        "image_size": int(generator.image_size),  # type: ignore[arg-type]
        "seed": perturbation.seed,
        "made_by": made_by,
    }

    def make(first: int) -> Arrays:
        """Make the block that begins with a sample; it ends at the latest with its shard."""
        count = min(BLOCK, shards[first // images_per_shard].stop - first)
        rows, draws = perturbation.vectors(identities, first, count)
        jpegs = [
            encode(image, quality)
            for image in generate_images(generator, rows, masks, first, batch)
        ]
        sizes = np.array([len(jpeg) for jpeg in jpegs])
        data = np.frombuffer(b"".join(jpegs), np.uint8)
        return {"data": data, "sizes": sizes, "vectors": rows, "draws": draws}

    blocks = Blocks(work / "blocks", make)

    def store_shard(shard: int) -> None:
        """Turn a shard's blocks into a store whose features are the vectors."""
        draws, largest = 0, 0
        with FaceStoreWriter(paths[shard], images_per_shard=images_per_shard, **about) as writer:
            for first in shards[shard][::BLOCK]:
                block = blocks[first]
                draws += int(block["draws"].sum())
                largest = max(largest, int(block["draws"].max()))
                for sample, (jpeg, row) in enumerate(
                    zip(_jpegs(block), block["vectors"], strict=True), first
                ):
                    writer.append(jpeg, sample // perturbation.images_per_identity, row)
            write_json(_summary(paths[shard]), {"draws": draws, "largest": largest})
        blocks.remove(shards[shard][::BLOCK])

    if processes().main:
        sweep(work / "*")
    left = unfinished(
        range(len(shards)),
        lambda shard: _summary(paths[shard]).is_file() and is_whole(paths[shard]),
    )
    blocks.finish([first for shard in left for first in shards[shard][::BLOCK]], "generating")
    share(left, store_shard, "storing")
    if processes().main:
        sweep(vectors)
        join_features(vectors, [FaceStore(path) for path in paths])
        join_stores(store, paths, features=False, **about)
    found = [json.loads(_summary(path).read_text()) for path in paths]
    processes().wait()  # nobody may remove the work folder before all have read this
    draws = sum(shard["draws"] for shard in found)
    return {
        "images": total,
        "draws": draws,
        "draws_per_image": draws / total,
        "draws_per_image_max": max(shard["largest"] for shard in found),
    }


def _summary(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}-draws.json")


def _jpegs(block: Arrays) -> list[bytes]:
    data, ends = block["data"].tobytes(), np.cumsum(block["sizes"]).tolist()
    return [data[a:b] for a, b in pairwise([0, *ends])]
