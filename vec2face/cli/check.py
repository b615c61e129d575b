"""``check``: what a run of params.yaml lacks and will cost."""

import argparse
from pathlib import Path

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


def run(given: argparse.Namespace) -> int:
    """Check; the exit code is 1 if an input is missing or unusable."""
    from vec2face.config.params import Params  # noqa: PLC0415
    from vec2face.planning.check import expect, inspect, shortages, sustained  # noqa: PLC0415
    from vec2face.planning.reach import out_of_reach  # noqa: PLC0415
    from vec2face.planning.table import table  # noqa: PLC0415

    params = Params.load(given.params)
    distribution = Path(given.params).parent / "models/pca.npz"  # of a run of these parameters
    for doubt in (*params.doubts(), *out_of_reach(params, distribution)):
        print(doubt)
    findings = inspect(params)
    for finding in findings:
        content = finding.content
        for named_already in (finding.key, finding.path):
            content = content.removeprefix(f"{named_already}: ")
        content = f": {content}" if content else ""
        print(f"{finding.state:21} {finding.key} = {finding.path}{content}")
    costs, assumed = expect(params)
    print(f"\n{table(costs, sustained(params) if given.tflops is None else given.tflops)}")
    for assumption in assumed:
        print(assumption)
    for shortage in shortages(costs):
        print(f"short of {shortage}")
    return int(any(finding.bad for finding in findings))
