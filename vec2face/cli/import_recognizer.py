"""``import-recognizer``: take over a released recognizer."""

import argparse

HELP = "take over a released recognizer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", help="a .pt, .pth or .ckpt (docs/formats.md)")
    parser.add_argument("destination", help="*.safetensors")
    parser.add_argument("--channels", choices=("rgb", "bgr"), help="instead of its family's")
    parser.add_argument("--mean", type=float, help="taken off x / 255; default 0.5")
    parser.add_argument("--std", type=float, help="what the rest is divided by; default 0.5")


def run(given: argparse.Namespace) -> int:
    """Import."""
    from vec2face.recognizers.network import Convention  # noqa: PLC0415
    from vec2face.recognizers.released import import_recognizer  # noqa: PLC0415

    stated = {k: v for k in ("channels", "mean", "std") if (v := getattr(given, k)) is not None}
    convention = Convention(**stated) if stated else None
    print(f"{given.destination}: {import_recognizer(given.source, given.destination, convention)}")
    return 0
