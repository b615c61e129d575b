"""Stage 4, generator: learn to turn features into faces.

python -m stages.generator

Reads data/subset and data/features/train.npy; writes models/generator.safetensors and the training
curve. A killed run continues.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from stages import run
from vec2face.faces.source import load_images, open_source
from vec2face.files import InputError, whole_file
from vec2face.params import Params
from vec2face.training.checkpoint import work_folder
from vec2face.training.generator import VERSION, train_generator

OUTPUT = Path("models/generator.safetensors")
CURVE = Path("reports/curves/generator.csv")


def main() -> None:
    """Train the generator of ``params.yaml``."""
    params = Params.load()
    faces = open_source("data/subset")
    features = np.load("data/features/train.npy")
    if len(features) != len(faces):
        raise InputError(
            f"data/features/train.npy: {len(features)} rows for {len(faces)} images of "
            "data/subset; run the features stage again"
        )
    images = load_images(faces, params.image_size)
    settings = params.model_dump(
        include={"seed", "image_size", "generator", "training"}, mode="json"
    )
    inputs = [Path("data/subset"), Path("data/features/train.npy"), Path(params.paths.recognizer)]
    work = work_folder("generator", settings, VERSION, *inputs)
    curve: list[dict[str, float]] = []
    train_generator(images, features, params, work, on_log=curve.append).save(OUTPUT)
    with whole_file(CURVE) as temporary:
        pd.DataFrame(curve).to_csv(temporary, index=False, float_format="%.6g")


if __name__ == "__main__":
    run(main)
