"""Check and measure the project on one CUDA card, in pieces of less than ten minutes.

    python -m benchmarks.gpu --out results                 # all pieces
    python -m benchmarks.gpu throughput --out results      # one of them
    python -m benchmarks.gpu --out results --tiny          # in minutes on a CPU, to try the program

card        what the card is, and its two ceilings: copying, and matrix products
paths       every path that only a card takes, beside the CPU; says passed or FAILED
throughput  images a second of every stage, beside the bound of the products in bfloat16
filter      the identity filter at 300 000 vectors and beyond, with its certificate
profile     the operators and kernels that take the time of a training step

A piece writes FOLDER/<piece>.json when it is through and is left out when that is there. Rows that
are done lie in FOLDER/<piece>.part.json, so a killed piece goes on with the rest. What fails is
written down, and the next row goes on. Exits with 1 if a row failed or a piece is not through.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.gpu import others, paths, throughput, timing
from benchmarks.gpu.runner import Figures, run_piece

PIECES = ("card", "paths", "throughput", "filter", "profile")


def main(arguments: list[str] | None = None) -> int:
    """Run the pieces; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pieces", nargs="*", metavar="piece", help="; ".join(PIECES))
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the program")
    parser.add_argument("--seconds", type=float, default=540, help="of a piece; then no row begins")
    parser.add_argument("--row-seconds", type=float, default=240, help="of a row; then it is ended")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--work", type=Path, help="folder of the random networks")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.pieces) - set(PIECES):
        parser.error(f"no piece {', '.join(sorted(unknown))}; there are {', '.join(PIECES)}")
    name = "vec2face-gpu-tiny" if asked.tiny else "vec2face-gpu"
    place = asked.work or Path(tempfile.gettempdir(), name)
    asked.out.mkdir(parents=True, exist_ok=True)
    limits = {"seconds": asked.seconds, "row_seconds": asked.row_seconds}

    card = run_piece(asked.out / "card.json", timing.rows, (asked.tiny,), **limits)
    about: Figures = {"tiny": asked.tiny, "card": (card or {"rows": {}})["rows"]}
    ceiling = timing.ceiling(card)
    rows = {
        "paths": (paths.rows, (place, asked.tiny)),
        "throughput": (throughput.rows, (place, asked.tiny, ceiling)),
        "filter": (others.filter_rows, (asked.tiny,)),
        "profile": (others.profile_rows, (place, asked.tiny)),
    }
    found = {"card": card}
    for piece in PIECES[1:]:
        if not asked.pieces or piece in asked.pieces:
            file = asked.out / f"{piece}.json"
            make, its = rows[piece]
            long = {"row_seconds": asked.seconds} if piece == "filter" else {}  # one long row
            found[piece] = run_piece(file, make, its, about=about, only=asked.only, **limits | long)
    return int(not all(map(fine, found.values())))


def fine(piece: Figures | None) -> bool:
    """Say whether a piece is through and nothing in it failed."""
    return piece is not None and all(row.get("passed", True) for row in piece["rows"].values())


if __name__ == "__main__":
    sys.exit(main())
