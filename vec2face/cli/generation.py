"""The work of ``generate``: identity vectors, the rows of their set, a sheet or a store of them."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from vec2face.cli.destination import check_new
from vec2face.cli.opening import features_of, open_given, open_run
from vec2face.config.attributes import AimGroup, AttrOP
from vec2face.config.params import Params
from vec2face.dataset.aims import Aims
from vec2face.dataset.generate import BLOCK
from vec2face.dataset.perturbation import Perturbation
from vec2face.dataset.recipe import Recipe
from vec2face.dataset.rows import Row, Rows, open_aims
from vec2face.faces.images import decode
from vec2face.faces.reading import read_array
from vec2face.faces.source import Selection, load_images
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.identities.filter import sample_identities
from vec2face.identities.pca import PCA
from vec2face.recognizers.features import open_recognizer
from vec2face.recognizers.statistics import check_finite, identity_means
from vec2face.report.figures import contact_sheet, save
from vec2face.runtime.files import InputError, whole_file
from vec2face.runtime.progress import Progress

TILE = 112  # pixels of a face on a sheet, at least
LARGEST_SHEET = 200  # faces a side


@dataclass(frozen=True)
class People:
    """Who is drawn.

    Attributes:
        vectors: (n, D) float32.
        faces: (n, S, S, 3) uint8, a photograph of each; None if they come from none.
        shown: how many of them are asked for; the rest only fills the last batch.
    """

    vectors: np.ndarray
    faces: np.ndarray | None
    shown: int


def draw(given: argparse.Namespace) -> dict[str, Any]:
    """Generate what was asked for; return what was done.

    Raises:
        InputError: on whatever cannot be; then nothing is written.
    """
    destination, sheet = Path(given.destination), given.destination.endswith(".png")
    check_new(given.destination)
    p = open_run(given)
    p = p.model_copy(update={"images_per_identity": given.images or p.images_per_identity})
    pca = PCA.load(given.pca or Path(given.params).parent / "models/pca.npz")
    perturbation = _perturbation(p, pca, given)
    recipe = Recipe.of(p)
    aims = _aims(given, p, recipe.quality)
    people = _people(given, p, pca, recipe)
    rows = Rows(recipe, perturbation, people.vectors, aims)
    each = p.images_per_identity
    samples = given.row or range(people.shown * each)
    if max(samples) >= rows.total:
        raise InputError(f"--row: {max(samples)} of rows 0 .. {rows.total - 1}")
    if sheet and max(len(samples) // each, each) > LARGEST_SHEET:
        raise InputError(
            f"{destination}: {len(samples)} faces are too many for a sheet; ask for fewer, or name "
            "a folder without .png for a FaceStore"
        )
    made = Progress(rows.make(samples), "images", total=len(set(samples)), unit="img")
    if sheet:
        count = _sheet(destination, made, each, people)
    else:
        count = _store(destination, made, p, recipe)
    return {
        "destination": given.destination,
        "images": count,
        "people": len({sample // each for sample in samples}),
        "image_size": recipe.generator.image_size,
        "seed": p.sampling_seed,
        "sigma": list(perturbation.sigma),
        "sigma_share": list(perturbation.share),
        "attrop": aims.summary(rows.counts) if aims else {},
    }


def _perturbation(p: Params, pca: PCA, given: argparse.Namespace) -> Perturbation:
    usual = Perturbation.of(p, pca)
    if given.sigma is None:
        if given.share:
            raise InputError("--share: of the levels of --sigma, which is not given")
        return usual
    if p.perturbation == "angular":
        raise InputError(f"--sigma: perturbation in {given.params} is angular, which has no sigma")
    return replace(
        usual,
        sigma=given.sigma,
        share=given.share or [1 / len(given.sigma)] * len(given.sigma),
    )


def _people(given: argparse.Namespace, p: Params, pca: PCA, recipe: Recipe) -> People:
    faces = None
    if given.vectors:
        where, vectors = given.vectors, np.atleast_2d(read_array(Path(given.vectors)))
    elif given.faces:
        where = p.paths.recognizer
        vectors, faces = _photographed(given, where, recipe.generator.image_size)
    else:
        where, vectors = "models/pca.npz", _sampled(given, p, pca)
    if vectors.ndim != 2 or not len(vectors) or vectors.shape[1] != recipe.generator.dimension:
        raise InputError(
            f"{where}: vectors of shape {vectors.shape}; {p.paths.generator} takes (n, "
            f"{recipe.generator.dimension}), features of the recognizer that it was trained with"
        )
    check_finite(vectors, where)
    vectors = np.asarray(vectors, np.float32)
    if not np.linalg.norm(vectors, axis=1).all():
        raise InputError(f"{where}: a vector is zero, so it is nobody's; leave it out")
    return People(vectors, faces, min(given.people, len(vectors)))


def _photographed(
    given: argparse.Namespace, recognizer: str, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean feature of each person, and a photograph: (n, side, side, 3) uint8."""
    source = open_given(given.faces)
    labels = np.unique(source.labels)[: None if given.row else given.people]
    source = Selection(source, np.flatnonzero(np.isin(source.labels, labels)))
    vectors = identity_means(features_of(open_recognizer(recognizer), source), source.labels)
    _, firsts = np.unique(source.labels, return_index=True)
    return vectors, load_images(source, side, firsts)


