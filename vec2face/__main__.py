"""The command line.

    python -m vec2face convert data/generated out/train.rec
    python -m vec2face merge both.lmdb data/subset data/generated
    python -m vec2face align photographs crops --detector det_10g.onnx
    python -m vec2face import-generator theirs.pth data/weights/vec2face.safetensors
    python -m vec2face export-generator models/generator.safetensors ours.pth
    python -m vec2face import-recognizer backbone.pth arcface_r100.safetensors
    python -m vec2face evaluate arcface_r100.safetensors data/benchmarks ijbb
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
from vec2face.runtime.files import InputError

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

    command = commands.add_parser("align", help="crop photographs to ArcFace's five points")
    command.add_argument("source", help="a folder of photographs")
    command.add_argument("destination", help="a new folder of crops under the same names")
    command.add_argument("--size", type=int, default=112, help="side of the crops in pixels")
    where = command.add_mutually_exclusive_group(required=True)
    where.add_argument("--detector", help="an ONNX detector of insightface with points")
    where.add_argument("--landmarks", help="a CSV: path,x1,y1,...,x5,y5")
    command.set_defaults(run=_align)

    command = commands.add_parser("import-generator", help="take over the authors' generator")
    command.add_argument("source", help="a checkpoint with the key model_vec2face")
    command.add_argument("destination", help="*.safetensors, for paths.generator")
    command.add_argument(
        "--heads", type=int, nargs=2, metavar=("ENCODER", "DECODER"), help="of an unusual width"
    )
    command.set_defaults(run=_import_generator)

    command = commands.add_parser("export-generator", help="for the authors' code")
    command.add_argument(
        "source", help="*.safetensors, of generator.released: true or equal generator.channels"
    )
    command.add_argument("destination", help="*.pth")
    command.set_defaults(run=_export_generator)

    command = commands.add_parser("import-recognizer", help="take over a released recognizer")
    command.add_argument("source", help="a .pt, .pth or .ckpt (docs/formats.md)")
    command.add_argument("destination", help="*.safetensors")
    command.add_argument("--channels", choices=("rgb", "bgr"), help="instead of its family's")
    command.add_argument("--mean", type=float, help="taken off x / 255; default 0.5")
    command.add_argument("--std", type=float, help="what the rest is divided by; default 0.5")
    command.set_defaults(run=_import_recognizer)

    command = commands.add_parser("evaluate", help="a recognizer on benchmarks")
    command.add_argument("recognizer", help="*.onnx, *.safetensors, or released weights")
    command.add_argument("benchmarks", nargs="+", help="files, lists, folders of them, or IJB")
    command.add_argument(
        "--nearest-far",
        action="store_true",
        help="IJB: at the corner of the curve nearest to a rate, as insightface reads it",
    )
    command.set_defaults(run=_evaluate)

    command = commands.add_parser("check", help="what a run of params.yaml lacks and will cost")
    command.add_argument("--params", default="params.yaml")
    command.add_argument(
        "--tflops",
        type=float,
        help="10^12 operations a second that a device sustains; by default a guess: a GPU's, or "
        "those of this machine's cores if it has none and the world is not the paper's",
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


def _align(given: argparse.Namespace) -> int:
    from vec2face.faces.align import align_folder  # noqa: PLC0415 - each loads what it needs only
    from vec2face.faces.detect import FaceDetector  # noqa: PLC0415

    landmarks = FaceDetector(given.detector).landmarks if given.detector else given.landmarks
    left_out = align_folder(given.source, given.destination, landmarks, size=given.size)
    for name in left_out:
        print(f"no face: {name}", file=sys.stderr)
    print(f"{given.destination}: written; {len(left_out)} pictures without a face left out")
    return 0


def _import_generator(given: argparse.Namespace) -> int:
    from vec2face.generator.released import import_generator  # noqa: PLC0415

    heads = tuple(given.heads) if given.heads else None
    print(f"{given.destination}: {import_generator(given.source, given.destination, heads)}")
    return 0


def _export_generator(given: argparse.Namespace) -> int:
    from vec2face.generator.released import open_generator, save_released  # noqa: PLC0415

    save_released(given.destination, open_generator(given.source))
    print(f"{given.destination}: written")
    return 0


def _import_recognizer(given: argparse.Namespace) -> int:
    from vec2face.recognizers.network import Convention  # noqa: PLC0415
    from vec2face.recognizers.released import import_recognizer  # noqa: PLC0415

    stated = {k: v for k in ("channels", "mean", "std") if (v := getattr(given, k)) is not None}
    convention = Convention(**stated) if stated else None
    print(f"{given.destination}: {import_recognizer(given.source, given.destination, convention)}")
    return 0


def _evaluate(given: argparse.Namespace) -> int:
    from vec2face.evaluation.ijb import evaluate_ijb, is_ijb, read_ijb  # noqa: PLC0415
    from vec2face.evaluation.verification import evaluate  # noqa: PLC0415
    from vec2face.faces.benchmarks import find_benchmarks, load_benchmark  # noqa: PLC0415
    from vec2face.recognizers.features import open_recognizer  # noqa: PLC0415

    recognizer = open_recognizer(given.recognizer)
    for path in given.benchmarks:
        if is_ijb(path):
            ijb = read_ijb(path)
            rates = evaluate_ijb(ijb, recognizer.features, nearest=given.nearest_far)
            for rate, accepted in rates.items():
                print(f"{ijb.name:12} TAR {100 * accepted:6.2f} at FAR {rate:g}")
            continue
        for name, file in find_benchmarks(path).items():
            result = evaluate(recognizer.features, load_benchmark(file))
            print(f"{name:12} {100 * result.accuracy:6.2f} +- {100 * result.std:.2f}")
    return 0


def _check(given: argparse.Namespace) -> int:
    from vec2face.config import Params  # noqa: PLC0415
    from vec2face.planning.check import expect, inspect, shortages, sustained  # noqa: PLC0415
    from vec2face.planning.cost import table  # noqa: PLC0415 - slow, and needs torch and DVC

    params = Params.load(given.params)
    findings = inspect(params)
    for finding in findings:
        content = finding.content
        for named_already in (finding.key, finding.path):
            content = content.removeprefix(f"{named_already}: ")
        content = f": {content}" if content else ""
        print(f"{finding.state:21} {finding.key} = {finding.path}{content}")
    costs, assumed = expect(params)
    print(f"\n{table(costs, sustained(params) if given.tflops is None else given.tflops)}")
    for assumption in assumed:
        print(assumption)
    for shortage in shortages(costs):
        print(f"short of {shortage}")
    return int(any(finding.bad for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
