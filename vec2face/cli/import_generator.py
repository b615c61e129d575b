"""Take over the authors' generator: a checkpoint of theirs becomes a file of ours.

python -m vec2face import-generator theirs.pth data/weights/vec2face.safetensors
"""

import argparse

from vec2face.cli.destination import check_new
from vec2face.cli.result import add_json, tell

HELP = "take over the authors' generator"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", help="a checkpoint with the key model_vec2face")
    parser.add_argument("destination", help="*.safetensors, for paths.generator")
    parser.add_argument(
        "--heads", type=int, nargs=2, metavar=("ENCODER", "DECODER"), help="of an unusual width"
    )
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Import."""
    from vec2face.generator.released import import_generator  # noqa: PLC0415

    check_new(given.destination, ".safetensors")
    heads = tuple(given.heads) if given.heads else None
    config = import_generator(given.source, given.destination, heads)
    result = {"destination": given.destination, "config": config.model_dump()}
    tell(given, result, f"{given.destination}: {config}")
    return 0
