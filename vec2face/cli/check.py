"""Say what a run of params.yaml lacks and will cost, before anything runs.

The exit code is 1 if an input is missing or unusable.

Examples:
    python -m vec2face check
    python -m vec2face check --params params/paper.yaml --tflops 150
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from vec2face.cli.result import add_json, tell

HELP = "what a run of params.yaml lacks and will cost"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--params", default="params.yaml")
    parser.add_argument(
        "--tflops",
        type=float,
        help="10^12 operations a second that a device sustains; by default a guess: a GPU's, or "
        "those of this machine's cores if it has none and the world is not the paper's",
    )
    add_json(parser)


def run(given: argparse.Namespace) -> int:
    """Check."""
    from vec2face.config.params import Params  # noqa: PLC0415
    from vec2face.planning.check import expect, inspect, shortages, sustained  # noqa: PLC0415
    from vec2face.planning.reach import out_of_reach  # noqa: PLC0415
    from vec2face.planning.table import table  # noqa: PLC0415

    params = Params.load(given.params)
    distribution = Path(given.params).parent / "models/pca.npz"  # of a run of these parameters
    doubts = [*params.doubts(), *out_of_reach(params, distribution)]
    lines, findings = list(doubts), inspect(params)
    for finding in findings:
        content = finding.content
        for named_already in (finding.key, finding.path):
            content = content.removeprefix(f"{named_already}: ")
        content = f": {content}" if content else ""
        lines.append(f"{finding.state:21} {finding.key} = {finding.path}{content}")
    costs, assumed = expect(params)
    short = shortages(costs)
    lines.append(f"\n{table(costs, sustained(params) if given.tflops is None else given.tflops)}")
    lines += [*assumed, *(f"short of {shortage}" for shortage in short)]
    result = {
        "doubts": doubts,
        "inputs": [asdict(finding) for finding in findings],
        "costs": [asdict(cost) for cost in costs],
        "assumed": assumed,
        "short_of": short,
    }
    tell(given, result, *lines)
    return int(any(finding.bad for finding in findings))
