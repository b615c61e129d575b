"""``convert``: write faces in another form."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from vec2face.faces.convert import FORMS, convert
from vec2face.faces.reading import read_array
from vec2face.faces.webdataset import SHARD, open_faces

MADE_BY = "python -m vec2face"
HELP = "write faces in another form"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", help="any form of docs/formats.md")
    add_destination(parser)
    parser.add_argument(
        "--mask",
        help="an .npy of row positions: only these rows, in this order, repeated if named again",
    )
    parser.add_argument("--features", help="an .npy, one row an image, to put into the result")


def run(given: argparse.Namespace) -> int:
    """Convert."""
    source = open_faces(given.source, corrupt=given.corrupt, mask=given.mask)
    features = None
    if given.features:
        features = read_array(Path(given.features))
    convert(source, given.destination, features=features, **options(given))
    return report(given.destination)


def add_destination(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of every command that writes faces."""
    parser.add_argument("destination", help="*.rec, *.lmdb, or a folder; must not exist")
    parser.add_argument(
        "--form",
        choices=FORMS,
        help="by default as the name ends; store: a FaceStore; webdataset: shards for Hugging Face",
    )
    parser.add_argument(
        "--shard", type=int, default=SHARD, help="images in each .tar of a webdataset"
    )
    parser.add_argument("--corrupt", choices=("stop", "skip"), default="stop")


def options(given: argparse.Namespace) -> dict[str, Any]:
    """Return how the faces are to be written, as ``vec2face.faces.convert`` takes it."""
    return {"form": given.form, "corrupt": given.corrupt, "shard": given.shard, "made_by": MADE_BY}


def report(destination: str) -> int:
    """Print what was written."""
    made = open_faces(destination, verify=False)
    print(f"{destination}: {len(made)} images of {len(np.unique(made.labels))} people")
    return 0
