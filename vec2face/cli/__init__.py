"""The command line: one module a command.

    python -m vec2face convert data/generated out/train.rec
    python -m vec2face merge both.lmdb data/subset data/generated
    python -m vec2face align photographs crops --detector det_10g.onnx
    python -m vec2face import-generator theirs.pth data/weights/vec2face.safetensors
    python -m vec2face export-generator models/generator.safetensors ours.pth
    python -m vec2face import-recognizer backbone.pth arcface_r100.safetensors
    python -m vec2face evaluate arcface_r100.safetensors data/benchmarks ijbb
    python -m vec2face check
    python -m vec2face gate main

A module has ``HELP``, ``add_arguments(parser)`` and ``run(given)``, which returns the exit code.
Its slow imports stand in ``run``, so that a command loads only what it needs. Bad input ends a
command with one line on stderr and exit code 2, Ctrl-C with one and exit code 130.
"""

import argparse
import logging
import sys

from vec2face.cli import (
    align,
    check,
    convert,
    evaluate,
    export_generator,
    gate,
    import_generator,
    import_recognizer,
    merge,
)
from vec2face.runtime.files import InputError

COMMANDS = {
    "convert": convert,
    "merge": merge,
    "align": align,
    "import-generator": import_generator,
    "export-generator": export_generator,
    "import-recognizer": import_recognizer,
    "evaluate": evaluate,
    "check": check,
    "gate": gate,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    parser = argparse.ArgumentParser(prog="python -m vec2face", description="The command line.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        of_command = commands.add_parser(name, help=command.HELP)
        command.add_arguments(of_command)
        of_command.set_defaults(run=command.run)
    given = parser.parse_args(arguments)
    try:
        return given.run(given)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing half written stays; run it again", file=sys.stderr)
        return 130
