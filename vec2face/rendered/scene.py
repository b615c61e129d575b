"""Render one picture: head, hair, glasses, camera, light, background, degradation."""

import cv2
import numpy as np

from vec2face.faces.align import TEMPLATE, similarity
from vec2face.randomness import stream
from vec2face.rendered import raster
from vec2face.rendered.camera import project, rotation
from vec2face.rendered.conditions import Conditions
from vec2face.rendered.geometry import Geometry, vertex_normals
from vec2face.rendered.hair import BALD, BUZZ, HairLattice
from vec2face.rendered.head import Head
from vec2face.rendered.people import Person
from vec2face.rendered.texture import paint_skin

SUPERSAMPLING = 2
RING = 20  # corners of a lens's rim
GREY_HAIR = np.array([0.42, 0.41, 0.40])


class Studio:
    """What all pictures share: the geometry and the lattice of the hair."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.lattice = HairLattice(geometry)
        self.rows = {name: i for i, name in enumerate(geometry.names)}
        hair = self.lattice.triangles + len(geometry.vertices)
        self.triangles = np.concatenate([geometry.triangles, hair]).astype(np.int32)
        self.parts = np.concatenate([geometry.parts, np.full(len(hair), raster.HAIR, np.uint8)])
        self.maps = np.concatenate([geometry.maps, self.lattice.maps]).astype(np.float32)
        self.occlusion = np.concatenate(
            [geometry.occlusion, np.ones(self.lattice.heights.size, np.float32)]
        )


class Sitter:
    """One person in the studio, whose head and skin are made once."""

    def __init__(self, studio: Studio, person: Person) -> None:
        self.studio, self.person = studio, person
        self.head = Head(studio.geometry, person)
        self.skin = paint_skin(person)


def _glasses(eyes: np.ndarray, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (N, 3) and triangles of glasses; the picture's left eye comes first."""
    wide, high, square, thick, _ = frame
    angle = np.linspace(0, 2 * np.pi, RING, endpoint=False)
    c, s = np.cos(angle), np.sin(angle)
    rim = np.stack(
        [np.sign(c) * np.abs(c) ** (2 / square), np.sign(s) * np.abs(s) ** (2 / square)], 1
    )
    vertices, triangles = [], []
    at = 0
    for side, eye in zip((-1, 1), eyes, strict=True):
        centre = eye + [side * 0.02, -0.03, 0.17]
        for grow in (0.0, thick):
            ring = np.zeros((RING, 3))
            ring[:, :2] = rim * [wide + grow, high + grow]
            ring[:, 2] = -0.35 * np.maximum(ring[:, 0] * side, 0) ** 2 / 0.3
            vertices.append(centre + ring)
        for k in range(RING):
            a, b = at + k, at + (k + 1) % RING
            triangles += [[a, b, a + RING], [b, b + RING, a + RING]]
        at += 2 * RING
    inner = [eyes[i] + [(-1, 1)[i] * 0.02 - (-1, 1)[i] * wide, 0.02, 0.17] for i in (0, 1)]
    bar = [*inner, inner[0] + [0, thick, 0], inner[1] + [0, thick, 0]]
    vertices.append(np.array(bar))
    triangles += [[at, at + 1, at + 2], [at + 1, at + 3, at + 2]]
    at += 4
    for i, side in enumerate((-1, 1)):
        start = eyes[i] + [side * (wide + 0.03), 0.03, 0.10]
        end = np.array([side * 0.80, eyes[i][1] + 0.06, eyes[i][2] - 1.15])
        vertices.append(np.array([start, end, start + [0, thick, 0], end + [0, thick, 0]]))
        triangles += [[at, at + 1, at + 2], [at + 1, at + 3, at + 2]]
        at += 4
    return np.concatenate(vertices).astype(np.float32), np.array(triangles, np.int32)


def _background(conditions: Conditions, size: int) -> np.ndarray:
    """Return (size, size, 3) linear light: a gradient, or blobs where the regime is busy."""
    first, second, *numbers = conditions.background
    y, x = np.mgrid[0:size, 0:size] / size
    slope = np.cos(6.3 * numbers[0][0]) * (x - 0.5) + np.sin(6.3 * numbers[0][0]) * (y - 0.5) + 0.5
    if numbers[2][2] > 0.3:
        rng = stream(conditions.seed, "background")
        coarse = rng.random((int(rng.integers(2, 9)), int(rng.integers(2, 9)))).astype(np.float32)
        kind = cv2.INTER_NEAREST if rng.random() < 0.3 else cv2.INTER_CUBIC
        slope = cv2.resize(coarse, (size, size), interpolation=kind)
    slope = np.clip(slope, 0, 1)[..., None]
    return first * (1 - slope) + second * slope


