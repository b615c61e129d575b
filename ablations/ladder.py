"""Where accuracy goes between real and generated faces, in three steps.

    the faces of training_sets.real -> reconstructions of these very images from their features
              -> images of the same people's mean features, perturbed
              -> images of sampled identities, perturbed

The first step is what the generator loses, the second what perturbation lacks of real variation,
the third what sampled people lack of real ones. Each set trains a recognizer as ``fr`` says. Unless
``training_sets.real`` says otherwise, the generator has not seen these people.
"""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from ablations.pipeline import Own, read_pipeline
from ablations.roots import Root
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.dataset.generate import BLOCK, generate, generate_images
from vec2face.dataset.perturbation import Perturbation
from vec2face.faces.images import encode
from vec2face.faces.masked import open_readable_set
from vec2face.faces.reading import read_array
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.faces.subset import whole_people
from vec2face.generator.inference import arrange_for_inference
from vec2face.generator.masks import masks
from vec2face.generator.released import open_generator
from vec2face.identities.pca import PCA
from vec2face.recognizers.features import extract_to, open_recognizer
from vec2face.recognizers.statistics import identity_means
from vec2face.report.tables import flat_metrics, read_evaluation
from vec2face.runtime.blocks import cut
from vec2face.runtime.code import code_of
from vec2face.runtime.files import InputError, fingerprint, whole_file, write_json
from vec2face.runtime.processes import processes
from vec2face.runtime.progress import Progress
from vec2face.runtime.resume import state

log = logging.getLogger(__name__)

REAL, SETS = "real", ("reconstructions", "people")
SETTINGS = {"seed", "subset", "identities", "images_per_identity", "perturbation", "sigma",
            "sigma_share", "sigma_is", "sigma_unit", "max_angle", "min_similarity",
            "sampling"}  # fmt: skip
"""The keys that the sets depend on."""
COLUMNS = ("lfw", "cfp_fp", "cplfw", "agedb_30", "calfw", "avg")
MADE_BY = "ablations/ladder.py"


def write_sets(p: Params, folder: Path) -> Path:
    """Write the two stores between real and generated faces, unless they are there.

    Returns:
        Their folder, in ``folder``: named by all that they are made of.
    """
    faces, mask = p.sets[REAL]
    recognizer, generator_file = Path(p.paths.recognizer), Path(p.paths.generator)
    inputs: list[Path | str] = [
        *filter(None, [faces, mask]),
        recognizer,
        artifacts.pca,
        generator_file,
    ]
    code = [code_of("dataset"), Path(__file__)]
    settings = p.model_dump(mode="json", include=SETTINGS)
    folder /= fingerprint(settings, [state(path) for path in inputs], *code)
    source = open_readable_set(faces, mask, corrupt=p.subset.corrupt)
    extract_to(folder / "features.npy", open_recognizer(recognizer), source)
    rows = whole_people(source.labels, p.identities * p.images_per_identity, seed=p.seed)
    features = np.array(read_array(folder / "features.npy")[rows])
    people, labels = np.unique(source.labels[rows], return_inverse=True)
    generator = arrange_for_inference(open_generator(generator_file).to(processes().device))
    drawn = partial(masks, p.sampling_seed, purpose="ladder", **p.sampling.masks.model_dump())
    quality = p.sampling.jpeg_quality
    if not (folder / "reconstructions").exists():
        with FaceStoreWriter(
            folder / "reconstructions",
            image_size=generator.image_size,
            seed=p.sampling_seed,
            made_by=MADE_BY,
        ) as store:
            for block in Progress(cut(0, len(rows), BLOCK), "reconstructions", unit="block"):
                images = generate_images(generator, features[block], drawn, block.start)
                store.extend([encode(image, quality) for image in images], labels[block])
    if not (folder / "people").exists():
        each = max(1, round(len(rows) / len(people)))
        means = identity_means(features, labels).astype(np.float32)
        as_many = p.model_copy(update={"images_per_identity": each})
        perturbation = Perturbation.of(as_many, PCA.load(artifacts.pca))
        generate(
            generator,
            means,
            perturbation,
            drawn,
            store=folder / "people",
            vectors=folder / "people_vectors.npy",
            work=folder / "people-work",
            made_by=MADE_BY,
            quality=quality,
        )
    return folder


def make(base: Path, work: Path, reports: Path) -> None:
    """Train on both sets between real and generated faces; write accuracies by rung.

    Args:
        base: the folder of the pipelines, whose results must be there.
        work: for the sets and a variant's folder.
        reports: gets ``ladder.json`` and ``ladder.md``.

    Raises:
        InputError: the data set is not there or not up to date.
    """
    p, own = Params.load(artifacts.params), Own(base)
    dataset = {stage.name: stage for stage in read_pipeline(base)}["dataset"]
    if not own.has(dataset, own.marks[dataset.name]):
        raise InputError("data/generated: is not there or not up to date; call `dvc repro` first")
    sets = write_sets(p, work / "ladder-sets")
    paths = {f"training_sets.{name}": str((sets / name).resolve()) for name in SETS}
    root = Root(work / "ladder", base, paths, own=own)
    root.make(["evaluate"])
    found = flat_metrics(read_evaluation(root.folder / "reports/evaluation.json"))
    rungs = {
        rung: {k.removeprefix(f"{rung}_"): found[k] for k in found if k.startswith(f"{rung}_")}
        for rung in ("untrained", REAL, *SETS)
    }
    rungs["sampled"] = {k: found[k] for k in ("avg", *p.rendered.benchmarks) if k in found}
    write_json(reports / "ladder.json", rungs)
    with whole_file(reports / "ladder.md") as temporary:
        temporary.write_text(markdown(rungs))
    log.info("%s:\n%s", reports / "ladder.md", markdown(rungs))


def markdown(rungs: Mapping[str, Mapping[str, float]]) -> str:
    """Return a table of ``COLUMNS``, a row for each rung."""
    lines = ["| | " + " | ".join(COLUMNS) + " |", "| --- " * (len(COLUMNS) + 1) + "|"]
    for rung, row in rungs.items():
        cells = [f"{row[column]:g}" if column in row else "" for column in COLUMNS]
        lines.append(f"| {rung} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
