"""Memory and DVC's times of a generated store, by its number of images.

    python -m benchmarks.store           # memory of 10^3 to 10^6 images: a minute, 0.6 GB of disk
    python -m benchmarks.store --dvc     # DVC's times, against loose files: minutes, 4 GB of disk

Memory: a process of its own writes so many tiny images as shards, joins these as the dataset stage
does, and reads them all; its peak may grow by ``LIMIT`` bytes an image (a label, a key and an
offset have 8 each). DVC: ``add``, ``status`` and ``checkout`` of a store in a repository of its
own; the peer is a folder of loose files as the released code writes them. What grows with the
images is scaled to ``TARGET`` of them. All is written to ``TMPDIR``.

Prints a line for each and exits with 1 if memory exceeds the limit.
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vec2face.faces.store import FaceStore, is_whole
from vec2face.faces.store_writer import FaceStoreWriter, join_stores

COUNTS = (1_000, 10_000, 100_000, 1_000_000)
LIMIT = 40  # bytes of memory an image
TARGET = 15_000_000
TINY, USUAL = 200, 8_000  # bytes of an image: for the memory, for DVC (112 x 112, quality 95)
ABOUT = {"image_size": 112, "seed": 0, "made_by": "benchmarks/store.py"}


def write(path: Path, count: int, size: int, per_shard: int = 100_000) -> None:
    """Write a store by way of its shards, as the dataset stage does; images all differ."""
    rest = np.random.default_rng(0).bytes(size - 8)
    parts = []
    for first in range(0, count, per_shard):
        parts.append(path.with_name(f"part-{len(parts)}"))
        with FaceStoreWriter(parts[-1], **ABOUT) as writer:
            for i in range(first, min(first + per_shard, count)):
                writer.append(i.to_bytes(8, "little") + rest, i // 50)
    assert all(is_whole(part) for part in parts)
    join_stores(path, parts, **ABOUT)
    for part in parts:
        shutil.rmtree(part)


def peak(count: int) -> float:
    """Write and read a store; return the peak memory of this process, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "store"), count, TINY)
        store = FaceStore(Path(folder, "store")).verify()
        for i in range(count):
            assert int.from_bytes(store.encoded(i)[:8], "little") == i
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def memory() -> bool:
    """Print the peaks; return whether they keep to the limit."""
    peaks = []
    for count in COUNTS:
        command = [sys.executable, "-m", "benchmarks.store", "--one", str(count)]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks.append(float(run.stdout))
        print(f"{count:9,} images: {peaks[-1]:6.1f} MB")
    each = (peaks[-1] - peaks[0]) * 1e6 / (COUNTS[-1] - COUNTS[0])
    print(f"{each:.1f} bytes an image (limit {LIMIT})")
    return each <= LIMIT


def dvc_times(folder: Path, name: str) -> dict[str, float]:
    """Return the seconds of DVC's commands on what lies at ``folder / name``."""

    def timed(*command: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "dvc", *command, "-q"], check=True, cwd=folder)
        return time.perf_counter() - begin

    timed("init", "--no-scm", "-f")
    seconds = {"add": timed("add", name), "status": timed("status")}
    shutil.rmtree(folder / name)
    return seconds | {"checkout": timed("checkout")}


def loose(path: Path, count: int, size: int) -> None:
    """Write so many files, 50 in a folder: the peer."""
    rest = np.random.default_rng(0).bytes(size - 8)
    for i in range(count):
        person = path / f"{i // 50:06d}"
        person.mkdir(parents=True, exist_ok=True)
        (person / f"{i % 50}.jpg").write_bytes(i.to_bytes(8, "little") + rest)


def compare_dvc(images: int, files: int) -> None:
    """Print DVC's times, and what they are at ``TARGET`` images."""
    kinds = {
        "shards": (images, lambda path, n: write(path, n, USUAL, per_shard=images // 10)),
        "loose files": (files, lambda path, n: loose(path, n, USUAL)),
    }
    for kind, (count, make) in kinds.items():
        found = []
        for n in (10, count):  # ten images show what a command takes whatever it is given
            with tempfile.TemporaryDirectory() as folder:
                make(Path(folder, "set"), n)
                found.append(dvc_times(Path(folder), "set"))
        for command, seconds in found[1].items():
            least = found[0][command]
            scaled = least + max(seconds - least, 0) * TARGET / count
            print(
                f"dvc {command:8} {count:9,} images as {kind:11}: {seconds:6.1f} s "
                f"({least:.1f} s for ten); {TARGET:,}: {scaled:9,.0f} s"
            )


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", type=int, help="only the peak memory at this number of images")
    parser.add_argument("--dvc", action="store_true", help="measure DVC's times instead")
    parser.add_argument("--images", type=int, default=100_000, help="of the store, for DVC")
    parser.add_argument("--files", type=int, default=20_000, help="loose, for DVC")
    arguments = parser.parse_args()
    if arguments.one:
        print(peak(arguments.one))
        return 0
    if arguments.dvc:
        compare_dvc(arguments.images, arguments.files)
        return 0
    return 0 if memory() else 1


if __name__ == "__main__":
    sys.exit(main())
