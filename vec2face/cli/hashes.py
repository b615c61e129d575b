"""Write what a generated set is made of, and a hash for each of its images.

Whoever has these files makes any image again by ``remake``.

python -m vec2face hashes data/generated hashes.txt
"""

import argparse

from vec2face.cli.destination import check_new
from vec2face.cli.result import add_json, tell

HELP = "what a generated set is made of, and a hash for each image"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("store", help="the set, as stages/dataset.py left it")
    parser.add_argument("destination", help="a new text file of 33 bytes an image")
    add_places(parser)
    add_json(parser)


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add where the files lie that a set is made of."""
    parser.add_argument("--params", default="params.yaml", help="names the networks' files")
    parser.add_argument("--identities", default="data/identities.npy")
    parser.add_argument("--pca", default="models/pca.npz")


def run(given: argparse.Namespace) -> int:
    """Write the file."""
    from pathlib import Path  # noqa: PLC0415

    from vec2face.config.params import Params  # noqa: PLC0415
    from vec2face.dataset.hashes import write_hashes  # noqa: PLC0415
    from vec2face.dataset.origin import Origin  # noqa: PLC0415
    from vec2face.faces.source import open_source  # noqa: PLC0415

    check_new(given.destination)
    origin = Origin(Params.load(given.params), Path(given.identities), Path(given.pca))
    write_hashes(given.destination, open_source(given.store), origin)
    files = {role: str(file) for role, file in origin.inputs.items()}
    result = {"destination": given.destination, "images": origin.images, "files": files}
    line = f"{given.destination}: {origin.images} images; ship it with"
    tell(given, result, line, *(f"  {role}: {file}" for role, file in files.items()))
    return 0
