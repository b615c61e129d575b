"""Stage 7b, quality of the generated images: separable, consistent, and true to held-out people?

    python -m stages.measure

Reads data/generated with its vectors, data/identities.npy, data/held_out with its features, the
generator and both recognizers; writes data/generated_features.npy (under the loss's recognizer) and
reports/quality.json, whose keys are

    (none)     under the recognizer of the identity loss; ``second_``: under one no loss has seen
    pure_      one image per identity, from its vector without perturbation
    held_out_  the same measures on the held-out people's own images, for comparison
    separated_share, nearest_other_mean, inter_noise, image_to_identity_mean, intra_noise,
    intra_mean, inter_mean, eer    see ``vec2face.evaluation.separability.describe``
    image_to_vector_mean, image_to_vector_noise    image against its identity's vector: mean
               cosine, share below 0.3; image_to_own_vector_mean: against the one it was made from
    reconstruction_cosine, pixel_r2    held-out people, generated again from their own features

Several processes share generation and features, and a killed run goes on where it stopped.
"""

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from stages import run
from vec2face.config import Params
from vec2face.dataset.generate import generate_images
from vec2face.evaluation.reconstruction import feature_cosine, pixel_r2
from vec2face.evaluation.separability import (
    describe,
    image_to_identity,
    nearest_other,
    separated_share,
)
from vec2face.faces.source import Source, load_images, open_source
from vec2face.generator.masks import masks
from vec2face.generator.released import open_generator
from vec2face.recognizers import features
from vec2face.recognizers.features import extract_rows, open_recognizer
from vec2face.runtime.blocks import Arrays, Blocks, code, stamp
from vec2face.runtime.checkpoint import work_folder
from vec2face.runtime.files import InputError, whole_file, write_json
from vec2face.runtime.processes import as_if_alone, processes

LIMIT = 20_000  # images of a store, from its start: pairs grow with the square
IDENTITIES = 10_000  # identities rendered without perturbation
BLOCK = features.BLOCK  # images at a time
VECTORS, REAL_FEATURES = Path("data/identities.npy"), Path("data/features/held_out.npy")
JOBS = ("generated", "held_out", "pure", "copies")
CODE = [
    *features.CODE,
    *code("randomness", "generator/network", "generator/released", "generator/masks"),
    *code("dataset/generate"),
    Path(__file__),
]


def main() -> None:
    """Measure everything under every recognizer."""
    p = Params.load()
    generator = open_generator(p.paths.generator).to(processes().device)
    draw = partial(masks, p.seed, **p.sampling.masks.model_dump())
    paths = {"": Path(p.paths.recognizer), "second_": Path(p.paths.second_recognizer)}
    recognizers = {prefix: open_recognizer(path) for prefix, path in paths.items()}

    stores = ("data/generated", "data/held_out")
    generated, held_out = (open_source(store, verify=processes().main) for store in stores)
    identities = np.load(VECTORS)
    vectors = np.load("data/generated_vectors.npy", mmap_mode="r")
    real_features = np.load(REAL_FEATURES)
    if len(vectors) != len(generated) or len(real_features) != len(held_out):
        raise InputError(
            f"{len(vectors)} vectors for {len(generated)} generated images, {len(real_features)} "
            f"features for {len(held_out)} held-out images: run `dvc repro` again"
        )
    labels, real_labels = generated.labels[:LIMIT], held_out.labels[:LIMIT]
    real_features = real_features[:LIMIT]

    files = [Path(p.paths.generator), VECTORS, REAL_FEATURES, *paths.values()]
    work = work_folder(
        "measure", p.seed, p.sampling.masks.model_dump(), *map(stamp, stores), *files, *CODE
    )

    def stored(source: Source, prefixes: Sequence[str], rows: range) -> Arrays:
        return {f"{k}features": extract_rows(recognizers[k], source, rows) for k in prefixes}

    def painted(wanted: np.ndarray, purpose: str, rows: range) -> Arrays:
        masks_of = partial(draw, purpose=purpose)
        images = generate_images(generator, wanted[rows.start : rows.stop], masks_of, rows.start)
        seen = {f"{k}features": r.features(images) for k, r in recognizers.items()}
        return {"images": images, **seen}

    jobs: dict[str, tuple[int, Callable[[range], Arrays]]] = {
        "generated": (len(labels), partial(stored, generated, ["", "second_"])),
        "held_out": (len(real_labels), partial(stored, held_out, ["second_"])),
        "pure": (len(identities[:IDENTITIES]), partial(painted, identities, "pure mask")),
        "copies": (len(real_labels), partial(painted, real_features, "reconstruction mask")),
    }
    blocks = {name: finish(work / name, name, *job) for name, job in jobs.items()}
    if processes().main:
        counts = {name: range(0, count, BLOCK) for name, (count, _) in jobs.items()}
        found = {name: blocks[name].join(counts[name]) for name in jobs}
        found["held_out"]["features"] = real_features
        originals = load_images(held_out, generator.image_size, range(len(real_labels)))
        with as_if_alone():
            report(found, originals, labels, real_labels, identities, vectors)
        shutil.rmtree(work)


def report(
    found: dict[str, Arrays],
    originals: np.ndarray,
    labels: np.ndarray,
    real_labels: np.ndarray,
    identities: np.ndarray,
    vectors: np.ndarray,
) -> None:
    """Measure what was found, and write it."""
    quality: dict[str, float] = {"pixel_r2": pixel_r2(originals, found["copies"]["images"])}
    for prefix in ("", "second_"):
        made, real, pure, copied = (found[job][f"{prefix}features"] for job in JOBS)
        measures = describe(made, labels)[0]
        measures |= {f"held_out_{k}": v for k, v in describe(real, real_labels)[0].items()}
        nearest = nearest_other(pure)
        measures["pure_separated_share"] = separated_share(nearest)
        measures["pure_nearest_other_mean"] = float(nearest.mean())
        measures["reconstruction_cosine"] = float(feature_cosine(real, copied).mean())
        if not prefix:  # the vectors live in this recognizer's space
            rows = np.arange(len(labels))
            to_vector = image_to_identity(made, identities, labels)
            to_own = image_to_identity(made, np.asarray(vectors[: len(labels)]), rows)
            to_pure = image_to_identity(pure, identities, np.arange(len(pure)))
            measures["image_to_vector_mean"] = float(to_vector.mean())
            measures["image_to_vector_noise"] = float((to_vector < 0.3).mean())
            measures["image_to_own_vector_mean"] = float(to_own.mean())
            measures["pure_to_vector_mean"] = float(to_pure.mean())
            with whole_file("data/generated_features.npy") as part, part.open("wb") as file:
                np.save(file, made)
        quality |= {prefix + key: float(value) for key, value in measures.items()}
    quality["measured_images"] = len(labels)
    # A measure that needs two images per person has no value where there is one.
    write_json("reports/quality.json", {k: v for k, v in quality.items() if np.isfinite(v)})


def finish(work: Path, what: str, count: int, make: Callable[[range], Arrays]) -> Blocks:
    """Make the blocks of ``count`` rows together with the other processes."""
    blocks = Blocks(work, lambda first: make(range(first, min(first + BLOCK, count))))
    blocks.finish(range(0, count, BLOCK), what)
    return blocks


if __name__ == "__main__":
    run(main, shared=True)