def _look(sitter: Sitter, conditions: Conditions) -> np.ndarray:
    """Return the colours and amounts (8, 3) that raster.shade reads."""
    person = sitter.person
    grey = 1 / (1 + np.exp(-(conditions.age - person.greying) / 5))
    hair = (person.hair * (1 - grey) + GREY_HAIR * grey) * conditions.hair_tone
    beard = (person.hair * 0.6 * (1 - grey) + GREY_HAIR * 0.8 * grey) * conditions.hair_tone
    wrinkles = float(np.clip((conditions.age - 28) / 50, 0, 1)) * 0.45
    frame = conditions.glasses[4] if conditions.glasses is not None else 0.0
    length = conditions.style[0]
    scalp = 0.0 if length < BALD else 0.80 if length < BUZZ else 0.97
    look = np.zeros((8, 3))
    look[0], look[1], look[2], look[3], look[4] = person.iris, hair, beard, conditions.cloth, frame
    look[5] = *conditions.gaze, conditions.collar
    look[6] = conditions.beard, wrinkles, scalp
    look[7] = conditions.gloss, 0.02 * conditions.style[4], conditions.flush
    return look


def _degrade(linear: np.ndarray, conditions: Conditions) -> np.ndarray:
    """Expose, blur, add noise and quantise (S, S, 3) linear light to uint8 RGB."""
    picture = np.clip(linear * 2.0**conditions.exposure, 0, 1).astype(np.float32)
    if conditions.blur > 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), conditions.blur)
    picture = picture ** (1 / 2.2)
    if conditions.grey:
        picture[:] = (picture @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    if conditions.noise > 0:
        rng = stream(conditions.seed, "noise")
        picture += conditions.noise * rng.standard_normal(picture.shape, np.float32)
    return np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)


def render(sitter: Sitter, conditions: Conditions, size: int = 112) -> np.ndarray:
    """Render one aligned picture, (size, size, 3) uint8 RGB."""
    studio = sitter.studio
    expression = {studio.rows[n]: a for n, a in conditions.expression.items() if n in studio.rows}
    vertices = sitter.head.vertices(conditions.age, expression)
    landmarks = sitter.head.landmarks(vertices)
    shell, mask = studio.lattice.grow(vertices, conditions.style)
    points = np.concatenate([vertices, shell])
    triangles, parts = studio.triangles, studio.parts
    maps, occlusion = studio.maps, studio.occlusion
    normals = vertex_normals(points, triangles)
    if conditions.glasses is not None:
        frame, faces = _glasses(landmarks[:2], conditions.glasses)
        triangles = np.concatenate([triangles, faces + np.int32(len(points))])
        points = np.concatenate([points, frame])
        parts = np.concatenate([parts, np.full(len(faces), raster.GLASSES, np.uint8)])
        maps = np.concatenate([maps, np.zeros((len(faces), 3, 2), np.float32)])
        occlusion = np.concatenate([occlusion, np.ones(len(frame), np.float32)])
        front = np.broadcast_to(np.array([0, 0, 1], np.float32), frame.shape)
        normals = np.concatenate([normals, front])
    turn = rotation(conditions.yaw, conditions.pitch)
    big = size * SUPERSAMPLING
    marks = project(landmarks, turn, conditions.distance)[:, :2]
    matrix = similarity(marks, big, TEMPLATE + conditions.jitter)
    screen = project(points, turn, conditions.distance)
    screen[:, :2] = screen[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    nearest = np.empty((big, big), np.int32)
    depth = np.empty((big, big), np.float32)
    weights = np.empty((big, big, 2), np.float32)
    curl = 0.02 * float(conditions.style[4])
    raster.rasterise(
        screen.astype(np.float32), triangles, parts, maps, mask, curl, nearest, depth, weights
    )
    picture = np.repeat(np.repeat(_background(conditions, size), 2, 0), 2, 1).astype(np.float32)
    raster.shade(
        triangles, parts, maps, (normals @ turn.T).astype(np.float32), occlusion, sitter.skin,
        _look(sitter, conditions), conditions.lights, nearest, weights, picture,
    )  # fmt: skip
    return _degrade(raster.halve(picture), conditions)
