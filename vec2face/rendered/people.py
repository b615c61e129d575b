"""The traits of rendered people that stay, a pure function of (seed, purpose, index).

About 130 independent numbers give the shape of the face, skin, eyes, brows, lips, hair, beard, ears
and marks. What changes from picture to picture (age, pose, light, ...) is in conditions.py.
"""

from dataclasses import dataclass, replace

import numpy as np

from vec2face.randomness import stream
from vec2face.rendered.geometry import Geometry
from vec2face.rendered.makehuman import RACES

# The targets of local shape, and the standard deviations of their weights. ``*`` stands for a pair
# of opposites, such as nose-hump-decr and -incr, which are one trait of either sign. ``?`` stands
# for l and r, which move together.
SHAPES: dict[str, float] = {
    "head/head-scale-horiz-*": 0.40, "head/head-scale-vert-*": 0.35, "head/head-fat-*": 0.40,
    "head/head-oval": 0.30, "head/head-round": 0.35, "head/head-rectangular": 0.35,
    "head/head-square": 0.35, "head/head-triangular": 0.35, "head/head-invertedtriangular": 0.35,
    "head/head-diamond": 0.30, "head/head-scale-depth-*": 0.25, "head/head-angle-*": 0.15,
    "forehead/forehead-nubian-*": 0.40, "forehead/forehead-scale-vert-*": 0.50,
    "forehead/forehead-temple-*": 0.40, "forehead/forehead-trans-*": 0.40,
    "eyebrows/eyebrows-angle-*": 0.60, "eyebrows/eyebrows-trans-*": 0.45,
    "eyes/?-eye-bag-*": 0.50, "eyes/?-eye-corner1-*": 0.60, "eyes/?-eye-corner2-*": 0.70,
    "eyes/?-eye-epicanthus-*": 0.40, "eyes/?-eye-eyefold-angle-*": 0.50,
    "eyes/?-eye-eyefold-*": 0.50, "eyes/?-eye-height1-*": 0.35, "eyes/?-eye-height2-*": 0.45,
    "eyes/?-eye-height3-*": 0.35, "eyes/?-eye-push1-*": 0.40, "eyes/?-eye-push2-*": 0.40,
    "eyes/?-eye-scale-*": 0.45, "eyes/?-eye-trans-in": 0.40, "eyes/?-eye-trans-*": 0.35,
    "cheek/?-cheek-bones-*": 0.60, "cheek/?-cheek-inner-*": 0.45, "cheek/?-cheek-volume-*": 0.60,
    "cheek/?-cheek-trans-*": 0.40,
    "chin/chin-bones-*": 0.50, "chin/chin-cleft-*": 0.50, "chin/chin-height-*": 0.50,
    "chin/chin-jaw-drop-*": 0.50, "chin/chin-prognathism-*": 0.35, "chin/chin-prominent-*": 0.50,
    "chin/chin-triangle": 0.40, "chin/chin-width-*": 0.55,
    "nose/nose-base-*": 0.50, "nose/nose-compression-*": 0.40, "nose/nose-curve-*": 0.60,
    "nose/nose-flaring-*": 0.50, "nose/nose-greek-*": 0.50, "nose/nose-hump-*": 0.60,
    "nose/nose-nostrils-angle-*": 0.40, "nose/nose-nostrils-width-*": 0.50,
    "nose/nose-point-*": 0.50, "nose/nose-point-width-*": 0.60, "nose/nose-scale-depth-*": 0.50,
    "nose/nose-scale-horiz-*": 0.55, "nose/nose-scale-vert-*": 0.50, "nose/nose-trans-*": 0.35,
    "nose/nose-volume-*": 0.50, "nose/nose-width1-*": 0.50, "nose/nose-width2-*": 0.50,
    "nose/nose-width3-*": 0.50, "nose/nose-septumangle-*": 0.40,
    "mouth/mouth-angles-*": 0.50, "mouth/mouth-cupidsbow-*": 0.50, "mouth/mouth-dimples-*": 0.40,
    "mouth/mouth-laugh-lines-*": 0.40, "mouth/mouth-lowerlip-height-*": 0.60,
    "mouth/mouth-lowerlip-volume-*": 0.60, "mouth/mouth-lowerlip-width-*": 0.40,
    "mouth/mouth-philtrum-volume-*": 0.40, "mouth/mouth-scale-horiz-*": 0.60,
    "mouth/mouth-scale-vert-*": 0.45, "mouth/mouth-trans-*": 0.40,
    "mouth/mouth-upperlip-height-*": 0.60, "mouth/mouth-upperlip-volume-*": 0.60,
    "mouth/mouth-upperlip-width-*": 0.40,
    "ears/?-ear-flap-*": 0.50, "ears/?-ear-lobe-*": 0.60, "ears/?-ear-scale-*": 0.55,
    "ears/?-ear-wing-*": 0.60, "ears/?-ear-rot-*": 0.40, "ears/?-ear-trans-*": 0.30,
    "neck/neck-double-*": 0.40, "neck/neck-scale-horiz-*": 0.40,
    "asym/asym-brown-1-?": 0.30, "asym/asym-cheek-1-?": 0.35, "asym/asym-eye-1-?": 0.30,
    "asym/asym-jaw-1-?": 0.40, "asym/asym-mouth-1-?": 0.35, "asym/asym-nose-1-?": 0.45,
    "asym/asym-nose-3-?": 0.40,
}  # fmt: skip
OPPOSITES = (("decr", "incr"), ("down", "up"), ("in", "out"), ("backward", "forward"),
             ("concave", "convex"), ("compress", "uncompress"))  # fmt: skip

