"""``align``: crop photographs to ArcFace's five points."""

import argparse
import sys

HELP = "crop photographs to ArcFace's five points"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", help="a folder of photographs")
    parser.add_argument("destination", help="a new folder of crops under the same names")
    parser.add_argument("--size", type=int, default=112, help="side of the crops in pixels")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--detector", help="an ONNX detector of insightface with points")
    where.add_argument("--landmarks", help="a CSV: path,x1,y1,...,x5,y5")


def run(given: argparse.Namespace) -> int:
    """Align."""
    from vec2face.faces.align import align_folder  # noqa: PLC0415
    from vec2face.faces.detect import FaceDetector  # noqa: PLC0415

    landmarks = FaceDetector(given.detector).landmarks if given.detector else given.landmarks
    left_out = align_folder(given.source, given.destination, landmarks, size=given.size)
    for name in left_out:
        print(f"no face: {name}", file=sys.stderr)
    print(f"{given.destination}: written; {len(left_out)} pictures without a face left out")
    return 0
