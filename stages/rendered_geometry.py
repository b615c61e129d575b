"""Rendered world, geometry: fetch the pinned wheel and bake the head.

    python -m stages.rendered_geometry

Writes data/rendered/head.npz.
"""

from stages import run
from stages.artifacts import artifacts
from vec2face.rendered.geometry import download_and_bake


def main() -> None:
    """Fetch and bake."""
    download_and_bake(artifacts.head)


if __name__ == "__main__":
    run(main)
