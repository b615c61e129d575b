"""Write the card of a generator, recognizer or dataset, from the results of a run.

A dataset's lies beside its shards, with a page's address also as Croissant.

python -m vec2face card generator out/generator
python -m vec2face card recognizer out/recognizer --set generated
python -m vec2face card dataset out/faces --url https://huggingface.co/datasets/me/faces
"""

import argparse
from pathlib import Path

from vec2face.cli.destination import check_new
from vec2face.cli.result import add_json, tell

HELP = "the card of a generator, recognizer or dataset, from the results of a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("kind", choices=("generator", "recognizer", "dataset"))
    parser.add_argument("folder", help="gets README.md; beside shards and with --url, Croissant")
    parser.add_argument("--set", default="generated", help="the recognizer's training set")
    parser.add_argument("--license", help="by spdx.org/licenses; needed if there are photographs")
    parser.add_argument("--url", help="the page where the dataset will be")
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument("--reports", default="reports")
    parser.add_argument("--lock", default="dvc.lock")
    parser.add_argument("--citation", default="CITATION.cff")
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Write the card, and a dataset's metadata."""
    from vec2face.faces.webdataset import shards_of  # noqa: PLC0415
    from vec2face.report.cards import Run, card, licence_of  # noqa: PLC0415
    from vec2face.report.croissant import croissant  # noqa: PLC0415
    from vec2face.runtime.files import InputError, whole_file, write_json  # noqa: PLC0415

    readme, metadata = (Path(given.folder) / name for name in ("README.md", "croissant.json"))
    for file in (readme, metadata):
        check_new(str(file))
    run = Run.load(*map(Path, (given.params, given.reports, given.lock, given.citation)))
    licence = licence_of(run.p, given.license)
    text = card(given.kind, run, licence, given.set)
    written: list[str] = []
    if given.kind == "dataset" and given.url:
        if not shards_of(given.folder):
            raise InputError(
                f"{given.folder}: no shards for the metadata to describe; write them first: "
                f"python -m vec2face convert data/generated {given.folder} --form webdataset"
            )
        write_json(metadata, croissant(Path(given.folder), run, licence, given.url))
        written.append(str(metadata))
    with whole_file(readme) as temporary:
        temporary.write_text(text)
    written.append(str(readme))
    tell(given, {"written": written}, *(f"{file}: written" for file in written))
    return 0
