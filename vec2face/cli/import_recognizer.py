"""``import-recognizer``: take over a released recognizer."""

import argparse

from vec2face.cli.destination import check_new

HELP = "take over a released recognizer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", help="a .pt, .pth, .ckpt or .onnx (docs/formats.md)")
    parser.add_argument("destination", help="*.safetensors; *.onnx for an .onnx")
    parser.add_argument("--channels", choices=("rgb", "bgr"), help="instead of its family's")
    parser.add_argument("--mean", type=float, help="taken off x / 255, instead of its family's")
    parser.add_argument("--std", type=float, help="what the rest is divided by, likewise")


def run(given: argparse.Namespace) -> int:
    """Import."""
    from vec2face.recognizers.convention import Convention  # noqa: PLC0415
    from vec2face.recognizers.onnx_input import state_convention  # noqa: PLC0415
    from vec2face.recognizers.released import import_recognizer  # noqa: PLC0415

    onnx = given.source.endswith(".onnx")
    check_new(given.destination, ".onnx" if onnx else ".safetensors")
    stated = {k: v for k in ("channels", "mean", "std") if (v := getattr(given, k)) is not None}
    if onnx:
        print(f"{given.destination}: {state_convention(given.source, given.destination, stated)}")
        return 0
    architecture = import_recognizer(given.source, given.destination, stated)
    convention = Convention(**architecture.pop("convention", {}))
    print(f"{given.destination}: {convention}; {architecture}")
    return 0
