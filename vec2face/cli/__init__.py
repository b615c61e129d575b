"""The command line: one module a command.

    python -m vec2face COMMAND --help

A module has ``HELP``, ``add_arguments(parser)`` and ``run(given)``, which returns the exit code.
Its docstring is the command's help, with examples. Slow imports stand in ``run``, so that help is
there at once and a command loads only what it needs. Bad input ends a command with one line on
stderr and exit code 2, Ctrl-C with one and exit code 130.
"""

import argparse
import logging
import sys

from vec2face.cli import (
    align,
    card,
    check,
    convert,
    evaluate,
    export,
    features,
    gate,
    generate,
    hashes,
    import_generator,
    import_recognizer,
    inspect,
    merge,
    reconstruct,
    remake,
)

COMMANDS = {
    "generate": generate,
    "reconstruct": reconstruct,
    "features": features,
    "inspect": inspect,
    "convert": convert,
    "merge": merge,
    "align": align,
    "import-generator": import_generator,
    "import-recognizer": import_recognizer,
    "export": export,
    "evaluate": evaluate,
    "check": check,
    "gate": gate,
    "hashes": hashes,
    "remake": remake,
    "card": card,
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; it sets ``run``."""
    made = argparse.ArgumentParser(prog="python -m vec2face", description="The command line.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        of_command = commands.add_parser(
            name,
            help=command.HELP,
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(of_command)
        of_command.set_defaults(run=command.run)
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    given = parser().parse_args(arguments)
    from vec2face.runtime.files import InputError  # noqa: PLC0415 - numpy, which help needs not

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        return given.run(given)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: nothing half written stays; run it again", file=sys.stderr)
        return 130
