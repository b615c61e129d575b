"""What a command tells: lines for people, or with ``--json`` one JSON object on stdout."""

import argparse
import json
from collections.abc import Mapping
from typing import Any


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def tell(given: argparse.Namespace, result: Mapping[str, Any], *lines: str) -> None:
    """Print a result: as JSON if that is asked for, else its lines."""
    print(*([json.dumps(result, indent=2)] if given.json else lines), sep="\n")
