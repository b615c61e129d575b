"""Tell whether a change makes results worse, by the headline metrics of two runs.

Exit code 0: no metric is worse; 1: one is; 2: the two cannot be compared.

Examples:
    python -m vec2face gate main
    python -m vec2face gate main narrow --write work/gate
    python -m vec2face gate main --across fr.epochs
"""

import argparse
from pathlib import Path

HELP = "whether a change makes results worse: exit code 0 if not, 1 if so, 2 if nothing can tell"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    where = "a folder with params.yaml and reports/, a git revision or a DVC experiment"
    parser.add_argument("base", help=f"results before the change: {where}")
    parser.add_argument(
        "head", nargs="?", default=".", help="results after it, likewise; by default the folder '.'"
    )
    parser.add_argument("--rules", default="gate.yaml", help="what is judged, and how")
    parser.add_argument(
        "--across",
        nargs="+",
        default=[],
        metavar="KEY",
        help="let these of `same` differ, or these metrics be missing",
    )
    parser.add_argument(
        "--unchecked",
        action="store_true",
        help="do not look whether results belong to their parameters and code, which takes seconds",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    parser.add_argument(
        "--write", metavar="FOLDER", help="also write comment.md, gate.json and figures/ there"
    )


def run(given: argparse.Namespace) -> int:
    """Compare; the exit code is 1 if a metric is worse, 2 if the two cannot be compared."""
    import json  # noqa: PLC0415
    import tempfile  # noqa: PLC0415
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415
    from functools import partial  # noqa: PLC0415

    from vec2face.report.comment import markdown, plain, write  # noqa: PLC0415
    from vec2face.report.gate import Rules, decide  # noqa: PLC0415
    from vec2face.report.revisions import results_of  # noqa: PLC0415

    rules = Rules.load(given.rules)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor() as pool:
        copies = (Path(temporary) / side for side in ("base", "head"))
        check = partial(results_of, check=not given.unchecked)
        found = list(pool.map(check, (given.base, given.head), copies))
        doubts = [
            f"the results of {results.name} do not belong to its parameters and code: "
            f"{', '.join(stages)} would run again; call `dvc repro` there, or pass --unchecked"
            for results, stages in found
            if stages
        ]
        (base, _), (head, _) = found
        decision = decide(base, head, rules, across=given.across, doubts=doubts)
        if given.write:
            write(decision, base, head, Path(given.write))
    if given.json:
        print(json.dumps(plain(decision, base, head), indent=2, default=str))
    else:
        print(markdown(decision, base, head))
    return decision.code