STRENGTH = 0.8  # factor on all the deviations above: people are distinct, but no caricatures

MARKS = 5  # moles a person may have
# In linear light: black, dark brown, brown, chestnut, red, dark blond, blond.
HAIR_COLOURS = np.array([[0.010, 0.009, 0.009], [0.035, 0.020, 0.013], [0.085, 0.045, 0.024],
                         [0.150, 0.062, 0.028], [0.300, 0.090, 0.025], [0.260, 0.160, 0.075],
                         [0.520, 0.370, 0.170]])  # fmt: skip
IRIS_COLOURS = np.array([[0.035, 0.016, 0.008], [0.090, 0.042, 0.016], [0.160, 0.100, 0.030],
                         [0.110, 0.150, 0.055], [0.080, 0.190, 0.340],
                         [0.220, 0.290, 0.330]])  # fmt: skip


@dataclass(frozen=True)
class Person:
    """Everything about one person that does not change from picture to picture."""

    female: bool
    age: float  # years, on ordinary pictures
    race: np.ndarray  # (3,) weights of RACES, sum 1
    weight: float  # from -1, thin, to 1, heavy
    shape: np.ndarray  # (K,) float32 weights of the local targets
    melanin: float  # from 0, fair, to 1, dark
    skin: np.ndarray  # (3,) linear albedo
    lips: np.ndarray  # (3,) linear albedo
    iris: np.ndarray  # (3,)
    hair: np.ndarray  # (3,) colour when young
    brow: np.ndarray  # (3,)
    greying: float  # age at which half the hair is grey
    paint: np.ndarray  # (32,) traits of the skin, one N(0, 1) each; texture.py names them
    moles: np.ndarray  # (MARKS, 3): x, y in dm and radius, 0 for none
    style: np.ndarray  # (8,) hair: length, volume, fringe, sweep, curl, hairline, recession, peak
    beard: float  # usual density, 0 for none
    glasses: float  # probability of wearing them
    seed: int  # of the noise in the skin


def _shape(rng: np.random.Generator, geometry: Geometry) -> np.ndarray:
    """Draw one normal number for each trait of shape, the weight of its target or the opposite."""
    weights = np.zeros(len(geometry.names), np.float32)
    rows = {name: i for i, name in enumerate(geometry.names)}
    for pattern, deviation in SHAPES.items():
        amount = float(np.clip(rng.standard_normal(), -2.2, 2.2)) * deviation * STRENGTH
        for side in "lr" if "?" in pattern else "-":
            name = pattern.replace("?", side)
            if name.startswith("asym"):  # the sign chooses one of the two sides
                name = pattern.replace("?", "l" if amount > 0 else "r")
            if not name.endswith("*"):
                weights[rows[name]] = abs(amount) if name.startswith(("head", "asym")) else amount
                continue
            for low, high in OPPOSITES:
                pair = name[:-1] + low, name[:-1] + high
                if pair[0] in rows and pair[1] in rows:
                    weights[rows[pair[amount > 0]]] = abs(amount)
                    break
    return weights


def _mix(colours: np.ndarray, place: float) -> np.ndarray:
    """Interpolate between neighbouring rows of ``colours`` at ``place`` in [0, rows - 1]."""
    low = min(int(place), len(colours) - 2)
    return colours[low] * (1 - (place - low)) + colours[low + 1] * (place - low)


