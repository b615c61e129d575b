"""Stage 7, dataset generation: many images of every sampled identity.

    python -m stages.dataset

Reads data/identities.npy, models/pca.npz (scale and shape of features), the generator at
paths.generator and, for AttrOP, the recognizer, the estimators and the faces at paths.pca_faces;
writes data/generated (a FaceStore), data/generated_vectors.npy and reports/perturbation.json (how
often a vector was drawn again, and how AttrOP fared). Several processes share the work, and a
killed run goes on where it stopped.
"""

from pathlib import Path

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.dataset.aims import Aims, aims_of, asked_of
from vec2face.dataset.generate import generate
from vec2face.dataset.perturbation import Perturbation
from vec2face.dataset.recipe import Recipe
from vec2face.faces.reading import read_array
from vec2face.faces.source import open_readable
from vec2face.generator.network import Vec2Face
from vec2face.generator.released import open_generator
from vec2face.identities.pca import PCA
from vec2face.runtime.files import InputError, write_json
from vec2face.runtime.processes import processes
from vec2face.runtime.resume import resume


def main() -> None:
    """Perturb, generate, store."""
    p = Params.load(artifacts.params)
    s = p.sampling
    perturbation = Perturbation.of(p, PCA.load(artifacts.pca))
    recipe = Recipe.of(p)
    file = Path(p.paths.generator)
    people = read_array(artifacts.identities)
    if people.shape[1] != recipe.generator.dimension:
        raise InputError(
            f"paths.generator: {file} takes {recipe.generator.dimension} numbers, but the "
            f"identities of paths.recognizer have {people.shape[1]}; train a generator with that "
            "recognizer"
        )
    ratios = s.masks.model_dump()
    settings = [repr(perturbation), p.perturbation, ratios, recipe.quality, s.released]
    inputs = [artifacts.identities, artifacts.pca, file]
    if p.attrop is not None:
        estimators = {name: e.model_dump(mode="json") for name, e in p.estimators.items()}
        settings += [p.attrop.model_dump(mode="json"), estimators, p.subset.corrupt]
        inputs += [Path(p.paths.pca_faces), Path(p.paths.recognizer)]
        inputs += [Path(p.estimators[name].file) for name in sorted(asked_of(p.attrop))]
    with resume("dataset", settings, inputs, artifacts.work) as work:
        summary = generate(
            recipe.generator,
            people,
            perturbation,
            recipe.masks,
            store=artifacts.generated,
            vectors=artifacts.generated_vectors,
            work=work,
            made_by="stages/dataset.py",
            batch=recipe.batch,
            quality=recipe.quality,
            truncated=recipe.truncated,
            aims=attributes(p, recipe.quality),
        )
        if processes().main:
            write_json(artifacts.perturbation, summary)


def attributes(p: Params, quality: int) -> Aims | None:
    """Return what AttrOP is to do, None for nothing."""
    if p.attrop is None:
        return None
    generator: Vec2Face = open_generator(Path(p.paths.generator))
    faces = open_readable(Path(p.paths.pca_faces), corrupt=p.subset.corrupt)
    return aims_of(p, p.attrop, generator, faces, quality)


if __name__ == "__main__":
    run(main, shared=True)
