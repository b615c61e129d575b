"""Feed damaged inputs to every reader: of faces, of networks, of the pipeline's own work.

    python -m tests.fuzz --count 20000             # to each reader; minutes
    python -m tests.fuzz --count 20000 lmdb tar    # to these
    python -m tests.fuzz --first 20000 --count 500 # others than before: numbers 20000 to 20499
    python -m tests.fuzz lmdb --only 4711          # one input again, with its traceback

An input is read, or it is refused by one clear error; anything else is a fault: another exception,
a signal, more than 1 GiB of memory, or ten seconds. The program prints the counts and exits with 1
if there is a fault. Input n of a reader is always the same.
"""

import argparse
import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.fuzz import networks, readers, work
from tests.fuzz.limits import limit
from tests.fuzz.mutate import mutate
from tests.fuzz.readers import Reader
from vec2face.runtime.files import InputError

READERS = readers.READERS | networks.READERS | work.READERS
SECONDS = 10
MEGABYTES = 1024
_fork = multiprocessing.get_context("fork")


def inputs(name: str, sound: list[bytes], span: range) -> Iterator[tuple[int, bytes]]:
    """Yield numbers and damaged inputs."""
    own = zlib.crc32(name.encode())
    for number in span:
        yield number, mutate(sound[number % len(sound)], sound, own, number)


def attempt(reader: Reader, folder: Path, data: bytes) -> str:
    """Read one input: ``"read"``, ``"refused"``, or the traceback of a fault."""
    (folder / reader.target).write_bytes(data)
    try:
        reader.read(folder)
    except InputError as error:
        said = f"{error} {error.__cause__!r}"
        return f"too much memory: {said}" if "MemoryError" in said else "refused"
    except Exception:
        return traceback.format_exc()
    return "read"


def child(name: str, sound: list[bytes], folder: Path, span: range, now: Any, pipe: Any) -> None:
    """Try some inputs in this process, and send what became of each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders print there
    limit(MEGABYTES)
    os.environ["VEC2FACE_THREADS"] = "1"
    torch.set_num_threads(1)
    for fill in (f for f in vars(nn.init) if f.endswith("_") and not f.startswith("_")):
        setattr(nn.init, fill, lambda tensor, *_, **__: tensor)  # what is read replaces it
    for number, data in inputs(name, sound, span):
        now.value = number
        pipe.send((number, attempt(READERS[name], folder, data)))


def try_all(name: str, span: range) -> tuple[Counter[str], dict[int, str]]:
    """Try inputs by number; return how many were read, refused and at fault, and the faults."""
    counts: Counter[str] = Counter()
    faults: dict[int, str] = {}
    with prepared(name) as (folder, sound):
        first = span.start
        while first < span.stop:
            now: Synchronized[int] = _fork.Value("q", first)
            mine, theirs = _fork.Pipe(duplex=False)
            process = _fork.Process(
                target=child,
                args=(name, sound, folder, range(first, span.stop), now, theirs),
                daemon=True,
            )
            process.start()
            theirs.close()
            with contextlib.suppress(EOFError):
                while mine.poll(SECONDS):
                    first, what = mine.recv()
                    first += 1
                    kind = what if what in ("read", "refused") else "faults"
                    counts[kind] += 1
                    if kind == "faults":
                        faults[first - 1] = what
                process.kill()
            process.join()
            if first < span.stop:
                number = now.value
                slow = process.exitcode == -signal.SIGKILL
                faults[number] = f"more than {SECONDS} s" if slow else f"exit {process.exitcode}"
                counts["faults"] += 1
                first = number + 1
    return counts, faults


@contextlib.contextmanager
def prepared(name: str) -> Iterator[tuple[Path, list[bytes]]]:
    """Make a reader's sound files in a folder of their own; each must be read."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        reader = READERS[name]
        folder = Path(place)
        sound = list(reader.make(folder))
        for data in sound:
            if (what := attempt(reader, folder, data)) != "read":
                (folder / reader.target).write_bytes(data)
                reader.read(folder)
                raise AssertionError(f"{name}: a sound file is not read: {what}")
        yield folder, sound


def main() -> int:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", choices=[[], *READERS], metavar="reader", default=[])
    parser.add_argument("--count", type=int, default=1000, help="inputs for each reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="read this one input and keep it")
    given = parser.parse_args()
    names = given.readers or list(READERS)
    logging.disable()
    if given.only is not None:
        for name in names:
            with prepared(name) as (folder, sound):
                ((_, data),) = inputs(name, sound, range(given.only, given.only + 1))
                print(attempt(READERS[name], folder, data))
                kept = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-{given.only}-"))
                shutil.copytree(folder, kept, dirs_exist_ok=True)
                print(f"{name}: kept in {kept}")
        return 0
    found = 0
    print(f"{'reader':14}{'inputs':>9}{'read':>9}{'refused':>9}{'faults':>8}{'seconds':>9}")
    for name in names:
        start = time.monotonic()
        counts, faults = try_all(name, range(given.first, given.first + given.count))
        numbers = [counts[key] for key in ("read", "refused", "faults")]
        print(
            f"{name:14}{sum(numbers):9}{numbers[0]:9}{numbers[1]:9}{numbers[2]:8}"
            f"{time.monotonic() - start:9.0f}",
            flush=True,
        )
        kinds: dict[str, int] = {}
        for number, what in faults.items():
            kinds.setdefault(what.strip().splitlines()[-1][:150], number)
        for what, number in list(kinds.items())[:10]:
            print(f"    --only {number}: {what}")
        found += len(faults)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
