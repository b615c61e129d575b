"""Stage 4, generator: learn to turn features into faces.

python -m stages.generator

Reads data/subset and data/features/train.npy; writes models/generator.safetensors and the training
curve. A killed run continues. Several processes share the work (``vec2face.runtime.processes``), as
many as divide training.batch / training.micro_batch.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages import run
from vec2face.config import Params
from vec2face.faces.source import open_source
from vec2face.generator.training import VERSION, train_generator
from vec2face.runtime.checkpoint import work_folder
from vec2face.runtime.files import InputError, whole_file
from vec2face.runtime.processes import processes

OUTPUT = Path("models/generator.safetensors")
CURVE = Path("reports/curves/generator.csv")


def main() -> None:
    """Train the generator of ``params.yaml``."""
    params, group = Params.load(), processes()
    faces = open_source("data/subset", verify=group.main)
    features = np.load("data/features/train.npy", mmap_mode="r")
    if len(features) != len(faces):
        raise InputError(
            f"data/features/train.npy: {len(features)} rows for {len(faces)} images of "
            "data/subset; run the features stage again"
        )
    work = group.gather(_work(params) if group.main else None)[0]
    curve: list[dict[str, float]] = []
    generator = train_generator(faces, features, params, work, on_log=curve.append)
    if group.main:
        generator.save(OUTPUT)
        with whole_file(CURVE) as temporary:
            pd.DataFrame(curve).to_csv(temporary, index=False, float_format="%.6g")


def _work(params: Params) -> Path:
    """Return the folder of this training's checkpoints; the number of processes is no part."""
    settings = params.model_dump(
        include={"seed", "image_size", "generator", "training"}, mode="json"
    )
    inputs = [Path("data/subset"), Path("data/features/train.npy"), Path(params.paths.recognizer)]
    return work_folder("generator", settings, VERSION, *inputs)


def micro_batches() -> int:
    """Return into how many parts a step falls, which processes share."""
    t = Params.load().training
    return t.batch // (t.micro_batch or t.batch)


if __name__ == "__main__":
    run(main, shared=True, units=micro_batches)
