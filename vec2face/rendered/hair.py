"""Hair: a shell that is rooted in the scalp and cut to a style by a mask (numba)."""

import numpy as np
from numba import njit

from vec2face.rendered.geometry import HAIR_CENTRE, HAIR_DROP, Geometry
from vec2face.rendered.texture import RADIUS, hairline

MASK_ROWS, MASK_COLUMNS = 96, 192
SOFT = 0.10  # dm: width of the mask's ramp at the hair's edge
BALD = 0.03  # a shorter style shows nothing
BUZZ = 0.10  # a shorter style tints the scalp and has no shell


@njit(cache=True)
def _low_edge(x, length, fringe, sweep, front, recession, peak):
    """Return the height (dm) above which there is hair, x dm from the middle of the face."""
    ax = abs(x)
    edge = hairline(ax, front, recession, peak)
    if length > 0.42:  # covers the ears, then hangs down
        low = 7.05 - 1.6 * (length - 0.42) if length < 0.62 else 6.73 - 5.0 * (length - 0.62)
        t = min(max((ax - 1.00) / 0.16, 0.0), 1.0)
        edge = edge * (1 - t) + min(low, edge) * t
    if fringe > 0.02 and ax < 0.84:
        slope = min(max(1 + sweep * x / 0.7, 0.25), 1.75)
        t = min(max((0.84 - ax) / 0.22, 0.0), 1.0)
        edge = max(edge - fringe * slope * t, min(edge, 7.58))
    return edge


@njit(cache=True)
def _margins(heights, style, out):
    """Fill ``out`` with the height above the style's edge (dm), row 0 at the crown."""
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            x = ((i + 0.5) / out.shape[1] - 0.5) * 2 * np.pi * RADIUS
            edge = _low_edge(x, style[0], style[2], style[3], style[5], style[6], style[7])
            out[j, i] = heights[j, i] - edge


class HairLattice:
    """What the hair of all heads of one geometry shares: triangles and places on the map."""

    def __init__(self, geometry: Geometry) -> None:
        self.roots, self.weights = geometry.hair_vertices, geometry.hair_weights[..., None]
        self.offsets = geometry.hair_offsets
        rows, columns = self.roots.shape[:2]
        # Nothing is rooted at the ears: the lattice spans them from one side to the other.
        rooted = geometry.hair_weights.sum(-1) > 0
        self.before = np.zeros((rows, columns), np.int64)
        self.behind = np.zeros((rows, columns), np.int64)
        for row, found in enumerate(rooted):
            for column in range(columns):
                steps = np.arange(columns)
                self.before[row, column] = -steps[found[(column - steps) % columns]][0]
                self.behind[row, column] = steps[found[(column + steps) % columns]][0]
        span = self.behind - self.before
        self.share = (-self.before / np.maximum(span, 1))[..., None].astype(np.float32)
        here = np.arange(columns)
        self.before, self.behind = (self.before + here) % columns, (self.behind + here) % columns
        self.row = np.arange(rows)[:, None]
        at = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
        a, b, c, d = at[:-1], np.roll(at, -1, 1)[:-1], at[1:], np.roll(at, -1, 1)[1:]
        # This order of corners makes the normals point outwards.
        self.triangles = np.stack([a, c, b, b, c, d], -1).reshape(-1, 3)
        u = np.arange(columns + 1) / columns
        v = np.arange(rows) / (rows - 1)
        place = np.stack(np.broadcast_arrays(u[None, :], v[:, None]), -1)
        a, b, c, d = place[:-1, :-1], place[:-1, 1:], place[1:, :-1], place[1:, 1:]
        corners = np.stack([a, c, b, b, c, d], 2).reshape(-1, 3, 2)
        self.maps = corners.astype(np.float32)
        mean = self.roots_of(geometry.mean)
        self.heights = mean[..., 1]  # dm, of each lattice point on the mean head
        rows_at = np.linspace(0, rows - 1, MASK_ROWS)
        low = np.minimum(rows_at.astype(int), rows - 2)
        part = (rows_at - low)[:, None]
        by_row = self.heights[low] * (1 - part) + self.heights[low + 1] * part
        columns_at = (np.arange(MASK_COLUMNS) + 0.5) / MASK_COLUMNS * columns
        left = columns_at.astype(int)
        part = (columns_at - left)[None]
        right = (left + 1) % columns
        self.mask_heights = by_row[:, left % columns] * (1 - part) + by_row[:, right] * part

    def roots_of(self, vertices: np.ndarray) -> np.ndarray:
        """Return where the lattice lies on a head before it is raised: (rows, columns, 3)."""
        root = (vertices[self.roots] * self.weights).sum(2)
        root = (
            root[self.row, self.before] * (1 - self.share)
            + root[self.row, self.behind] * self.share
        )
        return root + self.offsets

    def grow(self, vertices: np.ndarray, style: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the shell's vertices (N, 3) and its mask (MASK_ROWS, MASK_COLUMNS, 1)."""
        mask = np.zeros((MASK_ROWS, MASK_COLUMNS), np.float32)
        if style[0] < BUZZ:
            return np.zeros((self.heights.size, 3), np.float32), mask[..., None]
        _margins(self.mask_heights, style, mask)
        root = self.roots_of(vertices)
        rows, columns = self.heights.shape
        margin = mask[np.linspace(0, MASK_ROWS - 1, rows).round().astype(int)]
        margin = margin[:, (np.arange(columns) * MASK_COLUMNS) // columns]
        outward = root - np.array(HAIR_CENTRE, np.float32)
        outward[self.offsets[..., 1] < 0, 1] = 0
        outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
        height = np.clip(margin / 0.35, 0, 1) ** 0.7
        volume = max(style[1], 0.04)
        # Long hair must clear the ears and flares a little as it falls.
        fall = -self.offsets[..., 1] / HAIR_DROP
        covers = 0.14 * (style[0] > 0.42) * np.clip((7.6 - self.heights) / 0.4, 0, 1)
        raise_by = (
            0.06 + volume * height + covers * np.clip(margin / 0.2, 0, 1) + 0.25 * np.sqrt(fall)
        )
        shell = root + outward * raise_by[..., None]
        mask = np.clip(0.5 + mask / (2 * SOFT), 0, 1)
        return shell.reshape(-1, 3).astype(np.float32), mask[..., None].astype(np.float32)
