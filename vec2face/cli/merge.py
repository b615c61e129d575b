"""``merge``: write several sets of faces as one."""

import argparse
from pathlib import Path

from vec2face.cli.convert import add_destination, options, report
from vec2face.faces.convert import merge
from vec2face.faces.webdataset import open_faces
from vec2face.runtime.files import InputError

HELP = "write several sets of faces as one"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_destination(parser)
    parser.add_argument("sources", nargs="+", metavar="source", help="no two share an identity")


def run(given: argparse.Namespace) -> int:
    """Merge."""
    if len({Path(path).resolve() for path in given.sources}) < len(given.sources):
        raise InputError("merge: a source is given twice; its people would count as others")
    sources = [open_faces(path, corrupt=given.corrupt) for path in given.sources]
    merge(sources, given.destination, **options(given))
    return report(given.destination)
