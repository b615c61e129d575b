"""Z-buffer rasteriser and pixel shader for one head (numba, one thread, no fast-math).

``rasterise`` finds the nearest triangle of each pixel, then ``shade`` colours each pixel once. The
picture is drawn at twice its size and ``halve`` averages it over 2x2 pixels, in linear light.

The picture's y points down, so a triangle that faces the camera has negative signed area.
"""

import numpy as np
from numba import njit

from vec2face.rendered.makehuman import EYE_LEFT, EYE_RIGHT, LASHES, SKIN, TEETH, TONGUE

HAIR, GLASSES = 6, 7  # parts that the scene adds to those of the head
SKIN_CHANNELS = 6  # red, green, blue, beard, wrinkles, scalp hair


@njit(cache=True)
def scatter(x: int, y: int) -> float:
    """Map two integers to noise in [0, 1), the same on every machine."""
    h = (x * 374761393 + y * 668265263) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((h ^ (h >> 16)) & 0xFFFF) / 65536.0


@njit(cache=True)
def strands(u: float, columns: float) -> float:
    """Return smooth noise in [0, 1) along one axis, with ``columns`` values over a unit."""
    x = u * columns
    i = int(np.floor(x))
    f = x - i
    f = f * f * (3 - 2 * f)
    return scatter(i, 7) * (1 - f) + scatter(i + 1, 7) * f


@njit(cache=True)
def cell(height: int, width: int, u: float, v: float) -> tuple[int, int, int, float, float]:
    """Return where (u, v) lies: its upper row, its left and right column, and how far in (x, y)."""
    x = u * width - 0.5
    y = min(max(v * height - 0.5, 0.0), height - 1.001)
    i, j = int(np.floor(x)), int(np.floor(y))
    return j, i % width, (i + 1) % width, x - i, y - j


@njit(cache=True)
def bilinear(image: np.ndarray, u: float, v: float, channel: int) -> float:
    """Sample one channel of (H, W, C) at u (modulo 1, along W) and v in [0, 1] (along H)."""
    j, a, b, fx, fy = cell(image.shape[0], image.shape[1], u, v)
    top = image[j, a, channel] * (1 - fx) + image[j, b, channel] * fx
    bottom = image[j + 1, a, channel] * (1 - fx) + image[j + 1, b, channel] * fx
    return top * (1 - fy) + bottom * fy


@njit(cache=True)
def sample(image: np.ndarray, u: float, v: float, out: np.ndarray) -> None:
    """Write every channel to ``out`` (C,), sampled as ``bilinear`` does."""
    j, a, b, fx, fy = cell(image.shape[0], image.shape[1], u, v)
    for channel in range(image.shape[2]):
        top = image[j, a, channel] * (1 - fx) + image[j, b, channel] * fx
        bottom = image[j + 1, a, channel] * (1 - fx) + image[j + 1, b, channel] * fx
        out[channel] = top * (1 - fy) + bottom * fy


