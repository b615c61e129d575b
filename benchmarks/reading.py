"""Reading faces on one core: from .rec and LMDB to a batch tensor, against the released loader.

    python -m benchmarks.reading                      # made up pictures of a face's size and weight
    python -m benchmarks.reading data/ms1mv2/train.rec --images 20000

The peer does what the released training code does for an image: fetch the record, open it with
PIL, convert to RGB, ToTensor, Normalize, and stack the batch. The two take turns; each batch's best
time counts. Prints images a second and exits with 1 if a tensor differs or ours is less than 3.5
times as fast.
"""

import argparse
import io
import os
import shutil
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import lmdb
import msgpack
import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from vec2face.faces.convert import convert
from vec2face.faces.images import encode, to_tensor
from vec2face.faces.source import Selection, Source, load_images, open_source
from vec2face.faces.store_writer import FaceStoreWriter

LIMIT = 3.5
SIZE, BATCH, ROUNDS = 112, 128, 15
Batches = Iterator[torch.Tensor]

_peer = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.5] * 3)])


def peer(fetch: Callable[[int], bytes], rows: int) -> Batches:
    """Decode and normalise image by image, then stack."""
    for first in range(0, rows, BATCH):
        some = range(first, min(first + BATCH, rows))
        yield torch.stack([_peer(Image.open(io.BytesIO(fetch(i))).convert("RGB")) for i in some])


def ours(source: Source, rows: int) -> Batches:
    """Decode and normalise as every stage does."""
    for first in range(0, rows, BATCH):
        yield to_tensor(load_images(source, SIZE, range(first, min(first + BATCH, rows))))


def record_fetcher(path: Path) -> Callable[[int], bytes]:
    """Return what seeks, reads and unpacks image i of a .rec with a header, by its description."""
    offsets = [int(line.split()[1]) for line in path.with_suffix(".idx").open()]
    file = path.open("rb")

    def fetch(i: int) -> bytes:
        file.seek(offsets[i + 1])
        _, size = struct.unpack("<II", file.read(8))
        payload = file.read(size)
        struct.unpack("<IfQQ", payload[:24])
        return payload[24:]

    return fetch


def database_fetcher(path: Path) -> Callable[[int], bytes]:
    """Return what gets and unpacks image i of an LMDB, as the released code does."""
    copy = shutil.copy(path, path.with_suffix(".copy"))  # one process opens a database once
    environment = lmdb.open(str(copy), subdir=False, readonly=True, lock=False, readahead=False)

    def fetch(i: int) -> bytes:
        with environment.begin() as transaction:
            return msgpack.unpackb(transaction.get(str(i).encode()))[0]

    return fetch


def made_up(path: Path, count: int) -> None:
    """Write pictures with the smoothness, and so the bytes (about 5 kB), of aligned faces."""
    rng = np.random.default_rng(0)
    with FaceStoreWriter(path, image_size=SIZE, seed=0, made_by="benchmarks.reading") as writer:
        for i in range(count):
            coarse = rng.integers(0, 256, (14, 14, 3), np.uint8)
            picture = cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
            grain = rng.integers(-4, 5, picture.shape)
            writer.append(encode(np.clip(picture + grain, 0, 255).astype(np.uint8), 85), i // 20)


def seconds(batches: Batches) -> list[float]:
    """Return each batch's processor time: other programs' turns do not count."""
    laps = [time.process_time()]
    laps.extend(time.process_time() for _ in batches)
    return np.diff(laps).tolist()


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", nargs="?", help="aligned 112 x 112 faces in any form")
    parser.add_argument("--images", type=int, default=1024)
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # Linux only
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # noqa: TID251
    torch.set_num_threads(1)
    cv2.setNumThreads(1)

    slow = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not arguments.faces:
            made_up(folder / "faces", arguments.images)
        source = open_source(arguments.faces or folder / "faces", verify=False)
        rows = min(arguments.images, len(source))
        for form, fetcher in (("rec", record_fetcher), ("lmdb", database_fetcher)):
            path = folder / f"train.{form}"
            convert(Selection(source, np.arange(rows)), path)
            fetch, reader = fetcher(path), open_source(path)
            pairs = zip(ours(reader, rows), peer(fetch, rows), strict=True)
            if not all(torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in pairs):
                sys.exit(f"{form}: the two tensors differ")
            times = [
                (seconds(ours(reader, rows)), seconds(peer(fetch, rows))) for _ in range(ROUNDS)
            ]
            # Caches and clocks are shared with other programs, so each batch's best time counts.
            fast, theirs = rows / np.array(times).min(axis=0).sum(axis=1)
            print(
                f"{form:4} {fast:7.0f} images/s, PIL + ToTensor + Normalize {theirs:6.0f}: "
                f"{fast / theirs:.2f} times (limit {LIMIT})"
            )
            slow |= fast < LIMIT * theirs
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