def _skin(melanin: float, warmth: float, redness: float) -> np.ndarray:
    """Return the linear albedo (3,) of skin, from fair to dark, with two independent tints."""
    stops = np.array([[0.66, 0.47, 0.38], [0.56, 0.365, 0.26], [0.42, 0.235, 0.14],
                      [0.23, 0.115, 0.065], [0.085, 0.042, 0.026]])  # fmt: skip
    warmth, redness = np.clip([warmth, redness], -2, 2)
    tint = np.array([1 + 0.03 * redness, 1 + 0.015 * warmth - 0.04 * redness, 1 - 0.09 * warmth])
    return _mix(stops, 4 * melanin) * tint


def draw_person(
    geometry: Geometry,
    seed: int,
    purpose: str,
    index: int,
    *,
    female: bool | None = None,
    race: np.ndarray | None = None,
) -> Person:
    """Draw person ``index`` of the population ``purpose``, of a sex and ancestry if given.

    Traits follow ancestry loosely, as they do in people: any ancestry may have any trait.
    """
    rng = stream(seed, f"person/{purpose}", index)
    drawn = bool(rng.random() < 0.5)
    female = drawn if female is None else female
    mixture = rng.dirichlet([0.35] * len(RACES))
    race = mixture if race is None else race
    african, asian, caucasian = race
    dark = 0.80 * african + 0.36 * asian + 0.14 * caucasian
    melanin = float(np.clip(dark + 0.12 * rng.standard_normal(), 0.0, 1.0))
    skin = _skin(melanin, rng.standard_normal(), rng.standard_normal())
    pink = np.clip(0.5 + 0.3 * rng.standard_normal(), 0, 1)
    lips = skin * (1 - pink * np.array([0.15, 0.55, 0.45])) * (0.95 - 0.15 * rng.random())
    fair = np.clip(caucasian - 0.15 + 0.3 * rng.standard_normal(), 0, 1) * (1 - melanin) ** 0.7
    hair = _mix(HAIR_COLOURS, 6 * fair * rng.random() ** 0.6) * (0.8 + 0.4 * rng.random())
    iris = _mix(IRIS_COLOURS, 5 * np.clip(fair * 1.2, 0, 1) * rng.random() ** 0.5)
    brow = hair * (0.35 + 0.5 * rng.random())
    moles = np.zeros((MARKS, 3))
    for k in range(int(rng.integers(0, MARKS + 1))):
        moles[k] = rng.uniform(-0.62, 0.62), rng.uniform(6.42, 7.75), rng.uniform(0.012, 0.032)
    straight = 1.6 * african - 0.3
    style = rng.standard_normal(8)
    length = np.clip(0.68 * female + 0.14 + 0.22 * style[0], 0.0, 1.0)
    if rng.random() < 0.10 and not female:
        length = 0.0
    style = np.array([
        length,
        np.clip(0.13 + 0.05 * style[1] + 0.22 * max(straight, 0) * rng.random(), 0.04, 0.6),
        np.clip(0.10 + 0.22 * style[2], 0.0, 0.45) * (rng.random() < 0.6),
        0.9 * style[3], np.clip(straight + 0.5 * style[4], 0.0, 1.5),
        7.93 + 0.08 * style[5], np.clip(0.06 - 0.06 * female + 0.08 * style[6], 0, 0.3),
        np.clip(0.05 * style[7], -0.03, 0.12),
    ])  # fmt: skip
    return Person(
        female=female, age=float(rng.uniform(19, 62)), race=race,
        weight=float(np.clip(0.45 * rng.standard_normal(), -1, 1)),
        shape=_shape(rng, geometry), melanin=melanin, skin=skin, lips=lips, iris=iris, hair=hair,
        brow=brow, greying=float(rng.normal(56, 8)), paint=rng.standard_normal(32), moles=moles,
        style=style, beard=0.0 if female else float(np.clip(rng.normal(0.25, 0.4), 0.02, 1.0)),
        glasses=float(rng.random() < 0.15) * 0.85, seed=int(rng.integers(1 << 30)),
    )  # fmt: skip


def draw_lookalike(person: Person, other: Person, share: float) -> Person:
    """Return someone who looks like ``person``, with ``other`` mixed into shape and skin.

    ``share`` in [0, 1] is the weight of ``other``. The squares of both weights sum to 1, so that
    look-alikes are no plainer than other people.
    """
    keep = np.sqrt(1 - share**2)
    return replace(
        person,
        shape=(keep * person.shape + share * other.shape).astype(np.float32),
        paint=keep * person.paint + share * other.paint,
        iris=other.iris, moles=other.moles, seed=other.seed,
    )  # fmt: skip
