"""Stage 3, features: what the recognizer sees in the faces.

    python -m stages.features

Reads data/subset, data/held_out and paths.recognizer; writes data/features/train.npy and
held_out.npy, (images, D) float32 in the stores' row order, not normalised. Several processes share
the work, and a killed run goes on where it stopped.
"""

import shutil
from pathlib import Path

from stages import run
from vec2face.config import Params
from vec2face.faces.source import open_source
from vec2face.recognizers.features import CODE, extract_to, open_recognizer
from vec2face.runtime.blocks import stamp
from vec2face.runtime.checkpoint import work_folder
from vec2face.runtime.files import link, sweep, whole_folder
from vec2face.runtime.processes import processes

STORES = {"train": "data/subset", "held_out": "data/held_out"}


def main() -> None:
    """Extract and store."""
    path = Path(Params.load().paths.recognizer)
    sources = {k: open_source(store, verify=processes().main) for k, store in STORES.items()}
    recognizer = open_recognizer(path)
    work = work_folder("features", path, *map(stamp, STORES.values()), *CODE)
    for name, source in sources.items():
        extract_to(work / f"{name}.npy", recognizer, source)
    if processes().main:
        sweep("data/features")
        with whole_folder("data/features") as folder:
            for name in STORES:
                link(work / f"{name}.npy", folder / f"{name}.npy")
        shutil.rmtree(work)


if __name__ == "__main__":
    run(main, shared=True)
