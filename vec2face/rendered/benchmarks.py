"""The rendered verification benchmarks: nine kinds of difficulty, in insightface's ``.bin`` layout.

Each benchmark has its own people, who are in no training store, and so has each fold. A group is
two people of the same sex, skin and age. It gives two genuine and two impostor pairs under the same
two regimes, so that only the faces tell genuine pairs from impostors.
"""

from dataclasses import replace
from pathlib import Path

from vec2face.faces.benchmarks import save_benchmark
from vec2face.rendered.conditions import Regime
from vec2face.rendered.produce import Picture, Sitting, Who, produce
from vec2face.runtime.files import InputError

FOLDS = 10
PAIRS_A_GROUP = 4

# Background, clothes, light and hair change from picture to picture.
_ANY = Regime(
    yaw=12, yaw_limit=35, pitch=7, age_spread=5, expression=1.3, light=0.45, exposure=0.35,
    background=1.0, restyle=0.4, extra_glasses=0.04, blur=1.0, noise=0.012, grey=0.03,
    jpeg=(70, 95), jitter=0.6, cast=0.05,
)  # fmt: skip

# Hadrian and Eclipse hold sharp pictures that were taken indoors, before a plain wall.
_INDOOR = replace(_ANY, background=0.0, blur=0.0, noise=0.004, grey=0.0, jpeg=(95, 95))

# The regimes of a pair's two pictures.
PAIRS: dict[str, tuple[Regime, Regime]] = {
    "lfw": (_ANY, _ANY),
    "cfp_fp": (replace(_ANY, yaw=4), replace(_ANY, yaw_mean=65, yaw=8, yaw_limit=90)),
    "cplfw": (replace(_ANY, yaw=20, yaw_limit=60), replace(_ANY, yaw_mean=48, yaw=9, yaw_limit=70)),
    "agedb_30": (replace(_ANY, age_range=(18, 32)), replace(_ANY, age_range=(60, 80))),
    "calfw": (replace(_ANY, age_range=(18, 38)), replace(_ANY, age_range=(48, 66))),
    "hadrian": (replace(_INDOOR, beard=0.0), replace(_INDOOR, beard=1.0)),
    "eclipse": (
        replace(_INDOOR, exposure_mean=-2.4, exposure=0.4, light=0.7),
        replace(_INDOOR, exposure_mean=1.3, exposure=0.3, light=0.7),
    ),
    "sllfw": (_ANY, _ANY),
    "doppelver": (_ANY, _ANY),
}
# How much of an independent person shows in an impostor; 1 in the other benchmarks.
UNLIKE = {"sllfw": 0.8, "doppelver": 0.65}


def _group(name: str, group: int) -> list[Sitting]:
    """Return two matched people with four pictures each: both regimes, for both kinds of pair."""
    first, second = PAIRS[name]
    shots = ((0, first), (1, second), (2, first), (3, second))
    female = False if name == "hadrian" else None  # only men's beards change
    one = Who(f"benchmark/{name}", 2 * group, female=female)
    unlike = UNLIKE.get(name, 1.0)
    other = Who(f"benchmark/{name}", 2 * group + 1, after=2 * group, unlike=unlike, female=female)
    return [Sitting(one, shots), Sitting(other, shots)]


def _pairs(one: list[Picture], other: list[Picture]) -> list[tuple[Picture, Picture, bool]]:
    return [
        (one[0], one[1], True),
        (one[2], other[3], False),
        (other[0], other[1], True),
        (other[2], one[3], False),
    ]


def write_benchmark(
    head: Path | str, path: Path | str, *, name: str, seed: int, pairs: int, size: int
) -> None:
    """Render benchmark ``name`` to ``path`` (.bin), ``pairs`` pairs in ten consecutive folds.

    Raises:
        InputError: ``name`` is not in ``PAIRS``, or ``pairs`` is not a multiple of 40.
    """
    if name not in PAIRS:
        raise InputError(
            f"rendered.benchmarks.names: no benchmark {name!r}; known: {', '.join(PAIRS)}"
        )
    if pairs % (FOLDS * PAIRS_A_GROUP) or pairs < 1:
        raise InputError(
            f"rendered.benchmarks.pairs: {pairs} is not a multiple of {FOLDS * PAIRS_A_GROUP}, "
            "so the folds would share people; choose such a number"
        )
    sittings = [s for group in range(pairs // PAIRS_A_GROUP) for s in _group(name, group)]
    taken = list(produce(head, seed, size, sittings, what=name))
    images: list[bytes] = []
    same: list[bool] = []
    for one, other in zip(taken[::2], taken[1::2], strict=True):
        for left, right, genuine in _pairs(one, other):
            images += [left.jpeg, right.jpeg]
            same.append(genuine)
    save_benchmark(path, images, same)
