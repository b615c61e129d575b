"""Write a generator or a recognizer for other programs, and check what was written.

*.onnx holds either, for onnxruntime, whose numbers are compared with ours before the file gets its
name. A generator takes `features` (B, D) and the masks `drop` and `mask` (B, 49) of
vec2face.generator.masks, with equally many dropped rows in every sample, and gives `images` in
[-1, 1]; a recognizer takes `images` (B, 3, S, S), RGB in [-1, 1], and gives `features`. *.pth holds
a generator for the authors' code.

Examples:
    python -m vec2face export models/generator.safetensors generator.onnx
    python -m vec2face export models/fr/generated.safetensors recognizer.onnx
    python -m vec2face export models/generator.safetensors ours.pth
"""

import argparse

from vec2face.cli.destination import check_new
from vec2face.cli.result import add_json, tell

HELP = "a generator or recognizer as ONNX; a generator for the authors' code"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("source", help="*.safetensors, or weights that others released")
    parser.add_argument(
        "destination",
        help="*.onnx; or *.pth, of a generator with generator.released: true or equal "
        "generator.channels",
    )
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Export."""
    from vec2face.cli.weights import open_weights  # noqa: PLC0415
    from vec2face.generator.network import Vec2Face  # noqa: PLC0415
    from vec2face.generator.onnx_export import export_generator  # noqa: PLC0415
    from vec2face.generator.released import open_generator, save_released  # noqa: PLC0415
    from vec2face.recognizers.onnx_export import export_recognizer  # noqa: PLC0415

    check_new(given.destination, ".onnx", ".pth")
    result = {"destination": given.destination}
    if given.destination.endswith(".pth"):
        save_released(given.destination, open_generator(given.source))
        tell(given, result, f"{given.destination}: written")
        return 0
    network = open_weights(given.source)
    if isinstance(network, Vec2Face):
        off = export_generator(network, given.destination)
    else:
        off = export_recognizer(network, given.destination)
    line = (
        f"{given.destination}: written; onnxruntime's numbers are off by {off:.1g} of the largest"
    )
    tell(given, result | {"off": off}, line)
    return 0
