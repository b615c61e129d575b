"""The geometry of the head, baked once from MakeHuman's data (makehuman.py).

The baked head holds head, neck and shoulders of the base mesh, with eyes, lashes, teeth and tongue,
and every target (blendshape) that moves them. It also holds what depends on the mean head only: map
coordinates, ambient occlusion, and the lattice on which hair grows. So rendering is cheap.

Axes: x points to the subject's left, y up, z out of the face; lengths are in dm.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numba import njit

from vec2face.faces.reading import read_npz, reading
from vec2face.rendered.makehuman import (
    EYE_LEFT,
    EYE_RIGHT,
    GENDERS,
    RACES,
    SKIN,
    TEETH,
    fetch,
    read_wheel,
)  # fmt: skip
from vec2face.runtime.files import whole_file

CUT = 5.3  # dm: below this height the body is never in the picture
MAP_BOTTOM, MAP_TOP = 5.2, 8.7  # dm: heights at v = 0 and v = 1 of the cylindrical skin map
AXIS = 0.3  # dm: z of the vertical axis of that cylinder
HAIR_CENTRE = (0.0, 7.35, 0.25)  # dm: the point from which the hair lattice looks outwards
HAIR_COLUMNS, HAIR_ROWS = 72, 40  # the lattice: azimuths by steps from the crown downwards
HAIR_DROP = 2.4  # dm: how far below the eyes its last row hangs


@dataclass(frozen=True)
class Geometry:
    """The baked head: V vertices, T triangles, K targets."""

    vertices: np.ndarray  # (V, 3) float32 dm, the base mesh
    triangles: np.ndarray  # (T, 3) int32
    parts: np.ndarray  # (T,) uint8: SKIN, EYE_LEFT, ...
    maps: np.ndarray  # (T, 3, 2) float32: each corner's place (u, v) on its part's map
    occlusion: np.ndarray  # (V,) float32 in [0, 1]: share of the sky each vertex sees
    names: tuple[str, ...]  # (K,) names of the targets
    deltas: np.ndarray  # (K, V, 3) float32 dm
    mean: np.ndarray  # (V, 3) float32 dm: the mean adult
    landmarks: np.ndarray  # (5,) int32 vertices: eyes (0, 1: any of the eyeball), nose, mouth L, R
    eyeballs: tuple[np.ndarray, np.ndarray]  # vertices of the subject's left and right eye
    hair_vertices: np.ndarray  # (rows, columns, 3) int32: where the hair lattice is rooted
    hair_weights: np.ndarray  # (rows, columns, 3) float32, sum 1, or 0 at the ears
    hair_offsets: np.ndarray  # (rows, columns, 3) float32 dm, added to the roots

    def index(self, name: str) -> int:
        """Return the row of the target called ``name``."""
        return self.names.index(name)


def _mean_adult(base: np.ndarray, targets: dict[str, np.ndarray]) -> np.ndarray:
    head = base.copy()
    for gender in GENDERS:
        head += targets[f"universal-{gender}-young-averagemuscle-averageweight"] / 2
        for race in RACES:
            head += targets[f"{race}-{gender}-young"] / 6
    return head


def _map_places(mean: np.ndarray, triangles: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return each corner's (u, v): on the skin turn and height, on an eyeball x and y across it.

    The turn about the head's axis is 0.5 straight ahead.
    """
    u = np.arctan2(mean[:, 0], mean[:, 2] - AXIS) / (2 * np.pi) + 0.5
    v = (mean[:, 1] - MAP_BOTTOM) / (MAP_TOP - MAP_BOTTOM)
    places = np.stack([u, v], -1)[triangles]
    # A triangle over the seam at the back goes on beyond 1; the map is read modulo 1.
    turn = places[..., 0]
    wraps = (np.ptp(turn, axis=1) > 0.5)[:, None] & (turn < 0.5)
    places[..., 0] = turn + wraps
    for part in (EYE_LEFT, EYE_RIGHT):
        chosen = parts == part
        ball = mean[np.unique(triangles[chosen])]
        centre = (ball.min(0) + ball.max(0)) / 2
        radius = np.ptp(ball[:, 0]) / 2
        local = (mean[triangles[chosen]] - centre) / radius
        # The back of the ball must not show the iris.
        behind = local[..., 2:] < 0
        places[chosen] = np.where(behind, np.sign(local[..., :2]) * 2, local[..., :2])
    return places


