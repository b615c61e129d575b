from pathlib import Path

import pytest

from vec2face.world.geometry import Geometry, download_and_bake, load_geometry
from vec2face.world.scene import Studio


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baked head: the pipeline's if it has run, else made here (needs pip's index, once)."""
    made = Path(__file__).parents[2] / "data/world/head.npz"
    if not made.exists():
        made = tmp_path_factory.mktemp("world") / "head.npz"
        download_and_bake(made)
    return made


@pytest.fixture(scope="session")
def geometry(head: Path) -> Geometry:
    return load_geometry(head)


@pytest.fixture(scope="session")
def studio(geometry: Geometry) -> Studio:
    return Studio(geometry)
