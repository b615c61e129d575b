"""Memory and time of opening faces at WebFace4M's size and choosing the subset by both rules.

    python -m benchmarks.index                                   # 4 235 242 images, 205 990 people
    python -m benchmarks.index --form lmdb
    python -m benchmarks.index --images 400000 --people 20000

Writes a set with a few bytes in each image's place into a temporary folder, then opens it and
chooses 50 000 people (a quarter, if there are fewer) in a process of its own. Prints one JSON
record and exits with 1 if that process came to more than 1 GiB; ``own`` leaves out mapped files.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from vec2face.faces.database import DatabaseWriter
from vec2face.faces.record_writer import RecordWriter
from vec2face.faces.source import open_source
from vec2face.faces.subset import choose, choose_released

LIMIT_MIB = 1024
IMAGES, PEOPLE = 4_235_242, 205_990


def write(path: Path, images: int, people: int) -> None:
    """Write a set whose people have one image or more, as many as chance gives them."""
    extra = np.random.default_rng(0).gamma(2, size=people)
    counts = 1 + np.random.default_rng(1).multinomial(images - people, extra / extra.sum())
    writer = RecordWriter if path.suffix == ".rec" else DatabaseWriter
    with writer(path) as file:
        for label in np.repeat(np.arange(people), counts).tolist():
            file.append(b"\xff\xd8 no picture \xff\xd9", label)


def measure(path: Path) -> dict[str, float]:
    """Open, read all labels, choose twice; return seconds, rows and the peak of memory."""
    record: dict[str, float] = {}
    begin = time.perf_counter()

    def lap(what: str) -> None:
        nonlocal begin
        record[f"{what}_seconds"] = round(time.perf_counter() - begin, 2)
        status = Path("/proc/self/status").read_text()  # getrusage tells the parent's peak, too
        for name, field in (("own", "RssAnon"), ("peak", "VmHWM")):
            record[f"{what}_{name}_mib"] = int(status.split(f"{field}:")[1].split()[0]) // 1024
        begin = time.perf_counter()

    lap("start")
    source = open_source(path)
    lap("open")
    labels = source.labels
    lap("labels")
    identities = min(50_000, (int(labels.max()) + 1) // 4)
    rows = choose(labels, identities=identities, images_per_identity=20, seed=0, minimum_images=10)
    lap("paper")
    record["paper_rows"] = len(rows)
    rows = choose_released(labels, identities=identities, seed=0)
    lap("released")
    record |= {"released_rows": len(rows), "images": len(labels)}
    return record


def main() -> int:
    """Write, measure, print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--form", choices=("rec", "lmdb"), default="rec")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"train.{arguments.form}"
        begin = time.perf_counter()
        write(path, arguments.images, arguments.people)
        written = {"write_seconds": round(time.perf_counter() - begin, 1)}
        command = [sys.executable, "-m", "benchmarks.index", "--measure", str(path)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    record = {"form": arguments.form} | written | json.loads(done.stdout)
    print(json.dumps(record, indent=2))
    return int(record["released_peak_mib"] > LIMIT_MIB)


if __name__ == "__main__":
    sys.exit(main())