@njit(cache=True)
def _sky(points, normals, directions, a, ab, ac):  # pragma: no cover - compiled
    """Return the share of ``directions`` about each normal that leaves the mesh, (V,)."""
    seen = np.zeros(len(points))
    for p in range(len(points)):
        n = normals[p]
        helper = np.array([1.0, 0.0, 0.0]) if abs(n[0]) < 0.7 else np.array([0.0, 1.0, 0.0])
        s = np.cross(n, helper)
        s /= np.sqrt((s * s).sum())
        t = np.cross(n, s)
        origin = points[p] + n * 0.004
        for k in range(len(directions)):
            d = directions[k, 0] * s + directions[k, 1] * t + directions[k, 2] * n
            free = True
            for f in range(len(a)):
                # Moller and Trumbore (1997); a triangle blocks the way from both sides.
                px = d[1] * ac[f, 2] - d[2] * ac[f, 1]
                py = d[2] * ac[f, 0] - d[0] * ac[f, 2]
                pz = d[0] * ac[f, 1] - d[1] * ac[f, 0]
                det = ab[f, 0] * px + ab[f, 1] * py + ab[f, 2] * pz
                if abs(det) < 1e-12:
                    continue
                x, y, z = origin[0] - a[f, 0], origin[1] - a[f, 1], origin[2] - a[f, 2]
                u = (x * px + y * py + z * pz) / det
                if u < 0 or u > 1:
                    continue
                qx = y * ab[f, 2] - z * ab[f, 1]
                qy = z * ab[f, 0] - x * ab[f, 2]
                qz = x * ab[f, 1] - y * ab[f, 0]
                v = (d[0] * qx + d[1] * qy + d[2] * qz) / det
                if v < 0 or u + v > 1:
                    continue
                if (ac[f, 0] * qx + ac[f, 1] * qy + ac[f, 2] * qz) / det > 1e-4:
                    free = False
                    break
            seen[p] += free
    return seen / len(directions)


