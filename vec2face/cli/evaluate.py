"""Verify pairs of benchmarks by a recognizer, in ten folds; IJB's by templates.

python -m vec2face evaluate models/fr/generated.safetensors data/benchmarks
python -m vec2face evaluate arcface_r100.onnx lfw.bin ijbb --json
"""

import argparse
from collections.abc import Callable
from typing import Any

from vec2face.cli.result import add_json, tell

HELP = "a recognizer on benchmarks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("recognizer", help="*.onnx, *.safetensors, or released weights")
    parser.add_argument("benchmarks", nargs="+", help="files, lists, folders of them, or IJB")
    parser.add_argument(
        "--nearest-far",
        action="store_true",
        help="IJB: at the corner of the curve nearest to a rate, as insightface reads it",
    )
    parser.add_argument(
        "--no-flip", action="store_true", help="features of the pictures alone, no mirror images"
    )
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Evaluate."""
    from vec2face.evaluation.ijb import evaluate_ijb, is_ijb, read_ijb  # noqa: PLC0415
    from vec2face.evaluation.verification import evaluate  # noqa: PLC0415
    from vec2face.faces.benchmarks import find_benchmarks, load_benchmark  # noqa: PLC0415
    from vec2face.recognizers.features import open_recognizer  # noqa: PLC0415

    recognizer = open_recognizer(given.recognizer)
    flip = not given.no_flip
    say: Callable[[str], None] = (lambda _: None) if given.json else print
    found: dict[str, dict[str, Any]] = {}
    for path in given.benchmarks:
        if is_ijb(path):
            ijb = read_ijb(path)
            rates = evaluate_ijb(ijb, recognizer.features, flip=flip, nearest=given.nearest_far)
            found[ijb.name] = {f"{rate:g}": accepted for rate, accepted in rates.items()}
            for rate, accepted in rates.items():
                say(f"{ijb.name:12} TAR {100 * accepted:6.2f} at FAR {rate:g}")
            continue
        for name, file in find_benchmarks(path).items():
            result = evaluate(recognizer.features, load_benchmark(file), flip=flip)
            found[name] = {"accuracy": 100 * result.accuracy, "std": 100 * result.std}
            say(f"{name:12} {100 * result.accuracy:6.2f} +- {100 * result.std:.2f}")
    if given.json:
        tell(given, found)
    return 0
