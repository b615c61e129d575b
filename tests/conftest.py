"""What tests of several folders share."""

from pathlib import Path

import pytest

from vec2face.world.geometry import download_and_bake


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baked head: the pipeline's if it has run, else made here (needs pip's index, once)."""
    made = Path(__file__).parents[1] / "data/world/head.npz"
    if not made.exists():
        made = tmp_path_factory.mktemp("world") / "head.npz"
        download_and_bake(made)
    return made