@njit(cache=True)
def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return area-weighted unit vertex normals (V, 3)."""
    out = np.zeros_like(vertices)
    for f in range(len(triangles)):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ux, uy, uz = (vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1],
                      vertices[b, 2] - vertices[a, 2])  # fmt: skip
        vx, vy, vz = (vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1],
                      vertices[c, 2] - vertices[a, 2])  # fmt: skip
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            out[i, 0] += nx
            out[i, 1] += ny
            out[i, 2] += nz
    for i in range(len(out)):
        length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2) + 1e-12
        for k in range(3):
            out[i, k] /= length
    return out


def _occlusion(mean: np.ndarray, triangles: np.ndarray, parts: np.ndarray) -> np.ndarray:
    directions = np.random.default_rng(0).standard_normal((24, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions[:, 2] += 1  # a uniform sphere on top of the normal is cosine-distributed
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    solid = triangles[(parts == SKIN) | (parts == TEETH)]
    a, b, c = (mean[solid[:, k]] for k in range(3))
    return _sky(mean, vertex_normals(mean, triangles), directions, a, b - a, c - a)


def _hair_lattice(mean: np.ndarray, skin: np.ndarray, ears: np.ndarray):
    """Root a lattice around the head in the skin.

    Each root is the outermost point of the skin on a ray from HAIR_CENTRE. Triangles of ``skin``
    that belong to the ears are left out; the roots there have weights 0, and hair.py bridges them.

    Returns:
        Vertices, weights and offsets as in ``Geometry``.
    """
    skin = skin[~ears[skin].any(1) & (mean[skin, 1].min(1) > 6.6)]
    corners = mean[skin] - np.array(HAIR_CENTRE)
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    volumes = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], 1)
    vertices = np.zeros((HAIR_ROWS, HAIR_COLUMNS, 3), np.int32)
    weights = np.zeros((HAIR_ROWS, HAIR_COLUMNS, 3), np.float32)
    offsets = np.zeros((HAIR_ROWS, HAIR_COLUMNS, 3), np.float32)
    for row in range(HAIR_ROWS):
        t = row / (HAIR_ROWS - 1)
        offsets[row, :, 1] = -HAIR_DROP * max(0.0, 2 * t - 1)
        elevation = np.pi / 2 * (1 - 2 * t)
        if elevation < 0:  # hangs from the row at the eyes' height
            vertices[row], weights[row] = vertices[row - 1], weights[row - 1]
            continue
        for column in range(HAIR_COLUMNS):
            azimuth = 2 * np.pi * (column / HAIR_COLUMNS - 0.5)
            aim = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation),
                            np.cos(azimuth) * np.cos(elevation)])  # fmt: skip
            # The crown may lie on an edge of two triangles, so the ray leans a little.
            share = volumes @ (aim + [1e-5, 0, 2e-5])  # (F, 3), one sign where the ray passes
            total = np.where(share.sum(1) == 0, 1, share.sum(1))
            share /= total[:, None]
            reach = np.einsum("fk,fkd,d->f", share, corners, aim)
            reach[(share < 0).any(1)] = -1
            best = int(np.argmax(reach))
            if reach[best] > 0:
                vertices[row, column], weights[row, column] = skin[best], share[best]
    return vertices, weights, offsets


def bake(wheel: Path | str, path: Path | str) -> None:
    """Read the wheel and write the head to ``path`` (.npz, about 1 MB, displacements in int16).

    Raises:
        InputError: the wheel is another version that lacks a member.
    """
    base, faces, groups, targets = read_wheel(wheel)
    corners, parts = [], []
    for part, face in faces:
        if min(base[face, 1]) > CUT:
            for k in range(1, len(face) - 1):  # quadrilaterals become two triangles
                corners.append([face[0], face[k], face[k + 1]])
                parts.append(part)
    kept, flat = np.unique(np.array(corners), return_inverse=True)
    triangles = flat.reshape(-1, 3).astype(np.int32)
    part_array = np.array(parts, np.uint8)
    base = base[kept]
    targets = {n: d[kept] for n, d in targets.items()}
    mean = _mean_adult(base, targets)
    targets = {n: d for n, d in targets.items() if np.abs(d).max() > 1e-4}

    ears = sum(np.abs(d).max(1) for n, d in targets.items() if n.startswith("ears/")) > 1e-3
    skin = np.unique(triangles[part_array == SKIN])
    middle = skin[np.abs(mean[skin, 0]) < 0.02]
    middle = middle[(mean[middle, 1] > 6.75) & (mean[middle, 1] < 7.2)]
    nose = middle[np.argmax(mean[middle, 2])]
    new = {old: i for i, old in enumerate(kept)}
    balls = [[new[i] for a, b in groups[f"helper-{side}-eye"] for i in range(a, b + 1) if i in new]
             for side in "lr"]  # fmt: skip
    # The mouth's left corner: the vertex that the two stretches of the mouth move apart most.
    stretch = targets["mouth/mouth-scale-horiz-incr"]
    left = skin[np.argmax(stretch[skin, 0])]
    mirrored = np.abs(mean[skin] - mean[left] * [-1, 1, 1]).sum(1)
    right = skin[np.argmin(mirrored)]
    hair = _hair_lattice(mean, triangles[part_array == SKIN], ears)

    deltas = np.stack(list(targets.values()))
    step = np.maximum(np.abs(deltas).max(axis=(1, 2)), 1e-6) / 32767
    content = {
        "vertices": base.astype(np.float32),
        "triangles": triangles,
        "parts": part_array,
        "maps": _map_places(mean, triangles, part_array).astype(np.float32),
        "occlusion": _occlusion(mean, triangles, part_array).astype(np.float32),
        "names": np.array(list(targets)),
        "steps": step,
        "deltas": np.round(deltas / step[:, None, None]).astype(np.int16),
        "mean": mean.astype(np.float32),
        "landmarks": np.array([balls[0][0], balls[1][0], nose, left, right], np.int32),
        "ball_left": np.array(balls[0]),
        "ball_right": np.array(balls[1]),
        "hair_vertices": hair[0],
        "hair_weights": hair[1],
        "hair_offsets": hair[2],
    }
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **content)


def download_and_bake(path: Path | str) -> None:
    """Fetch the wheel into a temporary folder and bake it to ``path``."""
    with tempfile.TemporaryDirectory() as folder:
        bake(fetch(folder), path)


def load_geometry(path: Path | str) -> Geometry:
    """Read a baked head.

    Raises:
        InputError: the file is missing or was not made by ``bake``.
    """
    remedy = "run `dvc repro data/rendered/dvc.yaml:geometry`"
    content = read_npz(path, remedy, times=1100)  # what deflate can do, at most
    with reading(f"{path}: not a baked head", remedy):
        deltas = content["deltas"] * content["steps"].astype(np.float32)[:, None, None]
        return Geometry(
            **{n: content[n] for n in ("vertices", "triangles", "parts", "maps", "occlusion",
                                       "mean", "landmarks", "hair_vertices", "hair_weights",
                                       "hair_offsets")},
            names=tuple(str(n) for n in content["names"]),
            deltas=deltas.astype(np.float32),
            eyeballs=(content["ball_left"], content["ball_right"]),
        )  # fmt: skip
