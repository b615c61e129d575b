"""Render many people in a pool of processes.

A picture is a pure function of (seed, person, number), so the number of processes changes nothing.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from vec2face.faces.images import encode
from vec2face.randomness import stream
from vec2face.rendered.conditions import Regime, draw_conditions
from vec2face.rendered.geometry import load_geometry
from vec2face.rendered.people import Person, draw_lookalike, draw_match, draw_person
from vec2face.rendered.scene import Sitter, Studio, render
from vec2face.runtime.progress import Progress

ATTRIBUTES = ("yaw", "pitch", "age", "exposure", "blur")


@dataclass(frozen=True)
class Who:
    """Names a person of a population, who may be made to match another person of it."""

    purpose: str
    index: int
    after: int | None = None  # index of the other person
    unlike: float = 1.0  # 1: a match in sex, skin and age only; less: a look-alike (people.py)
    female: bool | None = None  # None: of either sex


@dataclass(frozen=True)
class Sitting:
    """One person and the pictures to take: for each its number in the random stream and regime."""

    who: Who
    shots: tuple[tuple[int, Regime], ...]


@dataclass(frozen=True)
class Picture:
    """An encoded picture and what is known about it."""

    jpeg: bytes
    yaw: float  # degrees
    pitch: float  # degrees
    age: float  # years
    exposure: float  # stops
    blur: float  # pixels


@cache
def _studio(path: str) -> Studio:
    return Studio(load_geometry(path))


def find_person(studio: Studio, seed: int, who: Who) -> Person:
    """Draw the person that ``who`` names."""
    person = draw_person(studio.geometry, seed, who.purpose, who.index, female=who.female)
    if who.after is None:
        return person
    model = draw_person(studio.geometry, seed, who.purpose, who.after, female=who.female)
    if who.unlike < 1:
        return draw_lookalike(model, person, who.unlike)
    return draw_match(model, person)


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
        known = (getattr(conditions, name) for name in ATTRIBUTES)
        pictures.append(Picture(jpeg, *known))
    return pictures


def workers_available() -> int:
    """Return the number of processes to use: ``WORKERS`` in the environment, else all cores."""
    return max(1, int(os.environ.get("WORKERS", os.cpu_count() or 1)))


def produce(
    head: Path | str, seed: int, size: int, sittings: Sequence[Sitting], *, what: str = "render"
) -> Iterator[list[Picture]]:
    """Yield each sitting's pictures, in order; ``what`` labels the progress bar.

    Raises:
        InputError: ``head`` is not a baked geometry.
    """
    load_geometry(head)  # a bad file is reported here, once
    bar = Progress(what=what, total=len(sittings), unit="person")
    workers = min(workers_available(), len(sittings))
    with bar:
        if workers <= 1:
            for sitting in sittings:
                yield sit(str(head), seed, size, sitting)
                bar.update()
            return
        context = get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            n = len(sittings)
            results = pool.map(sit, [str(head)] * n, [seed] * n, [size] * n, sittings, chunksize=4)
            for pictures in results:
                yield pictures
                bar.update()
