"""Rendered world, geometry: fetch the pinned wheel and bake the head.

    python -m stages.world_geometry

Writes data/world/head.npz.
"""

from stages import run
from vec2face.rendered.geometry import download_and_bake


def main() -> None:
    """Fetch and bake."""
    download_and_bake("data/world/head.npz")


if __name__ == "__main__":
    run(main)
