"""Take over a released recognizer, and say what it expects of its input.

python -m vec2face import-recognizer backbone.pth data/weights/arcface_r100.safetensors
python -m vec2face import-recognizer odd.pth odd.safetensors --channels bgr --mean 0 --std 1
python -m vec2face import-recognizer net.onnx bgr.onnx --channels bgr
"""

import argparse
from dataclasses import asdict

from vec2face.cli.destination import check_new
from vec2face.cli.result import add_json, tell

HELP = "take over a released recognizer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", help="a .pt, .pth, .ckpt or .onnx (docs/formats.md)")
    parser.add_argument("destination", help="*.safetensors; *.onnx for an .onnx")
    parser.add_argument("--channels", choices=("rgb", "bgr"), help="instead of its family's")
    parser.add_argument("--mean", type=float, help="taken off x / 255, instead of its family's")
    parser.add_argument("--std", type=float, help="what the rest is divided by, likewise")
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Import."""
    from vec2face.recognizers.convention import Convention  # noqa: PLC0415
    from vec2face.recognizers.onnx_input import state_convention  # noqa: PLC0415
    from vec2face.recognizers.released import import_recognizer  # noqa: PLC0415

    onnx = given.source.endswith(".onnx")
    check_new(given.destination, ".onnx" if onnx else ".safetensors")
    stated = {k: v for k in ("channels", "mean", "std") if (v := getattr(given, k)) is not None}
    result, about = {"destination": given.destination}, ""
    if onnx:
        convention = state_convention(given.source, given.destination, stated)
    else:
        architecture = import_recognizer(given.source, given.destination, stated)
        convention = Convention(**architecture.pop("convention", {}))
        result, about = result | {"architecture": architecture}, f"; {architecture}"
    result |= {"convention": asdict(convention)}
    tell(given, result, f"{given.destination}: {convention}{about}")
    return 0
