"""What varies from picture to picture of one person, and how widely (a regime)."""

from dataclasses import dataclass

import numpy as np

from vec2face.rendered.people import Person


@dataclass(frozen=True)
class Regime:
    """How widely the conditions of a set of pictures vary.

    The defaults are those of ordinary pictures. The background is plain: a recognizer's features
    do not carry it, so a generator cannot learn it, and recognizers trained before plain
    backgrounds fail before busy ones.
    """

    yaw: float = 32.0  # degrees, standard deviation
    yaw_mean: float = 0.0  # degrees, to either side
    yaw_limit: float = 90.0
    pitch: float = 9.0
    age_spread: float = 13.0  # years about the person's age
    age_range: tuple[float, float] | None = None  # years, instead of the person's age
    expression: float = 1.3  # strength; 1 is mild
    light: float = 0.45  # from 0, even, to 1, hard and from anywhere
    exposure: float = 0.35  # stops, standard deviation
    exposure_mean: float = 0.0
    background: float = 0.0  # from 0, plain, to 1, busy
    restyle: float = 0.35  # probability of another hair style
    beard: float | None = None  # density; None: near the person's own
    extra_glasses: float = 0.0  # probability of glasses on anybody
    blur: float = 0.5  # largest standard deviation in pixels
    noise: float = 0.006  # largest standard deviation, of full scale
    grey: float = 0.0  # probability of a grey picture
    jpeg: tuple[int, int] = (90, 95)
    jitter: float = 0.6  # standard deviation of the landmarks in pixels of a 112-pixel crop
    cast: float = 0.04  # standard deviation of the light's colours


@dataclass(frozen=True)
class Conditions:
    """The conditions of one picture."""

    yaw: float  # degrees, positive: the face turns to the picture's right
    pitch: float  # degrees, positive: the face looks up
    age: float  # years
    exposure: float  # stops
    expression: dict[str, float]
    gaze: tuple[float, float]
    style: np.ndarray  # as Person.style
    hair_tone: float
    beard: float
    glasses: np.ndarray | None  # (5,) half width, half height, squareness, thickness, tone
    lights: np.ndarray  # (6, 3), the rows that raster.shade describes
    gloss: float
    flush: float
    cloth: np.ndarray  # (3,)
    collar: float
    background: np.ndarray  # (5, 3): two colours, and numbers for pattern
    distance: float  # dm from camera to head
    jitter: np.ndarray  # (5, 2) a detector's error, in pixels of a 112-pixel crop
    blur: float
    noise: float
    grey: bool
    jpeg: int
    seed: int


UNITS = "expression/units/"


def _expression(rng: np.random.Generator, strength: float) -> dict[str, float]:
    smile, opened, brows, frown, blink, pout = rng.standard_normal(6)
    smile = max(smile * 0.45 + 0.15, 0.0) * strength
    opened = max(opened * 0.16 - 0.05, 0.0) * strength
    raised = brows * 0.3 * strength
    slit = np.clip(blink * 0.25, -0.4, 0.5) * strength
    out = {
        "mouth-corner-puller": min(smile, 1.0),
        "mouth-retraction": 0.3 * min(smile, 1.0),
        "mouth-open": min(opened, 0.8),
        "mouth-part-later": min(0.35 * smile, 0.5),
        "mouth-pursing": max(pout - 1.0, 0.0) * 0.4 * strength,
        "mouth-depression": max(frown - 1.0, 0.0) * 0.5 * strength,
    }
    for side in ("left", "right"):
        out[f"eyebrows-{side}-up"] = max(raised, 0.0)
        out[f"eyebrows-{side}-down"] = max(-raised, 0.0) + max(frown - 0.8, 0.0) * 0.3 * strength
        out[f"eye-{side}-slit"] = max(slit, 0.0) + 0.15 * smile
        out[f"eye-{side}-opened-up"] = max(-slit, 0.0)
    return {UNITS + name: float(amount) for name, amount in out.items() if amount > 0.01}


def _direction(azimuth: float, elevation: float) -> list[float]:
    a, e = np.radians([azimuth, elevation])
    return [np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)]


