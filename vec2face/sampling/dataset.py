"""From identity vectors to a labelled face dataset: vectors -> images -> FaceStore (section 3.3).

Samples are numbered identity by identity: sample s is image s % k of identity s // k, and its label
is that identity's number. Vector and masks of a sample depend on its number only, so an image does
not depend on batch size, order or an interruption (through the generator: up to float rounding).

A run is cut into blocks. A finished block is a file in the work folder, written whole; a rerun
takes finished blocks as they are, and the store is put together once all blocks are there.
"""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from vec2face.faces.images import encode, to_uint8
from vec2face.faces.store import FaceStoreWriter
from vec2face.files import whole_file
from vec2face.sampling.perturbation import Perturbation

BLOCK = 512  # images of a block, the unit of resuming

Masks = Callable[[int, int], tuple[Tensor, Tensor]]
"""``masks(first, count)`` -> (drop, mask), each (count, 49) bool, of samples ``first ...``."""


def render(
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
    images_per_shard: int = 100_000,
) -> dict[str, Any]:
    """Generate ``images_per_identity`` images of every identity into a FaceStore.

    Args:
        generator: see :func:`render`; its attribute ``image_size`` goes into the manifest.
        identities: (n, D) float32 identity vectors.
        perturbation: how an identity's images vary.
        masks: see :data:`Masks`.
        store: folder to write, replaced whole.
        vectors: ``.npy`` to write, (n * images_per_identity, D) float32, row s of sample s.
        work: folder of the finished blocks. It must belong to exactly these arguments (name it by
            a fingerprint); remove it when the result is safe.
        made_by: goes into the manifest.
        batch: images at a time in the generator.
        quality: of the JPEGs, 1 to 100.
        images_per_shard: of the store.

    Returns:
        What was done: images, draws in all, and draws per image (mean and largest).

    Raises:
        InputError: if the mixture of sigma cannot keep the similarity asked for.
    """
    perturbation.check(identities)
    total = len(identities) * perturbation.images_per_identity
    work = Path(work)
    work.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(work / "*", Path(store), Path(vectors))
    starts = range(0, total, BLOCK)
    with tqdm(total=total, desc="generate", unit="img", disable=None) as progress:
        for first in starts:
            count = min(BLOCK, total - first)
            if _read(_path(work, first)) is None:
                rows, draws = perturbation.vectors(identities, first, count)
                images = render(generator, rows, masks, first, batch)
                _write(_path(work, first), [encode(i, quality) for i in images], rows, draws)
            progress.update(count)

    draws_all = np.empty(total, np.int64)
    shape = (total, identities.shape[1])
    with (
        whole_file(vectors) as vectors_file,
        FaceStoreWriter(
            store,
            image_size=int(generator.image_size),  # type: ignore[arg-type]
            seed=perturbation.seed,
            made_by=made_by,
            images_per_shard=images_per_shard,
        ) as writer,
    ):
        table = np.lib.format.open_memmap(vectors_file, "w+", np.float32, shape)
        for first in starts:
            block = _read(_path(work, first))
            if block is None:
                raise OSError(
                    f"{_path(work, first)}: gone or damaged since it was written; run again"
                )
            jpegs, rows, draws = block
            table[first : first + len(rows)] = rows
            draws_all[first : first + len(rows)] = draws
            for sample, jpeg in enumerate(jpegs, first):
                writer.append(jpeg, sample // perturbation.images_per_identity)
        table.flush()
        del table
    return {
        "images": total,
        "draws": int(draws_all.sum()),
        "draws_per_image": float(draws_all.mean()),
        "draws_per_image_max": int(draws_all.max()),
    }


def _clear_leftovers(*paths: Path) -> None:
    """Remove what a killed run left under temporary names (see ``files.whole_file``)."""
    for path in paths:
        for leftover in path.parent.glob(f".{path.name}.*.partial"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()


def _path(work: Path, first: int) -> Path:
    return work / f"block-{first:010d}.npz"


def _write(path: Path, jpegs: list[bytes], rows: np.ndarray, draws: np.ndarray) -> None:
    ends = np.cumsum([len(j) for j in jpegs])
    data = np.frombuffer(b"".join(jpegs), np.uint8)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, data=data, ends=ends, vectors=rows, draws=draws)


def _read(path: Path) -> tuple[list[bytes], np.ndarray, np.ndarray] | None:
    """Return (JPEGs, vectors, draws) of a block, or None if it is missing or damaged (zip CRC)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            data, ends = file["data"].tobytes(), file["ends"]
            begins = np.concatenate([[0], ends[:-1]])
            jpegs = [data[a:b] for a, b in zip(begins, ends, strict=True)]
            return jpegs, file["vectors"], file["draws"]
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
