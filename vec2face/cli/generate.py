"""Draw faces: of people who do not exist, from identity vectors, or from photographs.

A sheet (*.png) or a FaceStore, whose vectors lie beside it in <name>_vectors.npy. What no option
says is as params.yaml has it, and so are the bytes: those of the stage `dataset` for the same
identity vectors, images per identity, seed and row.

Examples:
    python -m vec2face generate sheet.png
    python -m vec2face generate sheet.png --people 6 --images 5 --sigma 0 0.3 0.6 0.9 1.2
    python -m vec2face generate new --people 100 --seed 7
    python -m vec2face generate sheet.png --vectors mine.npy --images 8 --yaw 60
    python -m vec2face generate sheet.png --faces me.jpg crops --images 8
    python -m vec2face generate rows.png --vectors data/identities.npy --attrop --row 7 11
"""

import argparse

from vec2face.cli.options import add_run, count, level, whole
from vec2face.cli.result import add_json, tell

HELP = "draw faces: sampled, from identity vectors, or from photographs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("destination", help="a sheet (*.png) or a FaceStore; must not exist")
    who = parser.add_argument_group("who; by default people sampled from the PCA")
    of = who.add_mutually_exclusive_group()
    of.add_argument("--vectors", metavar="NPY", help="identity vectors, (n, D) as features are")
    of.add_argument(
        "--faces",
        nargs="+",
        metavar="FACES",
        help="aligned faces of any form, or pictures: the mean feature of each person",
    )
    which = who.add_mutually_exclusive_group()
    which.add_argument(
        "--people", type=count, default=8, metavar="N", help="the first N, by default 8"
    )
    which.add_argument(
        "--row",
        type=whole,
        nargs="+",
        metavar="R",
        help="only these images of the whole set: R is image R %% images of person R // images",
    )
    how = parser.add_argument_group("how; by default as params.yaml says")
    how.add_argument("--images", type=count, metavar="N", help="images of each person")
    how.add_argument("--sigma", type=level, nargs="+", help="levels of perturbation; 0: none")
    how.add_argument(
        "--share", type=level, nargs="+", help="of each level; by default equal if --sigma is given"
    )
    how.add_argument("--seed", type=whole, help="of sampled people, perturbation and masks")
    aims = how.add_mutually_exclusive_group()
    aims.add_argument(
        "--aim",
        nargs="+",
        metavar="NAME=VALUE",
        help="attributes of all images, by AttrOP: a number, or p50 for the median of real faces",
    )
    aims.add_argument("--yaw", metavar="VALUE", help="short for --aim yaw=VALUE; in degrees")
    aims.add_argument("--attrop", action="store_true", help="what attrop in params.yaml aims at")
    add_run(parser, "generator", "recognizer")
    parser.add_argument("--pca", metavar="FILE", help="by default models/pca.npz beside --params")
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Generate."""
    from vec2face.cli.generation import draw  # noqa: PLC0415

    result = draw(given)
    line = f"{given.destination}: {result['images']} images of {result['people']} people"
    tell(given, result, line, *(f"{name}: {value:.4g}" for name, value in result["attrop"].items()))
    return 0
