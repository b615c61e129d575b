"""The work of ``reconstruct``: features of faces, the generator's images of them, their cosines."""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vec2face.cli.destination import check_new
from vec2face.cli.opening import open_given, open_run
from vec2face.config.params import Params
from vec2face.dataset.recipe import Recipe
from vec2face.evaluation.reconstruction import feature_cosine
from vec2face.faces.images import decode, encode
from vec2face.faces.source import Selection, Source, load_images
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.recognizers.features import BLOCK, Recognizer, extract_rows, open_recognizer
from vec2face.report.figures import DPI, INK, contact_sheet, save
from vec2face.report.sheets import evenly
from vec2face.runtime.blocks import cut
from vec2face.runtime.files import InputError
from vec2face.runtime.progress import Progress

SHOWN, COLUMNS = 18, 9
LARGEST_SHEET = 900  # faces
TILE, GAP = 112, 22  # pixels of a sheet; a gap has the cosines in it


def reconstruct(given: argparse.Namespace) -> dict[str, Any]:
    """Reconstruct what was asked for; return what was done.

    Raises:
        InputError: on whatever cannot be; then nothing is written.
    """
    path, sheet = Path(given.destination), given.destination.endswith(".png")
    check_new(given.destination)
    p = open_run(given)
    faces = open_given(given.sources)
    number = given.number or (SHOWN if sheet else len(faces))
    if sheet and number > LARGEST_SHEET:
        raise InputError(f"--number: {number} faces are too many for a sheet; write a FaceStore")
    source = Selection(faces, evenly(len(faces), number))
    recipe, recognizer = Recipe.of(p), open_recognizer(p.paths.recognizer)
    if recognizer.dimension != recipe.generator.dimension:
        raise InputError(
            f"{p.paths.generator}: takes {recipe.generator.dimension} numbers, but "
            f"{p.paths.recognizer} gives {recognizer.dimension}; give the recognizer that it was "
            "trained with (--recognizer)"
        )
    judge = open_recognizer(given.judge) if given.judge else recognizer
    made = _reconstructions(source, recipe, recognizer, judge)
    cosines = _sheet(path, made) if sheet else _store(path, made, source, p, recipe)
    return {
        "destination": str(path),
        "images": len(cosines),
        "cosine": float(cosines.mean()),
        "least": float(cosines.min()),
        "largest": float(cosines.max()),
        "judge": given.judge or p.paths.recognizer,
    }


@dataclass(frozen=True)
class Part:
    """Some faces, (n, S, S, 3) uint8, what was made of them, as JPEGs too, and their cosines."""

    originals: np.ndarray
    images: np.ndarray
    jpegs: list[bytes]
    cosines: np.ndarray


def _reconstructions(
    source: Source, recipe: Recipe, recognizer: Recognizer, judge: Recognizer
) -> Iterator[Part]:
    """Yield the faces of a source, block by block."""
    for rows in Progress(cut(0, len(source), BLOCK), f"drawing {source.name}", unit="block"):
        features = extract_rows(recognizer, source, rows)
        jpegs = [encode(x, recipe.quality) for x in recipe.images(features, rows.start)]
        images = np.stack([decode(jpeg, "a reconstruction") for jpeg in jpegs])
        before = features if judge is recognizer else extract_rows(judge, source, rows)
        cosines = feature_cosine(before, judge.features(images))
        yield Part(load_images(source, recipe.generator.image_size, rows), images, jpegs, cosines)


def _sheet(path: Path, made: Iterable[Part]) -> np.ndarray:
    """Write originals above their reconstructions; return the cosines."""
    parts = list(made)
    originals, images, cosines = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("originals", "images", "cosines")
    )
    rows = [
        [*part[n : n + COLUMNS]]
        for n in range(0, len(images), COLUMNS)
        for part in (originals, images)
    ]
    tile = max(TILE, images.shape[1])
    figure = contact_sheet(rows, tile=tile, gap=GAP)
    width, height = figure.get_size_inches() * DPI
    for number, cosine in enumerate(cosines):
        row, column = divmod(number, COLUMNS)
        across, down = column * (tile + GAP) + tile / 2, 2 * row * (tile + GAP) + tile + GAP / 2
        figure.text(
            across / width,
            1 - down / height,
            f"{cosine:.2f}",
            ha="center",
            va="center",
            color=INK,
            fontsize=16 * 72 / DPI,
        )
    save(figure, path)
    return cosines


def _store(
    path: Path, made: Iterable[Part], source: Source, p: Params, recipe: Recipe
) -> np.ndarray:
    """Write the reconstructions as a FaceStore; return the cosines."""
    cosines: list[np.ndarray] = []
    with FaceStoreWriter(
        path,
        image_size=recipe.generator.image_size,
        seed=p.sampling_seed,
        made_by="python -m vec2face reconstruct",
    ) as writer:
        row = 0
        for part in made:
            writer.extend(part.jpegs, source.labels[row : row + len(part.jpegs)])
            row += len(part.jpegs)
            cosines.append(part.cosines)
    return np.concatenate(cosines)
