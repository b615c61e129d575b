"""The command line.

    python -m vec2face convert data/generated out/train.rec
    python -m vec2face merge both.lmdb data/subset data/generated
    python -m vec2face check

One function a command; bad input ends it with one line on stderr and exit code 2.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np

from vec2face.faces.convert import FORMS, convert, merge
from vec2face.faces.source import open_source
from vec2face.files import InputError

MADE_BY = "python -m vec2face"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    parsed = _parser().parse_args(arguments)
    try:
        return parsed.run(parsed)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m vec2face", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("convert", help="write faces in another form")
    command.add_argument("source", help="any form of docs/formats.md")
    _add_destination(command)
    command.add_argument("--mask", help="an .npy of row positions: only these rows")
    command.add_argument("--features", help="an .npy, one row an image, to put into the result")
    command.set_defaults(run=_convert)

    command = commands.add_parser("merge", help="write several sets of faces as one")
    _add_destination(command)
    command.add_argument("sources", nargs="+", metavar="source", help="no two share an identity")
    command.set_defaults(run=_merge)

    command = commands.add_parser("check", help="what a run of params.yaml lacks and will cost")
    command.add_argument("--params", default="params.yaml")
    command.add_argument(
        "--tflops", type=float, default=40, help="10^12 operations a second that a device sustains"
    )
    command.set_defaults(run=_check)
    return parser


def _add_destination(command: argparse.ArgumentParser) -> None:
    command.add_argument("destination", help="*.rec, *.lmdb, or a folder; must not exist")
    command.add_argument(
        "--form", choices=FORMS, help="by default as the name ends; store: a FaceStore"
    )
    command.add_argument("--corrupt", choices=("stop", "skip"), default="stop")


def _convert(given: argparse.Namespace) -> int:
    source = open_source(given.source, corrupt=given.corrupt, mask=given.mask)
    features = None
    if given.features:
        try:
            features = np.load(given.features, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{given.features}: not an .npy of features: {error}") from error
    convert(source, given.destination, features=features, **_options(given))
    return _report(given.destination)


def _merge(given: argparse.Namespace) -> int:
    if len({Path(path).resolve() for path in given.sources}) < len(given.sources):
        raise InputError("merge: a source is given twice; its people would count as others")
    sources = [open_source(path, corrupt=given.corrupt) for path in given.sources]
    merge(sources, given.destination, **_options(given))
    return _report(given.destination)


def _report(destination: str) -> int:
    made = open_source(destination, verify=False)
    print(f"{destination}: {len(made)} images of {len(np.unique(made.labels))} people")
    return 0


def _options(given: argparse.Namespace) -> dict[str, Any]:
    return {"form": given.form, "corrupt": given.corrupt, "made_by": MADE_BY}


def _check(given: argparse.Namespace) -> int:
    from vec2face.cost import table  # noqa: PLC0415 - slow, and needs torch and DVC
    from vec2face.params import Params  # noqa: PLC0415
    from vec2face.preflight import expect, inspect, shortages  # noqa: PLC0415

    params = Params.load(given.params)
    findings = inspect(params)
    for finding in findings:
        content = f": {finding.content}" if finding.content else ""
        print(f"{finding.state:21} {finding.key} = {finding.path}{content}")
    costs = expect(params)
    print(f"\n{table(costs, given.tflops)}")
    for shortage in shortages(costs):
        print(f"short of {shortage}")
    return int(any(finding.bad for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
