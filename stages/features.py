"""Stage 3, features: what the recognizer sees in the faces.

    python -m stages.features

Reads data/subset, data/held_out and paths.recognizer; writes data/features/train.npy and
held_out.npy, (images, D) float32 in the stores' row order, not normalised.
"""

import numpy as np

from stages import run
from vec2face.faces.source import open_source
from vec2face.files import whole_folder
from vec2face.models.features import extract, open_recognizer
from vec2face.params import Params


def main() -> None:
    """Extract and store."""
    recognizer = open_recognizer(Params.load().paths.recognizer)
    with whole_folder("data/features") as folder:
        for store, name in (("subset", "train"), ("held_out", "held_out")):
            np.save(folder / f"{name}.npy", extract(recognizer, open_source(f"data/{store}")))


if __name__ == "__main__":
    run(main)
