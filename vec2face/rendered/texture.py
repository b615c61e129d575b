"""Paint one person's skin from the person's traits, in a few milliseconds (numba).

The map covers the cylinder around the head (geometry.py): u is the turn, v the height. Places on
it are in dm on the mean head: x runs along the skin from the middle of the face, y upwards. The
eyes lie at (+-0.29, 7.35), the tip of the nose at (0, 7.0), the mouth at (0, 6.68).
Channels: red, green, blue (linear albedo), beard density, wrinkles, scalp hair.
"""

import numpy as np
from numba import njit

from vec2face.rendered.geometry import MAP_BOTTOM, MAP_TOP
from vec2face.rendered.people import Person
from vec2face.rendered.raster import SKIN_CHANNELS, scatter

ROWS, COLUMNS = 256, 512
RADIUS = 1.08  # dm: x = turn * 2 pi * RADIUS

# The places of the traits in Person.paint.
(
    BROW_HEIGHT, BROW_THICKNESS, BROW_ARCH, BROW_TILT, BROW_INNER, BROW_OUTER, BROW_DENSITY,
    BROW_JOIN, FRECKLES, BLOTCHES, CHEEK_RED, NOSE_RED, CIRCLES, LID, LIP_UPPER, LIP_LOWER,
    LIP_WIDTH, LIP_EDGE, BIRTHMARK, BIRTH_X, BIRTH_Y, SCAR, SCAR_X, SCAR_Y, MOUSTACHE, GOATEE,
    JAW, CHEEK_LINE, FOREHEAD_LINES, FOLDS, LINER, PATCHES,
) = range(32)  # fmt: skip


@njit(cache=True)
def _noise(x: float, y: float, seed: int) -> float:
    i, j = int(np.floor(x)), int(np.floor(y))
    fx, fy = x - i, y - j
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    top = scatter(i + seed, j) * (1 - fx) + scatter(i + 1 + seed, j) * fx
    bottom = scatter(i + seed, j + 1) * (1 - fx) + scatter(i + 1 + seed, j + 1) * fx
    return top * (1 - fy) + bottom * fy