def _lights(rng: np.random.Generator, regime: Regime) -> np.ndarray:
    hard = regime.light
    azimuth = float(np.clip(rng.normal(0, 20 + 55 * hard), -110, 110))
    elevation = float(np.clip(rng.normal(35, 8 + 18 * hard), -25, 80))
    strength = float(np.clip(rng.normal(0.85, 0.05 + 0.3 * hard), 0.25, 1.6))
    ambient = float(np.clip(rng.normal(0.62 - 0.30 * hard, 0.03 + 0.08 * hard), 0.12, 0.9))
    tint = 1 + regime.cast * rng.standard_normal((2, 3))
    sky = ambient * tint[0]
    return np.array([
        sky, 0.6 * sky, _direction(azimuth, elevation), strength * tint[1],
        _direction(-0.7 * azimuth + rng.normal(0, 10), 5.0), [0.18 * (1 - 0.6 * hard)] * 3,
    ])  # fmt: skip


def draw_conditions(rng: np.random.Generator, person: Person, regime: Regime) -> Conditions:
    """Draw one picture's conditions; only age, style, beard and glasses depend on the person."""
    yaw = regime.yaw_mean * (1 if rng.random() < 0.5 else -1) + regime.yaw * rng.standard_normal()
    yaw = float(np.clip(yaw, -regime.yaw_limit, regime.yaw_limit))
    pitch = float(np.clip(regime.pitch * rng.standard_normal(), -28, 28))
    if regime.age_range is None:
        age = person.age + regime.age_spread * rng.standard_normal()
    else:
        age = rng.uniform(*regime.age_range)
    lights = _lights(rng, regime)
    style = person.style.copy()
    if rng.random() < regime.restyle:
        length = 0.68 * person.female + 0.14 + 0.25 * rng.standard_normal()
        style[:4] = [np.clip(length, 0.08, 1.0), rng.uniform(0.05, 0.25),
                     rng.uniform(0, 0.4) * (rng.random() < 0.5), rng.standard_normal()]  # fmt: skip
    style[:4] += np.array([0.02, 0.012, 0.015, 0.08]) * rng.standard_normal(4) * (style[:4] != 0)
    beard = person.beard if regime.beard is None else regime.beard
    if not person.female:
        beard = float(np.clip(beard + 0.08 * rng.standard_normal(), 0.0, 1.0))
    else:
        beard = 0.0
    wears = rng.random() < person.glasses
    wears |= rng.random() < regime.extra_glasses
    frame = np.array([rng.uniform(0.21, 0.27), rng.uniform(0.15, 0.21), rng.uniform(2, 5),
                      rng.uniform(0.018, 0.04), rng.choice([0.01, 0.02, 0.05, 0.25])])  # fmt: skip
    plain = np.array([0.30, 0.32, 0.35]) * np.exp(0.06 * rng.standard_normal())
    wild = rng.uniform(0.01, 0.85, (2, 3))
    background = np.concatenate([
        plain + regime.background * (wild - plain), rng.uniform(0, 1, (3, 3)),
    ])  # fmt: skip
    background[4, 2] = regime.background
    cloth = np.array([0.10, 0.11, 0.14]) + max(regime.background, 0.1) * (
        rng.uniform(0.01, 0.7, 3) - 0.1
    )
    # The order of the draws below is part of the pictures' definition.
    return Conditions(
        yaw=yaw, pitch=pitch, age=float(np.clip(age, 16, 85)),
        exposure=float(regime.exposure_mean + regime.exposure * rng.standard_normal()),
        expression=_expression(rng, regime.expression),
        gaze=(float(0.10 * rng.standard_normal()), float(0.05 * rng.standard_normal())),
        style=style, hair_tone=float(np.exp(0.10 * rng.standard_normal())), beard=beard,
        glasses=frame if wears else None, lights=lights,
        gloss=float(rng.uniform(0.03, 0.09 + 0.10 * regime.light)),
        flush=float(max(0.03 * rng.standard_normal(), -0.03)), cloth=np.maximum(cloth, 0.01),
        collar=float(rng.uniform(0.10, 0.17)), background=background,
        distance=float(rng.uniform(8, 14)), jitter=regime.jitter * rng.standard_normal((5, 2)),
        blur=float(regime.blur * rng.random() ** 2),
        noise=regime.noise * float(rng.uniform(0.5, 1)),
        grey=bool(rng.random() < regime.grey),
        jpeg=int(rng.integers(regime.jpeg[0], regime.jpeg[1] + 1)), seed=int(rng.integers(1 << 30)),
    )  # fmt: skip