def _sampled(given: argparse.Namespace, p: Params, pca: PCA) -> np.ndarray:
    """Sample as the stage ``identities`` does: the first of its people.

    They are as many as fill a block of images, if the run has so many: then no batch is smaller
    than in the whole set.
    """
    if p.away_from:
        raise InputError(
            f"away_from in {given.params}: it is not kept here; sample with `dvc repro "
            "identities` and give --vectors data/identities.npy"
        )
    full = -(-given.people * p.images_per_identity // BLOCK) * BLOCK
    count = p.identities if given.row else min(p.identities, -(-full // p.images_per_identity))
    draw = partial(pca.sample, p.sampling_seed, "identity")
    return sample_identities(draw, max(count, given.people), p.tau).vectors


def _aims(given: argparse.Namespace, p: Params, quality: int) -> Aims | None:
    asked = [f"yaw={given.yaw}"] if given.yaw else given.aim
    if not (asked or given.attrop):
        return None
    if p.attrop is None:
        raise InputError(
            f"{given.params}: attrop is null, so nothing says how to aim at attributes; take the "
            "section from params/photos.yaml"
        )
    attrop = _aiming(p.attrop, asked, given.params) if asked else p.attrop
    return open_aims(p, attrop, quality)


def _aiming(attrop: AttrOP, asked: list[str], where: str) -> AttrOP:
    """Return what aims all images at ``asked``, NAME=VALUE each."""
    aims: dict[str, Any] = {}
    for each in asked:
        name, _, value = each.partition("=")
        if name not in attrop.attributes:
            raise InputError(
                f"--aim {each}: {where} has no {name!r} in attrop.attributes; known are "
                f"{', '.join(attrop.attributes)}"
            )
        aims[name] = value
    try:
        group = AimGroup(share=1.0, aims=aims)
    except ValidationError as error:
        raise InputError(f"--aim {' '.join(asked)}: {error.errors()[0]['msg']}") from error
    attributes = {name: aim for name, aim in attrop.attributes.items() if name in aims}
    return attrop.model_copy(update={"groups": [group], "attributes": attributes})


def _sheet(path: Path, made: Iterable[Row], each: int, people: People) -> int:
    """Write a sheet, a person a row; return how many images it shows."""
    rows: dict[int, list[np.ndarray]] = {}
    for row in made:
        image = decode(row.jpeg, f"sample {row.sample}")
        rows.setdefault(row.sample // each, []).append(image)
    count = sum(map(len, rows.values()))
    if people.faces is not None:
        rows = {person: [people.faces[person], *images] for person, images in rows.items()}
    columns = max(map(len, rows.values()), default=0)
    if not count:
        raise InputError(f"{path}: AttrOP has dropped all images; raise attrop.steps")
    figure = contact_sheet(
        list(rows.values()),
        row_labels=[str(person) for person in rows],
        column_labels=["photo", *[""] * (columns - 1)] if people.faces is not None else (),
        tile=max(TILE, len(next(iter(rows.values()))[-1])),
    )
    save(figure, path)
    return count


def _store(path: Path, made: Iterable[Row], p: Params, recipe: Recipe) -> int:
    """Write a FaceStore and its vectors; return how many images it holds."""
    beside = path.with_name(f"{path.name}_vectors.npy")
    check_new(str(beside))
    vectors = []
    with FaceStoreWriter(
        path,
        image_size=recipe.generator.image_size,
        seed=p.sampling_seed,
        made_by="python -m vec2face generate",
    ) as writer:
        for row in made:
            writer.append(row.jpeg, row.sample // p.images_per_identity)
            vectors.append(row.vector)
        if not vectors:
            raise InputError(f"{path}: AttrOP has dropped all images; raise attrop.steps")
        with whole_file(beside) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack(vectors))
    return len(vectors)
