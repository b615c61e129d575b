"""Turn a person, an age and an expression into the vertices of a head."""

import numpy as np

from vec2face.rendered.geometry import Geometry
from vec2face.rendered.makehuman import AGES, GENDERS, RACES
from vec2face.rendered.people import Person

CHILD, YOUNG, OLD = 12.0, 25.0, 90.0  # the ages, in years, of MakeHuman's targets


class Head:
    """One person's head. Once it is made, every age and expression is cheap."""

    def __init__(self, geometry: Geometry, person: Person) -> None:
        self.geometry = geometry
        flat = geometry.deltas.reshape(len(geometry.names), -1)
        rows = np.flatnonzero(person.shape)
        local = (person.shape[rows] @ flat[rows]).reshape(-1, 3)
        rows_of = {name: i for i, name in enumerate(geometry.names)}
        gender = GENDERS[0] if person.female else GENDERS[1]
        self.ages = []
        for age in AGES:
            vertices = geometry.vertices + local
            for race, share in zip(RACES, person.race, strict=True):
                row = rows_of.get(f"{race}-{gender}-{age}")
                if row is not None:
                    vertices = vertices + np.float32(share) * geometry.deltas[row]
            for build, share in (("min", max(-person.weight, 0)), ("max", max(person.weight, 0)),
                                 ("average", 1 - abs(person.weight))):  # fmt: skip
                row = rows_of.get(f"universal-{gender}-{age}-averagemuscle-{build}weight")
                if row is not None:
                    vertices = vertices + np.float32(share) * geometry.deltas[row]
            self.ages.append(vertices.astype(np.float32))

    def vertices(self, age: float, expression: dict[int, float]) -> np.ndarray:
        """Return (V, 3) float32 dm at ``age`` years; ``expression`` maps targets to weights."""
        child, young, old = self.ages
        if age < YOUNG:
            part = np.float32(min((YOUNG - age) / (YOUNG - CHILD), 1.0))
            # Everybody is adult, so no more than half of the child's proportions is mixed in.
            out = young * (1 - 0.5 * part) + child * (0.5 * part)
        else:
            part = np.float32(min((age - YOUNG) / (OLD - YOUNG), 1.0))
            out = young * (1 - part) + old * part
        for row, amount in expression.items():
            out = out + np.float32(amount) * self.geometry.deltas[row]
        return out.astype(np.float32)

    def landmarks(self, vertices: np.ndarray) -> np.ndarray:
        """Return the points (5, 3) of eyes, nose and mouth corners, the picture's left first."""
        left, right = (vertices[ball].mean(0) for ball in self.geometry.eyeballs)
        points = vertices[self.geometry.landmarks[2:]]
        # The pupils lie on the front of the balls.
        forward = np.array([0, 0, 0.13], np.float32)
        return np.stack([right + forward, left + forward, points[0], points[2], points[1]])
