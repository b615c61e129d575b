"""Stage 8, FR training: a face recognizer from generated faces, from as many real ones, or others.

    python -m stages.recognizer generated
    python -m stages.recognizer real

Reads the store that params call ``training_sets.<set>``: data/generated, data/subset, or another
synthetic set in any form that ``open_source`` knows; writes models/fr/<set>.safetensors and the
loss curve reports/curves/fr_<set>.csv. A killed run continues from work/. Several processes share
it (VEC2FACE_PROCESSES, VEC2FACE_LAUNCH; see vec2face/runtime/processes.py) when fr.micro_batch cuts
the batch into at least as many pieces.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from stages import run
from vec2face.config import Params
from vec2face.faces.source import Selection, open_readable
from vec2face.faces.subset import whole_people
from vec2face.recognizers.backbones import architecture
from vec2face.recognizers.network import save_recognizer
from vec2face.recognizers.training import VERSION, train_recognizer
from vec2face.runtime.blocks import stamp
from vec2face.runtime.checkpoint import Checkpoint, work_folder
from vec2face.runtime.files import InputError, whole_file
from vec2face.runtime.processes import processes


def main(which: str = "") -> None:
    """Train on one of ``training_sets``."""
    p = Params.load()
    if which not in p.training_sets:
        raise InputError(
            f"params.yaml: training_sets.{which} is missing; there are {', '.join(p.training_sets)}"
        )
    store = Path(p.training_sets[which])
    source = open_readable(store, corrupt=p.subset.corrupt)
    rows = np.arange(len(source))
    if which == "real":  # a fair comparison has no more images than the generated set
        rows = whole_people(source.labels, p.identities * p.images_per_identity, seed=p.seed)
    labels = np.unique(source.labels[rows], return_inverse=True)[1]

    work = work_folder(
        "recognizer",
        VERSION,
        which,
        p.fr.model_dump(mode="json"),
        p.image_size,
        p.seed,
        stamp(store),
        [hashlib.sha256(a.tobytes()).hexdigest() for a in (rows, labels)],
    )
    curve: list[dict[str, float]] = []

    def write_curve(entry: dict[str, float]) -> None:
        curve.append(entry)
        with whole_file(f"reports/curves/fr_{which}.csv") as temporary:
            pd.DataFrame(curve).to_csv(temporary, index=False)

    group = processes()
    recognizer = train_recognizer(
        Selection(source, rows),  # read at once, or batch by batch if it is large
        labels,
        p.fr,
        p.image_size,
        p.seed,
        work,
        on_epoch=write_curve,
    )
    if group.main:
        path = f"models/fr/{which}.safetensors"
        save_recognizer(path, recognizer, architecture(p.fr, p.image_size))
        Checkpoint(work).clear()


def micro_batches() -> int:
    """Return into how many parts a step falls, which processes share."""
    fr = Params.load().fr
    return fr.batch // (fr.micro_batch or fr.batch)


if __name__ == "__main__":
    run(main, *sys.argv[1:], shared=True, units=micro_batches)
