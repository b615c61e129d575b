"""``import-recognizer``: take over a released recognizer."""

import argparse

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
    from vec2face.recognizers.onnx_input import state_convention  # noqa: PLC0415
    from vec2face.recognizers.released import import_recognizer  # noqa: PLC0415

    take_over = state_convention if given.source.endswith(".onnx") else import_recognizer
    stated = {k: v for k in ("channels", "mean", "std") if (v := getattr(given, k)) is not None}
    print(f"{given.destination}: {take_over(given.source, given.destination, stated)}")
    return 0
