"""Arguments that commands have in common."""

import argparse
import math

_PATHS = {
    "generator": "*.safetensors, or the authors' *.pth",
    "recognizer": "*.onnx, *.safetensors, or released weights",
}


def add_run(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the parameter file, and what may stand in for its ``paths`` of these names."""
    parser.add_argument("--params", default="params.yaml", help="of the run; default: params.yaml")
    for name in names:
        parser.add_argument(
            f"--{name}", metavar="FILE", help=f"instead of paths.{name}: {_PATHS[name]}"
        )


def whole(text: str) -> int:
    """Return a whole number >= 0, for argparse."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise argparse.ArgumentTypeError(f"a whole number from 0, not {text!r}")
    return int(text)


def count(text: str) -> int:
    """Return a whole number >= 1, for argparse."""
    if whole(text) == 0:
        raise argparse.ArgumentTypeError("a whole number from 1, not 0")
    return int(text)


def level(text: str) -> float:
    """Return a finite number >= 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"a number from 0, not {text!r}")
    return value
