"""The rendered verification benchmarks: nine kinds of difficulty, in insightface's ``.bin`` layout.

Each benchmark has its own people, who are in no training store, and so has each fold. A group is
two people; it gives two genuine and two impostor pairs. Who is an impostor, and what makes a
benchmark hard, follows the original of its name.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from vec2face.faces.benchmarks import save_benchmark
from vec2face.rendered.conditions import Regime
from vec2face.rendered.produce import Attributes, Picture, Sitting, Who, produce
from vec2face.runtime.files import InputError

FOLDS = 10
PAIRS_A_GROUP = 4


@dataclass(frozen=True)
class Kind:
    """What makes a benchmark hard.

    Attributes:
        first: the regime of a genuine pair's first picture.
        second: that of its second.
        impostors: another person at random, or one of the same sex and ancestry.
        alike: whether an impostor pair's pictures are both taken under one regime, in turn the
            first and the second, as a genuine pair's never are.
        unlike: how much of an independent person shows in an impostor (``draw_lookalike``).
        female: the sex of all, if it is one.
    """

    first: Regime
    second: Regime
    matched: bool = False
    alike: bool = False
    unlike: float = 1.0
    female: bool | None = None


_WEB = replace(Regime(), yaw=12, yaw_limit=35, extra_glasses=0.04)
# MORPH's pictures, of which Hadrian and Eclipse were made, are sharp and taken indoors.
_INDOOR = replace(_WEB, yaw=5, pitch=4, blur=0.0, noise=0.004, jpeg=(95, 95))

KINDS: dict[str, Kind] = {
    "lfw": Kind(_WEB, _WEB),
    "cfp_fp": Kind(replace(_WEB, yaw=4), replace(_WEB, yaw_mean=75, yaw=8, yaw_limit=90)),
    "cplfw": Kind(
        replace(_WEB, yaw=20, yaw_limit=60),
        replace(_WEB, yaw_mean=48, yaw=12, yaw_limit=80),
        matched=True,
    ),
    "agedb_30": Kind(replace(_WEB, age_range=(18, 32)), replace(_WEB, age_range=(60, 80))),
    "calfw": Kind(
        replace(_WEB, age_range=(18, 38)), replace(_WEB, age_range=(48, 66)), matched=True
    ),
    "hadrian": Kind(
        replace(_INDOOR, beard=0.0),
        replace(_INDOOR, beard=1.0),
        matched=True,
        alike=True,
        female=False,  # only men's beards change
    ),
    "eclipse": Kind(
        replace(_INDOOR, exposure_mean=-2.0, exposure=0.4, light=0.6),
        replace(_INDOOR, exposure_mean=1.2, exposure=0.3, light=0.6),
        matched=True,
        alike=True,
    ),
    "sllfw": Kind(_WEB, _WEB, matched=True, unlike=0.8),
    "doppelver": Kind(_WEB, _WEB, matched=True, unlike=0.65),
}


def _group(name: str, group: int) -> list[Sitting]:
    """Return two people with four pictures each, under both regimes in turn."""
    kind = KINDS[name]
    shots = tuple((number, (kind.first, kind.second)[number % 2]) for number in range(4))
    who = Who(f"benchmark/{name}", 2 * group, female=kind.female)
    other = replace(who, index=who.index + 1)
    if kind.matched:
        other = replace(other, after=who.index, unlike=kind.unlike)
    return [Sitting(who, shots), Sitting(other, shots)]


def _pairs(
    one: list[Picture], other: list[Picture], alike: bool
) -> list[tuple[Picture, Picture, bool]]:
    second = (2, 3) if alike else (3, 2)  # of ``other``, beside pictures 2 and 3 of ``one``
    return [
        (one[0], one[1], True),
        (one[2], other[second[0]], False),
        (other[0], other[1], True),
        (other[second[1]], one[3], False),
    ]


def write_benchmark(
    head: Path | str, path: Path | str, *, name: str, seed: int, pairs: int, size: int, work: Path
) -> list[Attributes]:
    """Render benchmark ``name`` to ``path`` (.bin), ``pairs`` pairs in ten consecutive folds.

    Finished pictures are kept in ``work`` (``produce``).

    Returns:
        What is known of the pictures, in their order: two for each pair.

    Raises:
        InputError: ``name`` is not in ``KINDS``, or ``pairs`` is not a multiple of 40.
    """
    if name not in KINDS:
        raise InputError(
            f"rendered.benchmarks.{name}: no such benchmark; known: {', '.join(KINDS)}"
        )
    if pairs % (FOLDS * PAIRS_A_GROUP) or pairs < 1:
        raise InputError(
            f"rendered.benchmarks.{name}: {pairs} is not a multiple of {FOLDS * PAIRS_A_GROUP}, "
            "so the folds would share people; choose such a number"
        )
    sittings = [s for group in range(pairs // PAIRS_A_GROUP) for s in _group(name, group)]
    taken = list(produce(head, seed, size, sittings, work, what=name))
    images: list[bytes] = []
    known: list[Attributes] = []
    same: list[bool] = []
    for one, other in zip(taken[::2], taken[1::2], strict=True):
        for left, right, genuine in _pairs(one, other, KINDS[name].alike):
            images += [left.jpeg, right.jpeg]
            known += [left.known, right.known]
            same.append(genuine)
    save_benchmark(path, images, same)
    return known
