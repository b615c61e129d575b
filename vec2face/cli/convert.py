"""Write faces in another form: records, the authors' LMDB, a folder of images, a FaceStore.

python -m vec2face convert data/generated out/train.rec
python -m vec2face convert data/subset train.lmdb --features data/features/train.npy
python -m vec2face convert webface.lmdb faces --mask rows.npy
"""

import argparse
from pathlib import Path
from typing import Any

from vec2face.cli.result import add_json, tell

MADE_BY = "python -m vec2face"
HELP = "write faces in another form"
# Those of vec2face.faces.convert and its webdataset, which are slow to import.
FORMS = ("rec", "lmdb", "folder", "store", "webdataset")
SHARD = 50_000


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
    from vec2face.faces.convert import convert  # noqa: PLC0415
    from vec2face.faces.reading import read_array  # noqa: PLC0415
    from vec2face.faces.webdataset import open_faces  # noqa: PLC0415

    source = open_faces(given.source, corrupt=given.corrupt, mask=given.mask)
    features = read_array(Path(given.features)) if given.features else None
    skipped = convert(source, given.destination, features=features, **options(given))
    return report(given, skipped)


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
    add_json(parser)


def options(given: argparse.Namespace) -> dict[str, Any]:
    """Return how the faces are to be written, as ``vec2face.faces.convert`` takes it."""
    return {"form": given.form, "corrupt": given.corrupt, "shard": given.shard, "made_by": MADE_BY}


def report(given: argparse.Namespace, skipped: list[str]) -> int:
    """Tell what was written, and what was left out."""
    import numpy as np  # noqa: PLC0415

    from vec2face.faces.webdataset import open_faces  # noqa: PLC0415

    made = open_faces(given.destination, verify=False)
    people = len(np.unique(made.labels))
    result = {"destination": given.destination, "images": len(made), "people": people}
    line = f"{given.destination}: {len(made)} images of {people} people"
    tell(given, result | {"skipped": skipped}, line)
    return 0
