"""Say what a file or folder is, what it holds and whether it is whole.

Faces of any form, a benchmark or a folder of them, an .npy of features or vectors, a PCA, a
generator or recognizer (ours, released, ONNX), a checkpoint of a training. Checksums are compared
where there are some, and images decoded. The exit code is 1 if images cannot be read or features
are not finite, 2 if the whole cannot be opened.

Examples:
    python -m vec2face inspect data/generated --sheet sheet.png
    python -m vec2face inspect webface.rec --sample 10000
    python -m vec2face inspect data/rendered/benchmarks --all --json
    python -m vec2face inspect models/generator.safetensors
    python -m vec2face inspect data/features/train.npy
"""

import argparse
from collections.abc import Iterator
from typing import Any

from vec2face.cli.options import count
from vec2face.cli.result import add_json, tell

HELP = "what a file or folder holds, and whether it is whole"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("path", help="a file or folder")
    number = parser.add_mutually_exclusive_group()
    number.add_argument(
        "--sample", type=count, default=1000, metavar="N", help="images to decode; default 1000"
    )
    number.add_argument("--all", action="store_true", help="decode all images")
    parser.add_argument("--sheet", metavar="PNG", help="draw faces, or pairs of benchmarks")
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Inspect."""
    from vec2face.cli.destination import check_new  # noqa: PLC0415
    from vec2face.cli.inspection import inspect  # noqa: PLC0415

    if given.sheet:
        check_new(given.sheet, ".png")
    found = inspect(given.path, None if given.all else given.sample, given.sheet)
    tell(given, {"path": given.path, **found}, f"{given.path}: {found['kind']}", *_lines(found))
    return int(found["damaged"])


def _lines(found: dict[str, Any], indent: str = "  ") -> Iterator[str]:
    for name, value in found.items():
        if isinstance(value, dict) and any(isinstance(inner, dict) for inner in value.values()):
            for key, inner in value.items():
                yield f"{indent}{key}"
                yield from _lines(inner, indent + "  ")
        elif name not in ("kind", "damaged"):
            yield f"{indent}{name.replace('_', ' ')}: {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(map(_text, value)) or "none"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
