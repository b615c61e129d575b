from pathlib import Path

import pytest

from vec2face.rendered.geometry import Geometry, load_geometry
from vec2face.rendered.scene import Studio


@pytest.fixture(scope="session")
def geometry(head: Path) -> Geometry:
    return load_geometry(head)


@pytest.fixture(scope="session")
def studio(geometry: Geometry) -> Studio:
    return Studio(geometry)