@njit(cache=True)
def _step(low: float, high: float, x: float) -> float:
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@njit(cache=True)
def _spot(x: float, y: float, cx: float, cy: float, sx: float, sy: float) -> float:
    """Return the height at (x, y) of a Gaussian spot of height 1."""
    q = ((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2
    return np.exp(-q) if q < 12 else 0.0


@njit(cache=True)
def hairline(x: float, front: float, recession: float, peak: float) -> float:
    """Return the height (dm) above which hair grows, x >= 0 dm from the middle of the face."""
    if x < 0.35:
        return front - peak * (1 - x / 0.35)
    if x < 0.62:
        return front + recession * (x - 0.35) / 0.27
    if x < 0.84:
        return front + recession + (7.55 - front - recession) * (x - 0.62) / 0.22
    if x < 1.00:
        return 7.55 - 0.40 * (x - 0.84) / 0.16
    if x < 1.28:
        return 7.15
    if x < 1.42:
        return 7.15 + 0.40 * (x - 1.28) / 0.14
    if x < 1.75:
        return 7.55
    if x < 2.0:
        return 7.55 - 0.8 * (x - 1.75) / 0.25
    return 6.75


@njit(cache=True)
def _complexion(c, x, y, ring, p, seed):
    """Paint blotches, redness, dark circles, lids, the lash line, freckles and pale patches."""
    ax = abs(x)
    blot = _noise(x * 5, y * 5, seed + 11) - 0.5
    fine = _noise(x * 24, y * 24, seed + 23) - 0.5
    grain = 0.4 + 0.3 * abs(p[BLOTCHES])
    tone = 1 + (0.06 + 0.05 * max(p[BLOTCHES], 0.0)) * blot + 0.10 * fine * grain
    red = (0.05 + 0.07 * p[CHEEK_RED]) * _spot(ax, y, 0.47, 6.98, 0.22, 0.18)
    red += (0.05 + 0.07 * p[NOSE_RED]) * _spot(ax, y, 0.0, 7.0, 0.13, 0.14)
    red += 0.08 * _spot(ax, y, 0.0, 6.42, 0.15, 0.1)
    red = max(red, -0.04)
    circle = (0.20 + 0.12 * p[CIRCLES]) * _spot(ax, y, 0.27, 7.235, 0.16, 0.055)
    lid = (0.14 + 0.12 * p[LID]) * _spot(ax, y, 0.30, 7.44, 0.17, 0.05)
    liner = (0.35 + 0.25 * p[LINER]) * np.exp(-(((ring - 1.0) / 0.35) ** 2))
    dark = 1 - max(circle, 0.0) - max(lid, 0.0) - 0.8 * max(liner, 0.0) * (y > 7.33)
    if p[FRECKLES] > 0.5:  # at most one freckle in a cell, on cheeks, nose and forehead
        where = _spot(ax, y, 0.30, 7.05, 0.32, 0.2) + 0.35 * _spot(ax, y, 0, 7.7, 0.5, 0.3)
        ci, cj = int(np.floor(x * 26)), int(np.floor(y * 26))
        if scatter(ci + seed, cj + 77) < where * min(p[FRECKLES] - 0.3, 1.0):
            ox = (ci + 0.3 + 0.4 * scatter(ci, cj + seed)) / 26
            oy = (cj + 0.3 + 0.4 * scatter(cj, ci + seed)) / 26
            dark *= 1 - 0.45 * _spot(x, y, ox, oy, 0.013, 0.013)
    if p[PATCHES] > 1.2:
        dark *= 1 + 0.5 * _step(0.60, 0.68, _noise(x * 2.6, y * 2.6, seed + 5))
    for k in range(3):
        c[k] *= tone * dark
    c[1] *= 1 - red
    c[2] *= 1 - red


@njit(cache=True)
def _marks(c, x, y, p, moles, seed):
    """Paint a birthmark, a scar and moles."""
    if p[BIRTHMARK] > 0.9:
        bx, by = 0.45 * p[BIRTH_X], 7.1 + 0.35 * p[BIRTH_Y]
        wobble = 1 + 0.8 * (_noise(x * 9, y * 9, seed + 3) - 0.5)
        size = (0.05 + 0.07 * (p[BIRTHMARK] - 0.9)) * wobble
        mark = 0.6 * _step(1.2, 0.7, np.sqrt((x - bx) ** 2 + (y - by) ** 2) / size)
        c[0] *= 1 - 0.55 * mark
        c[1] *= 1 - 0.85 * mark
        c[2] *= 1 - 0.75 * mark
    if p[SCAR] > 1.0:  # a pale line
        sx, sy = 0.4 * p[SCAR_X], 7.05 + 0.4 * p[SCAR_Y]
        along = (x - sx) * 0.6 + (y - sy) * 0.8
        across = (x - sx) * 0.8 - (y - sy) * 0.6
        scar = _step(0.17, 0.12, abs(along)) * np.exp(-((across / 0.013) ** 2))
        for k in range(3):
            c[k] *= 1 + 0.7 * scar
    for m in range(len(moles)):
        if moles[m, 2] > 0:
            r = np.sqrt((x - moles[m, 0]) ** 2 + (y - moles[m, 1]) ** 2)
            mole = 0.85 * _step(1.3, 0.7, r / moles[m, 2])
            for k in range(3):
                c[k] *= 1 - mole * (0.75 + 0.1 * k)


@njit(cache=True)
def _lips(c, x, y, p, lips, seed):
    """Paint two arcs about the line between the lips; the upper one has a Cupid's bow."""
    ax = abs(x)
    q = ax / (0.235 + 0.012 * p[LIP_WIDTH])
    if q >= 1:
        return
    upper, lower = 0.078 * np.exp(0.18 * p[LIP_UPPER]), 0.105 * np.exp(0.18 * p[LIP_LOWER])
    bow = 1 - 0.16 * np.exp(-((ax / 0.035) ** 2))
    top = 6.678 + upper * bow * (1 - q**2.2)
    low = 6.678 - lower * (1 - q**2.4) ** 0.8
    soft = 0.012 + 0.006 * max(p[LIP_EDGE], 0.0)
    lip = _step(-soft, soft, top - y) * _step(-soft, soft, y - low)
    crease = 1 - 0.12 * _noise(x * 60, y * 6, seed + 9)
    for k in range(3):
        c[k] = c[k] * (1 - lip) + lips[k] * crease * lip
    gap = np.exp(-(((y - 6.68) / 0.012) ** 2)) * (1 - q)
    for k in range(3):
        c[k] *= 1 - 0.55 * gap


@njit(cache=True)
def _brows(c, x, y, p, brow, seed):
    """Paint tapering arcs of slanted hairs, which may meet above the nose."""
    inner, outer = 0.105 + 0.022 * p[BROW_INNER], 0.50 + 0.035 * p[BROW_OUTER]
    s = (abs(x) - inner) / (outer - inner)
    if s <= -0.6 or s >= 1.1:
        return
    at = min(max(s, 0.0), 1.0)
    bend = np.sin(np.pi * min(at * 0.85 + 0.08, 1.0))
    line = 7.505 + 0.022 * p[BROW_HEIGHT] + 0.055 * p[BROW_TILT] * (at - 0.4)
    line += (0.045 + 0.025 * p[BROW_ARCH]) * bend
    half = 0.042 * np.exp(0.38 * p[BROW_THICKNESS]) * (1 - 0.62 * at**1.6)
    half *= 0.8 + 0.2 * _step(0.0, 0.15, at)
    hairs = 0.55 + 0.9 * _noise(x * 34 + np.sign(x) * y * 30, y * 14, seed + 31)
    body = _step(1.15, 0.55, abs(y - line) / half)
    ends = _step(-0.08, 0.06, s) * _step(1.06, 0.86, s)
    join = max(p[BROW_JOIN] - 0.9, 0.0) * 0.6
    ends = max(ends, join * _step(-0.7, 0.0, s) * (s < 0.1))
    cover = min(min(max(0.80 + 0.22 * p[BROW_DENSITY], 0.25), 1.0) * hairs * body * ends, 0.97)
    for k in range(3):
        c[k] = c[k] * (1 - cover) + brow[k] * cover


@njit(cache=True)
def _beard(x, y, p, seed):
    """Return the density of the beard: moustache, goatee and jaw vary separately."""
    ax = abs(x)
    stubble = 0.55 + 0.75 * _noise(x * 50, y * 50, seed + 41)
    must = _step(0.9, 0.5, abs(y - (6.84 - 0.25 * ax**1.2)) / 0.10)
    must *= _step(0.34, 0.24, ax) * min(max(0.8 + 0.4 * p[MOUSTACHE], 0.0), 1.0)
    goat = _step(0.30, 0.2, ax) * _step(6.60, 6.54, y) * min(max(0.8 + 0.4 * p[GOATEE], 0.0), 1.0)
    top = 6.62 + 0.07 * p[CHEEK_LINE] + 0.55 * _step(0.45, 1.15, ax)
    jaw = _step(0.10, -0.06, y - top) * _step(0.18, 0.34, ax)
    jaw *= min(max(0.7 + 0.5 * p[JAW], 0.0), 1.0)
    near_mouth = (ax / 0.25) ** 2 + ((y - 6.67) / 0.12) ** 2
    cover = max(must, goat, jaw) * stubble * _step(0.75, 1.15, near_mouth)
    return cover * _step(6.05, 6.3, y)


@njit(cache=True)
def _wrinkles(x, y, ring, p):
    """Return the depth of wrinkles: forehead, mouth folds, bags, crow's feet, frown lines."""
    ax = abs(x)
    wave = np.sin(y * (58 + 6 * p[FOREHEAD_LINES]) + 1.2 * np.sin(x * 4 + p[FOREHEAD_LINES]))
    lines = 0.5 * max(wave, 0.0) ** 2 * _spot(ax, y, 0.0, 7.75, 0.45, 0.13)
    fold = ax - (0.20 + 0.45 * (6.98 - y) * (1 + 0.2 * p[FOLDS]))
    lines += 0.9 * np.exp(-((fold / 0.022) ** 2)) * _spot(0.0, y, 0.0, 6.83, 1.0, 0.12)
    lines += 0.6 * np.exp(-(((ring - 2.6) / 0.5) ** 2)) * (y < 7.33) * (ax < 0.42)
    feet = np.sin(np.arctan2(y - 7.35, ax - 0.32) * 14)
    lines += 0.6 * max(feet, 0.0) ** 2 * _spot(ax, y, 0.58, 7.33, 0.07, 0.1)
    frown = np.exp(-(((ax - 0.055) / 0.014) ** 2))
    return lines + 0.5 * frown * _spot(0.0, y, 0.0, 7.5, 1.0, 0.08)


@njit(cache=True)
def _paint(out, p, skin, lips, brow, moles, line, seed):
    """Fill ``out`` texel by texel; ``p`` are the traits, ``line`` the hairline's three numbers."""
    rows, columns = out.shape[0], out.shape[1]
    for j in range(rows):
        y = MAP_BOTTOM + (j + 0.5) / rows * (MAP_TOP - MAP_BOTTOM)
        for i in range(columns):
            x = ((i + 0.5) / columns - 0.5) * 2 * np.pi * RADIUS
            ax = abs(x)
            c = out[j, i]
            c[:3] = skin
            c[3:5] = 0.0
            rough = 0.05 * (_noise(x * 30, y * 12, seed) - 0.5)
            c[5] = _step(-0.05, 0.07, y - hairline(ax, line[0], line[1], line[2]) + rough)
            if ax >= 1.45 or y <= 6.1 or y >= 8.15:
                continue
            ring = ((ax - 0.29) / 0.185) ** 2 + ((y - 7.352) / 0.085) ** 2  # 1 at the lids
            _complexion(c, x, y, ring, p, seed)
            _marks(c, x, y, p, moles, seed)
            if ax < 0.30 and 6.4 < y < 6.9:
                _lips(c, x, y, p, lips, seed)
            if 7.3 < y < 7.8:
                _brows(c, x, y, p, brow, seed)
            if y < 7.25:
                c[3] = _beard(x, y, p, seed)
            c[4] = _wrinkles(x, y, ring, p)


def paint_skin(person: Person) -> np.ndarray:
    """Paint a person's skin: (ROWS, COLUMNS, 6) float32, row 0 at the bottom."""
    out = np.empty((ROWS, COLUMNS, SKIN_CHANNELS), np.float32)
    traits = np.clip(person.paint, -2.5, 2.5).copy()
    # Freckles show on fair skin, pale patches on dark.
    traits[FRECKLES] -= 3 * person.melanin - 0.5
    traits[PATCHES] -= 0.4 if person.melanin > 0.4 else 2.0
    if person.female:
        traits[BROW_THICKNESS] -= 0.7
        traits[LINER] += 0.8
    _paint(out, traits, person.skin, person.lips, person.brow, person.moles,
           person.style[5:8], person.seed % 100_000)  # fmt: skip
    return out
