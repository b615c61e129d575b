"""Extract what a recognizer sees in faces: an .npy, one row an image, in the order of the faces.

Features are (N, D) float32 and not normalised, as the pipeline keeps them. With --flip, a row is
the sum of the features of a face and of its mirror image, as verification takes them.

Examples:
    python -m vec2face features data/subset features.npy
    python -m vec2face features crops arcface.npy --recognizer arcface_r100.onnx --flip
    python -m vec2face features me.jpg me.npy
"""

import argparse

from vec2face.cli.destination import check_new
from vec2face.cli.options import add_run
from vec2face.cli.result import add_json, tell

HELP = "what a recognizer sees in faces, as .npy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", help="aligned faces: any form of docs/formats.md, or a picture")
    parser.add_argument("destination", help="*.npy; must not exist")
    parser.add_argument("--flip", action="store_true", help="add those of the mirror images")
    add_run(parser, "recognizer")
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Extract."""
    from vec2face.cli.opening import feature_blocks, open_given, open_run  # noqa: PLC0415
    from vec2face.recognizers.features import open_recognizer  # noqa: PLC0415
    from vec2face.runtime.files import row_file  # noqa: PLC0415

    check_new(given.destination, ".npy")
    path = given.recognizer or open_run(given).paths.recognizer
    source, recognizer = open_given([given.source]), open_recognizer(path)
    with row_file(given.destination, len(source), recognizer.dimension) as append:
        for block in feature_blocks(recognizer, source, flip=given.flip):
            append(block)
    shape = [len(source), recognizer.dimension]
    result = {"destination": given.destination, "shape": shape, "recognizer": path}
    line = f"{given.destination}: {shape[0]} features of {shape[1]} numbers, by {path}"
    tell(given, result | {"flip": given.flip}, line)
    return 0