@njit(cache=True)
def rasterise(screen, triangles, parts, maps, hair_mask, curl, nearest, depth, weights):
    """Fill ``nearest`` (triangle or -1), ``depth`` and ``weights`` (two barycentric) in place.

    ``screen`` is (V, 3): x and y in pixels of the supersampled picture, z growing to the camera.
    Hair is left out where ``hair_mask`` (H, W, 1) plus the noise of strands is below one half.
    """
    size = nearest.shape[0]
    nearest[:] = -1
    depth[:] = -1e9
    for f in range(len(triangles)):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ax, ay, bx, by = screen[a, 0], screen[a, 1], screen[b, 0], screen[b, 1]
        cx, cy = screen[c, 0], screen[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        part = parts[f]
        if area == 0 or (area > 0 and part <= EYE_RIGHT):
            continue
        left = max(int(np.ceil(min(ax, bx, cx) - 0.5)), 0)
        right = min(int(np.floor(max(ax, bx, cx) - 0.5)), size - 1)
        top = max(int(np.ceil(min(ay, by, cy) - 0.5)), 0)
        bottom = min(int(np.floor(max(ay, by, cy) - 0.5)), size - 1)
        if left > right or top > bottom:
            continue
        if part == HAIR and (
            max(bilinear(hair_mask, maps[f, 0, 0], maps[f, 0, 1], 0),
                bilinear(hair_mask, maps[f, 1, 0], maps[f, 1, 1], 0),
                bilinear(hair_mask, maps[f, 2, 0], maps[f, 2, 1], 0)) <= 0.0
        ):  # fmt: skip
            continue
        az, bz, cz = screen[a, 2], screen[b, 2], screen[c, 2]
        # Barycentric weights are linear in x and y: their values at (0, 0) and their slopes.
        ax_slope, ay_slope = (by - cy) / area, (cx - bx) / area
        bx_slope, by_slope = (cy - ay) / area, (ax - cx) / area
        a0 = (bx * cy - by * cx) / area
        b0 = (cx * ay - cy * ax) / area
        for y in range(top, bottom + 1):
            py = y + 0.5
            for x in range(left, right + 1):
                px = x + 0.5
                wa = a0 + ax_slope * px + ay_slope * py
                wb = b0 + bx_slope * px + by_slope * py
                wc = 1 - wa - wb
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                z = wa * az + wb * bz + wc * cz
                if z <= depth[y, x]:
                    continue
                if part == HAIR:
                    u = wa * maps[f, 0, 0] + wb * maps[f, 1, 0] + wc * maps[f, 2, 0]
                    v = wa * maps[f, 0, 1] + wb * maps[f, 1, 1] + wc * maps[f, 2, 1]
                    ragged = strands(u + curl * np.sin(v * 60), 160.0) - 0.5
                    if bilinear(hair_mask, u, v, 0) + 0.35 * ragged < 0.5:
                        continue
                elif part == LASHES and (x + 2 * y) % 3 != 0:  # one pixel of three is drawn
                    continue
                depth[y, x] = z
                nearest[y, x] = f
                weights[y, x, 0] = wa
                weights[y, x, 1] = wb


@njit(cache=True)
def _eye(u, v, gaze_x, gaze_y, iris, out):
    """Colour one point of an eyeball: sclera, limbal ring, iris with rays, pupil, glint."""
    x, y = u - gaze_x, v - gaze_y
    r = np.sqrt(x * x + y * y)
    shade = 0.68 - 0.30 * min(abs(u), 1.0) ** 2
    out[0], out[1], out[2] = shade, shade * 0.96, shade * 0.93
    if r < 0.50:
        rays = 0.75 + 0.5 * scatter(int(np.floor(np.arctan2(y, x) * 6)), 3)
        edge = 1.0 - 0.75 * min(max((r - 0.36) / 0.12, 0.0), 1.0)
        for k in range(3):
            out[k] = iris[k] * rays * edge
        if r < 0.19:
            out[0], out[1], out[2] = 0.008, 0.008, 0.008
    gx, gy = x + 0.14, y - 0.16
    if gx * gx + gy * gy < 0.012:
        out[0], out[1], out[2] = 0.8, 0.8, 0.8


@njit(cache=True)
def shade(triangles, parts, maps, normals, occlusion, skin, look, lights, nearest, weights, out):
    """Colour every covered pixel of ``out`` (S, S, 3), in linear light; leave the others.

    ``look`` (8, 3) has the rows that ``scene`` gathers. The rows of ``lights`` (6, 3) are sky,
    ground, direction and colour of the key light, direction and colour of the fill light.
    """
    size = nearest.shape[0]
    albedo = np.zeros(3)
    half = np.zeros(3)
    painted = np.zeros(skin.shape[2])
    iris, hair, beard, cloth, frame = look[0], look[1], look[2], look[3], look[4]
    gaze_x, gaze_y, collar = look[5, 0], look[5, 1], look[5, 2]
    beard_amount, wrinkles, scalp = look[6, 0], look[6, 1], look[6, 2]
    gloss, curl, flush = look[7, 0], look[7, 1], look[7, 2]
    for k in range(3):
        half[k] = lights[2, k] + (1.0 if k == 2 else 0.0)
    half /= np.sqrt((half * half).sum())
    for y in range(size):
        for x in range(size):
            f = nearest[y, x]
            if f < 0:
                continue
            a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            wa, wb = weights[y, x, 0], weights[y, x, 1]
            wc = 1 - wa - wb
            nx = wa * normals[a, 0] + wb * normals[b, 0] + wc * normals[c, 0]
            ny = wa * normals[a, 1] + wb * normals[b, 1] + wc * normals[c, 1]
            nz = wa * normals[a, 2] + wb * normals[b, 2] + wc * normals[c, 2]
            length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9
            nx, ny, nz = nx / length, ny / length, nz / length
            open_sky = wa * occlusion[a] + wb * occlusion[b] + wc * occlusion[c]
            u = wa * maps[f, 0, 0] + wb * maps[f, 1, 0] + wc * maps[f, 2, 0]
            v = wa * maps[f, 0, 1] + wb * maps[f, 1, 1] + wc * maps[f, 2, 1]
            part = parts[f]
            specular, power = 0.0, 16
            if part == SKIN:
                if v < collar + 0.06 * abs(u - 0.5):
                    for k in range(3):
                        albedo[k] = cloth[k]
                else:
                    sample(skin, u, v, painted)
                    hairs = min(painted[3] * beard_amount, 0.92)
                    lines = 1 - wrinkles * painted[4]
                    head = painted[5] * scalp
                    for k in range(3):
                        base = painted[k] * lines
                        base = base * (1 - hairs) + beard[k] * hairs
                        albedo[k] = base * (1 - head) + hair[k] * 0.7 * head
                    albedo[1] *= 1 - flush
                    albedo[2] *= 1 - flush
                    specular, power = gloss * (1 - hairs) * (1 - head), 16
            elif part in (EYE_LEFT, EYE_RIGHT):
                _eye(u, v, gaze_x, gaze_y, iris, albedo)
                open_sky = 0.35 + 0.65 * open_sky
                specular, power = 0.15, 64
            elif part == TEETH:
                albedo[0], albedo[1], albedo[2] = 0.72, 0.68, 0.58
                open_sky = max(open_sky, 0.45)
            elif part == TONGUE:
                albedo[0], albedo[1], albedo[2] = 0.40, 0.13, 0.12
            elif part == LASHES:
                albedo[0], albedo[1], albedo[2] = 0.02, 0.015, 0.012
            elif part == HAIR:
                wave = u + curl * np.sin(v * 60 + 3 * strands(u, 40.0))
                light = 0.55 + 0.45 * strands(wave, 190.0) + 0.35 * strands(wave + 0.37, 60.0)
                for k in range(3):
                    albedo[k] = hair[k] * light
                open_sky = 0.55 + 0.4 * open_sky
                specular, power = 0.10 + 0.15 * gloss, 8
            else:
                for k in range(3):
                    albedo[k] = frame[k]
                specular, power = 0.2, 32
            up = 0.5 + 0.5 * ny
            key = nx * lights[2, 0] + ny * lights[2, 1] + nz * lights[2, 2]
            key = max((key + 0.15) / 1.15, 0.0) * min(1.0, 0.25 + 1.1 * open_sky)
            fill = nx * lights[4, 0] + ny * lights[4, 1] + nz * lights[4, 2]
            fill = max(0.5 + 0.5 * fill, 0.0) ** 2 * open_sky
            shine = max(nx * half[0] + ny * half[1] + nz * half[2], 0.0)
            while power > 1:  # a power of two, by squaring
                shine *= shine
                power //= 2
            shine *= specular * open_sky
            for k in range(3):
                ambient = (lights[0, k] * up + lights[1, k] * (1 - up)) * open_sky
                light = ambient + key * lights[3, k] + fill * lights[5, k]
                out[y, x, k] = albedo[k] * light + shine * lights[3, k]


@njit(cache=True)
def halve(picture: np.ndarray) -> np.ndarray:
    """Average (2S, 2S, 3) over 2x2 pixels: (S, S, 3)."""
    size = picture.shape[0] // 2
    out = np.zeros((size, size, 3), np.float32)
    for y in range(size):
        for x in range(size):
            for k in range(3):
                out[y, x, k] = 0.25 * (
                    picture[2 * y, 2 * x, k] + picture[2 * y, 2 * x + 1, k]
                    + picture[2 * y + 1, 2 * x, k] + picture[2 * y + 1, 2 * x + 1, k]
                )  # fmt: skip
    return out
