"""Draw faces again from their features alone, and measure how alike they are.

A sheet (*.png) shows each original above its reconstruction, with the cosine of their features; a
FaceStore holds the reconstructions of all, in the order and with the labels of the faces.

Examples:
    python -m vec2face reconstruct data/held_out sheet.png
    python -m vec2face reconstruct crops again --judge models/rendered/second.onnx
    python -m vec2face reconstruct me.jpg sheet.png --generator models/generator.safetensors
"""

import argparse

from vec2face.cli.options import add_run, count, whole
from vec2face.cli.result import add_json, tell

HELP = "draw faces again from their features"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "sources", nargs="+", metavar="source", help="aligned faces of any form, or pictures"
    )
    parser.add_argument("destination", help="a sheet (*.png) or a FaceStore; must not exist")
    parser.add_argument(
        "--number",
        type=count,
        metavar="N",
        help="faces, at even steps; by default 18 for a sheet, and all for a store",
    )
    parser.add_argument(
        "--judge", metavar="FILE", help="a recognizer that compares; by default the same one"
    )
    parser.add_argument("--seed", type=whole, help="of the masks; by default that of params.yaml")
    add_run(parser, "generator", "recognizer")
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Reconstruct."""
    from vec2face.cli.reconstruction import reconstruct  # noqa: PLC0415

    result = reconstruct(given)
    line = (
        f"{given.destination}: {result['images']} faces; cosine of original and reconstruction: "
        f"mean {result['cosine']:.3f}, from {result['least']:.3f} to {result['largest']:.3f}, "
        f"under {result['judge']}"
    )
    tell(given, result, line)
    return 0
