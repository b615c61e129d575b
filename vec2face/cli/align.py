"""Crop photographs to ArcFace's five points, each in its own format and under its own name.

python -m vec2face align photographs crops --detector det_10g.onnx
python -m vec2face align photographs crops --landmarks points.csv --size 224
"""

import argparse
import sys

from vec2face.cli.result import add_json, tell

HELP = "crop photographs to ArcFace's five points"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", help="a folder of photographs")
    parser.add_argument("destination", help="a new folder of crops under the same names")
    parser.add_argument(
        "--size", type=int, default=112, help="side of the crops in pixels, 16 to 1024"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--detector", help="an ONNX detector of insightface with points")
    where.add_argument("--landmarks", help="a CSV: path,x1,y1,...,x5,y5")
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Align."""
    from vec2face.faces.align import align_folder  # noqa: PLC0415
    from vec2face.faces.detect import FaceDetector  # noqa: PLC0415

    landmarks = FaceDetector(given.detector).landmarks if given.detector else given.landmarks
    faceless, others = align_folder(given.source, given.destination, landmarks, size=given.size)
    for name in faceless:
        print(f"no face: {name}", file=sys.stderr)
    tell(
        given,
        {"destination": given.destination, "faceless": list(faceless), "no_pictures": others},
        f"{given.destination}: written; left out: {len(faceless)} pictures without a face, "
        f"{others} files that are no such picture",
    )
    return 0
