"""Stage 7, dataset generation: many images of every sampled identity.

    python -m stages.dataset

Reads data/identities.npy, models/pca.npz (scale and shape of features) and the generator at
paths.generator; writes data/generated (a FaceStore), data/generated_vectors.npy and
reports/perturbation.json (how often a vector was drawn again). Several processes share the work,
and a killed run goes on where it stopped.
"""

from functools import partial
from pathlib import Path

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.dataset.generate import generate
from vec2face.dataset.perturbation import Perturbation
from vec2face.faces.reading import read_array
from vec2face.generator.inference import arrange_for_inference
from vec2face.generator.masks import masks
from vec2face.generator.released import open_generator
from vec2face.identities.pca import PCA
from vec2face.runtime.files import InputError, write_json
from vec2face.runtime.processes import processes
from vec2face.runtime.resume import resume

# The authors' generation: images that share a mask ratio, and the default quality of imageio.
RELEASED_BATCH, RELEASED_QUALITY = 64, 75


def main() -> None:
    """Perturb, generate, store."""
    p = Params.load(artifacts.params)
    s = p.sampling
    perturbation = Perturbation.of(p, PCA.load(artifacts.pca))
    ratios = s.masks.model_dump()
    file = Path(p.paths.generator)
    generator = arrange_for_inference(open_generator(file).to(processes().device))
    people = read_array(artifacts.identities)
    if people.shape[1] != generator.dimension:
        raise InputError(
            f"paths.generator: {file} takes {generator.dimension} numbers, but the identities of "
            f"paths.recognizer have {people.shape[1]}; train a generator with that recognizer"
        )
    shared = RELEASED_BATCH if s.released or generator.config.released else 1
    quality = RELEASED_QUALITY if s.released else s.jpeg_quality
    settings = [repr(perturbation), s.noise, ratios, quality, s.released]
    inputs = [artifacts.identities, artifacts.pca, file]
    with resume("dataset", settings, inputs, artifacts.work) as work:
        summary = generate(
            generator,
            people,
            perturbation,
            partial(
                masks, p.sampling_seed, purpose="generation mask", ratio_shared_by=shared, **ratios
            ),
            store=artifacts.generated,
            vectors=artifacts.generated_vectors,
            work=work,
            made_by="stages/dataset.py",
            quality=quality,
            truncated=s.released,
        )
        if processes().main:
            write_json(artifacts.perturbation, summary)


if __name__ == "__main__":
    run(main, shared=True)
