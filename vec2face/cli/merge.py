"""Write several sets of faces as one, their people apart.

python -m vec2face merge both.lmdb data/subset data/generated
python -m vec2face merge out/both/train.rec data/subset data/external/dcface
"""

import argparse
from pathlib import Path

from vec2face.cli.convert import add_destination, options, report

HELP = "write several sets of faces as one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_destination(parser)
    parser.add_argument("sources", nargs="+", metavar="source", help="no two share an identity")


def run(given: argparse.Namespace) -> int:
    """Merge."""
    from vec2face.faces.convert import merge  # noqa: PLC0415
    from vec2face.faces.webdataset import open_faces  # noqa: PLC0415
    from vec2face.runtime.files import InputError  # noqa: PLC0415

    if len({Path(path).resolve() for path in given.sources}) < len(given.sources):
        raise InputError("merge: a source is given twice; its people would count as others")
    sources = [open_faces(path, corrupt=given.corrupt) for path in given.sources]
    return report(given, merge(sources, given.destination, **options(given)))
