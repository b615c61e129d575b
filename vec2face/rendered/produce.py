"""Render many people in a pool of processes.

A picture is a pure function of (seed, person, number), so the number of processes changes nothing,
and what is finished is kept in blocks.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vec2face.faces.images import encode
from vec2face.randomness import stream
from vec2face.rendered.conditions import Conditions, Regime, draw_conditions
from vec2face.rendered.geometry import load_geometry
from vec2face.rendered.people import Person, draw_lookalike, draw_person
from vec2face.rendered.scene import Sitter, Studio, render
from vec2face.runtime.blocks import Arrays, Blocks, cut
from vec2face.runtime.files import whole_folder
from vec2face.runtime.progress import Progress

SITTINGS = 500  # of a block


@dataclass(frozen=True)
class Who:
    """Names a person of a population, who may be made like another person of it."""

    purpose: str
    index: int
    after: int | None = None  # index of the other person
    unlike: float = 1.0  # 1: of the other's sex and ancestry only; less: a look-alike (people.py)
    female: bool | None = None  # None: of either sex


@dataclass(frozen=True)
class Sitting:
    """One person and the pictures to take: for each its number in the random stream and regime."""

    who: Who
    shots: tuple[tuple[int, Regime], ...]


class Attributes(NamedTuple):
    """What is known about a picture."""

    person: float  # index in the population
    female: float  # 0 or 1
    melanin: float  # from 0, fair, to 1, dark
    yaw: float  # degrees, positive: the face turns to the picture's right
    pitch: float  # degrees, positive: the face looks up
    age: float  # years
    light: float  # degrees, the main light's azimuth, positive: from the picture's right
    exposure: float  # stops
    blur: float  # pixels, standard deviation


def describe(index: int, person: Person, conditions: Conditions) -> Attributes:
    """Return what is known about one picture of a person."""
    c, (across, _, towards) = conditions, conditions.lights[2]
    return Attributes(
        index, person.female, person.melanin, c.yaw, c.pitch, c.age,
        float(np.degrees(np.arctan2(across, towards))), c.exposure, c.blur,
    )  # fmt: skip


class Picture(NamedTuple):
    """An encoded picture and what is known about it."""

    jpeg: bytes
    known: Attributes


@cache
def _studio(path: str) -> Studio:
    return Studio(load_geometry(path))


def find_person(studio: Studio, seed: int, who: Who) -> Person:
    """Draw the person that ``who`` names."""
    draw = partial(draw_person, studio.geometry, seed, who.purpose)
    if who.after is None:
        return draw(who.index, female=who.female)
    model = draw(who.after, female=who.female)
    person = draw(who.index, female=model.female, race=model.race)
    return person if who.unlike == 1 else draw_lookalike(model, person, who.unlike)


def sit(head: str, seed: int, size: int, sitting: Sitting) -> list[Picture]:
    """Take one person's pictures. ``head`` is the path of the baked geometry."""
    studio = _studio(head)
    who = sitting.who
    person = find_person(studio, seed, who)
    sitter = Sitter(studio, person)
    pictures = []
    for number, regime in sitting.shots:
        rng = stream(seed, f"conditions/{who.purpose}", who.index, number)
        conditions = draw_conditions(rng, person, regime)
        jpeg = encode(render(sitter, conditions, size), conditions.jpeg)
        pictures.append(Picture(jpeg, describe(who.index, person, conditions)))
    return pictures


def save_attributes(folder: Path, known: Sequence[Attributes]) -> None:
    """Write a .npy (float32, in the pictures' order) for each attribute to a new ``folder``."""
    with whole_folder(folder) as new:
        for name, values in zip(Attributes._fields, np.array(known, np.float32).T, strict=True):
            np.save(new / f"{name}.npy", values)


def workers_available() -> int:
    """Return the number of processes to use: ``WORKERS`` in the environment, else all cores."""
    return max(1, int(os.environ.get("WORKERS", os.cpu_count() or 1)))


def produce(
    head: Path | str, seed: int, size: int, sittings: Sequence[Sitting], work: Path, *, what: str
) -> Iterator[list[Picture]]:
    """Yield each sitting's pictures, in order.

    Args:
        head: the baked geometry.
        seed: the experiment's.
        size: of the pictures in pixels.
        sittings: who sits, and for which pictures.
        work: where finished pictures are kept, so that a killed run goes on; it belongs to these
            arguments.
        what: labels the progress bar.

    Raises:
        InputError: ``head`` is not a baked geometry; the disk is full.
    """
    load_geometry(head)  # a bad file is reported here, once
    parts = cut(0, len(sittings), SITTINGS)

    def make(number: int) -> Arrays:
        chosen = [sittings[i] for i in parts[number]]
        pictures = [p for taken in _render(head, seed, size, chosen, what) for p in taken]
        return {
            "known": np.array([p.known for p in pictures], np.float32),
            "lengths": np.array([len(p.jpeg) for p in pictures], np.int64),
            "jpegs": np.frombuffer(b"".join(p.jpeg for p in pictures), np.uint8),
        }

    blocks = Blocks(work, make)
    blocks.finish(range(len(parts)), what)
    for number, part in enumerate(parts):
        arrays = blocks[number]
        content, ends = arrays["jpegs"].tobytes(), arrays["lengths"].cumsum()
        jpegs = (content[end - n : end] for end, n in zip(ends, arrays["lengths"], strict=True))
        pictures = map(Picture, jpegs, (Attributes(*row) for row in arrays["known"].tolist()))
        for i in part:
            yield list(islice(pictures, len(sittings[i].shots)))


def _render(
    head: Path | str, seed: int, size: int, sittings: Sequence[Sitting], what: str
) -> Iterator[list[Picture]]:
    bar = Progress(what=what, total=len(sittings), unit="person")
    workers = min(workers_available(), len(sittings))
    n = len(sittings)
    with bar, contextlib.ExitStack() as stack:
        arguments = [str(head)] * n, [seed] * n, [size] * n, sittings
        taken: Iterable[list[Picture]] = map(sit, *arguments)
        if workers > 1:
            pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
            stack.callback(pool.shutdown, cancel_futures=True)  # an interrupt does not wait for all
            taken = pool.map(sit, *arguments, chunksize=4)
        for pictures in taken:
            yield pictures
            bar.update()
