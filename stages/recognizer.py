"""Stage 9, FR training: a face recognizer from generated faces, from originals, or others.

    python -m stages.recognizer generated
    python -m stages.recognizer real

Reads the faces that params call ``training_sets.<set>``, in any form that ``open_source`` knows, or
those rows of ``masked_sets.<set>.path`` that its ``rows`` name; writes models/fr/<set>.safetensors
and the loss curve reports/curves/fr_<set>.csv. A killed run continues. Several processes share it
(VEC2FACE_PROCESSES, VEC2FACE_LAUNCH; see vec2face/runtime/processes.py) if their number divides
that of the micro-batches, or a micro-batch.
"""

import logging
import sys

import numpy as np
import pandas as pd

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.faces.masked import open_readable_set
from vec2face.recognizers.backbones import architecture
from vec2face.recognizers.network import save_recognizer
from vec2face.recognizers.training import train_recognizer
from vec2face.runtime.files import InputError, whole_file
from vec2face.runtime.processes import processes
from vec2face.runtime.resume import resume

log = logging.getLogger(__name__)


def main(which: str = "") -> None:
    """Train on one of ``training_sets`` or ``masked_sets``."""
    p = Params.load(artifacts.params)
    if which not in p.sets:
        raise InputError(
            f"params.yaml: training_sets.{which} is missing; call this with one of "
            f"{', '.join(p.sets)}"
        )
    faces, rows = p.sets[which]
    source = open_readable_set(faces, rows, corrupt=p.subset.corrupt)
    if p.fr.batch > len(source) and processes().main:
        log.warning(
            "fr.batch: %d is above the %d images of %s, so a step takes them all",
            p.fr.batch,
            len(source),
            faces,
        )
    labels = np.unique(source.labels, return_inverse=True)[1]
    curve: list[dict[str, float]] = []

    def write_curve(entry: dict[str, float]) -> None:
        curve.append(entry)
        with whole_file(artifacts.recognizer_curve(which)) as temporary:
            pd.DataFrame(curve).to_csv(temporary, index=False)

    settings = p.fr.model_dump(mode="json", exclude={"seed"})
    made_of = [which, p.fr_seed, p.image_size, p.subset.corrupt, settings]
    with resume("recognizer", made_of, list(filter(None, p.sets[which])), artifacts.work) as work:
        recognizer = train_recognizer(
            source,  # read at once, or batch by batch if it is large
            labels,
            p.fr,
            p.image_size,
            p.fr_seed,
            work,
            on_epoch=write_curve,
        )
        if processes().main:
            saved = artifacts.recognizer(which)
            save_recognizer(saved, recognizer, architecture(p.fr, p.image_size))


def parts() -> int:
    """Return into how many parts a step falls, which processes share: micro-batches, or images."""
    fr = Params.load(artifacts.params).fr
    return fr.batch // fr.micro_batch if fr.micro_batch else fr.batch


if __name__ == "__main__":
    run(main, *sys.argv[1:], shared=True, units=parts)
