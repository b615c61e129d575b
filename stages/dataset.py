"""Stage 7, dataset generation: many images of every sampled identity.

    python -m stages.dataset

Reads data/identities.npy, models/pca.npz (its feature scale) and the generator at paths.generator;
writes data/generated (a FaceStore), data/generated_vectors.npy and reports/perturbation.json (how
often a vector was drawn again). Several processes share the work, and a killed run goes on where
it stopped.
"""

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from stages import run
from vec2face.config import Params
from vec2face.dataset.generate import generate
from vec2face.dataset.perturbation import Perturbation
from vec2face.generator.inference import arrange_for_inference
from vec2face.generator.masks import masks
from vec2face.generator.released import open_generator
from vec2face.identities.pca import PCA
from vec2face.runtime.blocks import code
from vec2face.runtime.checkpoint import work_folder
from vec2face.runtime.files import write_json
from vec2face.runtime.processes import processes

IDENTITIES, PCA_FILE = Path("data/identities.npy"), Path("models/pca.npz")
RELEASED_BATCH = 64  # images that share a mask ratio in the authors' generation
CODE = code(  # what decides the bytes of an image; another version of it starts afresh
    *("randomness", "faces/images", "faces/record", "faces/store", "faces/store_writer"),
    *("generator/network", "generator/released", "generator/inference", "generator/masks"),
    *("dataset/generate", "dataset/perturbation"),
)


def main() -> None:
    """Perturb, generate, store."""
    p = Params.load()
    s = p.sampling
    perturbation = Perturbation(
        p.seed,
        p.images_per_identity,
        p.sigma,
        p.sigma_share,
        p.min_similarity,
        PCA.load(PCA_FILE).feature_scale,
    )
    ratios = s.masks.model_dump()
    file = Path(p.paths.generator)
    work = work_folder(
        "dataset", repr(perturbation), ratios, s.jpeg_quality, IDENTITIES, file, *CODE
    )
    generator = arrange_for_inference(open_generator(file).to(processes().device))
    shared = RELEASED_BATCH if generator.config.released else 1
    summary = generate(
        generator,
        np.load(IDENTITIES, mmap_mode="r"),
        perturbation,
        partial(masks, p.seed, purpose="generation mask", ratio_shared_by=shared, **ratios),
        store="data/generated",
        vectors="data/generated_vectors.npy",
        work=work,
        made_by="stages/dataset.py",
        quality=s.jpeg_quality,
    )
    if processes().main:
        write_json("reports/perturbation.json", summary)
        shutil.rmtree(work)


if __name__ == "__main__":
    run(main, shared=True)
