"""Make images of a generated set again, by their numbers, and check them by their hashes.

python -m vec2face remake hashes.txt some --row 7 4711
python -m vec2face remake hashes.txt data/generated
"""

import argparse
from pathlib import Path

from vec2face.cli.destination import check_new
from vec2face.cli.hashes import add_places
from vec2face.cli.options import whole
from vec2face.cli.result import add_json, tell

HELP = "make images of a generated set again, and check them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("hashes", help="a file that `hashes` wrote")
    parser.add_argument(
        "destination", help="a new folder: of some images, or without --row a FaceStore of all"
    )
    parser.add_argument(
        "--row", type=whole, nargs="+", metavar="N", help="which, from 0; by default all"
    )
    add_places(parser)
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Make them; nothing is left if one comes out otherwise."""
    from vec2face.config.params import Params  # noqa: PLC0415
    from vec2face.dataset.hashes import Hashes  # noqa: PLC0415
    from vec2face.faces.store_writer import FaceStoreWriter  # noqa: PLC0415
    from vec2face.runtime.files import whole_folder  # noqa: PLC0415
    from vec2face.runtime.progress import Progress  # noqa: PLC0415

    check_new(given.destination)
    hashes = Hashes(given.hashes)
    origin = hashes.origin(Params.load(given.params), Path(given.identities), Path(given.pca))
    rows = range(hashes.images) if given.row is None else sorted({*given.row})
    made = Progress(hashes.make(origin, rows), "making", total=len(rows), unit="img")
    if given.row is not None:
        with whole_folder(given.destination) as folder:
            for row, jpeg in made:
                (folder / f"{row:08d}.jpg").write_bytes(jpeg)
    else:
        size, seed = origin.image_size, origin.seed
        with FaceStoreWriter(
            given.destination, image_size=size, seed=seed, made_by="python -m vec2face remake"
        ) as store:
            for row, jpeg in made:
                store.append(jpeg, row // origin.images_per_identity)
    result = {"destination": given.destination, "images": len(rows)}
    tell(given, result, f"{given.destination}: {len(rows)} images, each as its hash says")
    return 0
