"""Stage 4, generator: learn to turn features into faces.

    python -m stages.generator

Reads data/subset and data/features/train.npy; writes models/generator.safetensors and the training
curve. A killed run continues. Several processes share the work (``vec2face.runtime.processes``), as
many as divide training.batch / training.micro_batch.
"""

from pathlib import Path

import pandas as pd

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.faces.reading import read_array
from vec2face.faces.source import open_source
from vec2face.generator.training import train_generator
from vec2face.runtime.files import InputError, whole_file
from vec2face.runtime.processes import processes
from vec2face.runtime.resume import resume


def main() -> None:
    """Train the generator of the parameters."""
    p = Params.load(artifacts.params)
    faces = open_source(artifacts.subset, verify=processes().main)
    features = read_array(artifacts.train_features)
    if len(features) != len(faces):
        raise InputError(
            f"{artifacts.train_features}: {len(features)} rows for {len(faces)} images of "
            f"{artifacts.subset}; run the features stage again"
        )
    if p.training.batch > len(faces):
        raise InputError(
            f"training.batch: {p.training.batch} is above the {len(faces)} images of "
            f"{artifacts.subset}; lower it, or let subset ask for more"
        )
    settings = p.model_dump(include={"seed", "image_size", "generator", "training"}, mode="json")
    inputs = [artifacts.subset, artifacts.train_features, Path(p.paths.recognizer)]
    if p.training.losses.lpips:
        inputs.append(Path(p.training.lpips_weights))
    with resume("generator", settings, inputs, artifacts.work) as work:
        curve: list[dict[str, float]] = []
        generator = train_generator(faces, features, p, work, on_log=curve.append)
        if processes().main:
            generator.save(artifacts.generator)
            with whole_file(artifacts.generator_curve) as temporary:
                pd.DataFrame(curve).to_csv(temporary, index=False, float_format="%.6g")


def micro_batches() -> int:
    """Return into how many parts a step falls, which processes share."""
    t = Params.load(artifacts.params).training
    return t.batch // (t.micro_batch or t.batch)


if __name__ == "__main__":
    run(main, shared=True, units=micro_batches)
