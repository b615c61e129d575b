"""Stage 7b, quality of the generated images: separable, consistent, and true to held-out people?

    python -m stages.measure

Reads data/generated with its vectors, data/identities.npy, data/held_out with its features, the
generator and both recognizers; writes data/generated_features.npy (under the loss's recognizer) and
reports/quality.json, whose keys are

    (none)     under the recognizer of the identity loss; ``second_``: under one no loss has seen
    pure_      one image per identity, from its vector without perturbation
    held_out_  the same measures on the held-out people's own images, for comparison
    separated_share, nearest_other_mean, inter_noise, image_to_identity_mean, intra_noise,
    intra_mean, inter_mean, eer    see ``vec2face.analysis.separability.describe``
    image_to_vector_mean, image_to_vector_noise    image against its identity's vector: mean
               cosine, share below 0.3; image_to_own_vector_mean: against the one it was made from
    reconstruction_cosine, pixel_r2    held-out people, generated again from their own features
"""

from functools import partial

import numpy as np

from stages import run
from vec2face.analysis.reconstruction import feature_cosine, pixel_r2
from vec2face.analysis.separability import (
    describe,
    image_to_identity,
    nearest_other,
    separated_share,
)
from vec2face.faces.source import load_images, open_source
from vec2face.files import InputError, whole_file, write_json
from vec2face.models.features import extract, open_recognizer
from vec2face.models.generator import Vec2Face
from vec2face.models.masks import masks
from vec2face.params import Params
from vec2face.sampling.dataset import render

LIMIT = 20_000  # images of a store, from its start: pairs grow with the square
IDENTITIES = 10_000  # identities rendered without perturbation


def main() -> None:
    """Measure everything under every recognizer."""
    p = Params.load()
    generator = Vec2Face.load("models/generator.safetensors")
    draw = partial(masks, p.seed, **p.sampling.masks.model_dump())

    generated, held_out = open_source("data/generated"), open_source("data/held_out")
    identities = np.load("data/identities.npy")
    vectors = np.load("data/generated_vectors.npy", mmap_mode="r")
    real_features = np.load("data/features/held_out.npy")
    if len(vectors) != len(generated) or len(real_features) != len(held_out):
        raise InputError(
            f"{len(vectors)} vectors for {len(generated)} generated images, {len(real_features)} "
            f"features for {len(held_out)} held-out images: run `dvc repro` again"
        )
    labels, real_labels = generated.labels[:LIMIT], held_out.labels[:LIMIT]
    real_features = real_features[:LIMIT]

    pure = render(generator, identities[:IDENTITIES], partial(draw, purpose="pure mask"))
    originals = load_images(held_out, generator.image_size, range(len(real_labels)))
    copies = render(generator, real_features, partial(draw, purpose="reconstruction mask"))

    quality: dict[str, float] = {"pixel_r2": pixel_r2(originals, copies)}
    paths = {"": p.paths.recognizer, "second_": p.paths.second_recognizer}
    for prefix, path in paths.items():
        recognizer = open_recognizer(path)
        features = extract(recognizer, generated, LIMIT)
        real = extract(recognizer, held_out, LIMIT) if prefix else real_features
        measures = describe(features, labels)[0]
        measures |= {f"held_out_{k}": v for k, v in describe(real, real_labels)[0].items()}
        pure_features = recognizer.features(pure)
        nearest = nearest_other(pure_features)
        measures["pure_separated_share"] = separated_share(nearest)
        measures["pure_nearest_other_mean"] = float(nearest.mean())
        copied = feature_cosine(real, recognizer.features(copies))
        measures["reconstruction_cosine"] = float(copied.mean())
        if not prefix:  # the vectors live in this recognizer's space
            rows = np.arange(len(labels))
            to_vector = image_to_identity(features, identities, labels)
            to_own = image_to_identity(features, np.asarray(vectors[: len(labels)]), rows)
            to_pure = image_to_identity(pure_features, identities, np.arange(len(pure)))
            measures["image_to_vector_mean"] = float(to_vector.mean())
            measures["image_to_vector_noise"] = float((to_vector < 0.3).mean())
            measures["image_to_own_vector_mean"] = float(to_own.mean())
            measures["pure_to_vector_mean"] = float(to_pure.mean())
            with whole_file("data/generated_features.npy") as part, part.open("wb") as file:
                np.save(file, features)
        quality |= {prefix + key: float(value) for key, value in measures.items()}
    quality["measured_images"] = len(labels)
    # A measure that needs two images per person has no value where there is one.
    write_json("reports/quality.json", {k: v for k, v in quality.items() if np.isfinite(v)})


if __name__ == "__main__":
    run(main)
