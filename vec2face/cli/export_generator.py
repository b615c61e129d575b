"""``export-generator``: write a generator for the authors' code."""

import argparse

from vec2face.cli.destination import check_new

HELP = "for the authors' code"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "source", help="*.safetensors, of generator.released: true or equal generator.channels"
    )
    parser.add_argument("destination", help="*.pth")


def run(given: argparse.Namespace) -> int:
    """Export."""
    from vec2face.generator.released import open_generator, save_released  # noqa: PLC0415

    check_new(given.destination, ".pth")
    save_released(given.destination, open_generator(given.source))
    print(f"{given.destination}: written")
    return 0
