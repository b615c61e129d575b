"""What tests of several folders share."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from vec2face.rendered.geometry import download_and_bake

# No test is timed: a busy machine must not fail one.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # the workers have one core each


@pytest.fixture(scope="session")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The baked head: the pipeline's if it has run, else made here (needs pip's index, once)."""
    made = Path(__file__).parents[1] / "data/rendered/head.npz"
    if not made.exists():
        made = tmp_path_factory.mktemp("world") / "head.npz"
        download_and_bake(made)
    return made
