"""The figures of a report, each under the name by which the page's template asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vec2face.config.params import Params
from vec2face.dataset.perturbation import Perturbation
from vec2face.evaluation.roles import Evaluation
from vec2face.evaluation.separability import similarities
from vec2face.faces.reading import read_array
from vec2face.faces.source import Source, open_source
from vec2face.generator.masks import masks
from vec2face.generator.network import Vec2Face
from vec2face.identities.pca import PCA
from vec2face.report import figures, sheets
from vec2face.runtime.files import InputError

SIGMA = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9)  # columns of the sheet after the paper's Fig. 1
IMAGES = 9  # of one person on a sheet
PAIRED = 20_000  # images whose pairs are counted, from a set's start: pairs grow with the square


@dataclass(frozen=True)
class Faces:
    """A set of faces, and their features under the recognizer of the identity loss.

    Attributes:
        images: N images.
        features: (N, D) float32, or as many as were measured from the start.
    """

    images: Source
    features: np.ndarray

    @classmethod
    def load(cls, store: Path, features: Path) -> "Faces":
        """Open a store and the file of its features.

        Raises:
            InputError: they differ in length, or one of them is missing.
        """
        images = open_source(store)
        rows = read_array(features)
        if len(rows) not in (len(images), min(len(images), PAIRED)):
            raise InputError(
                f"{features}: {len(rows)} rows for {len(images)} images of {store}; run `dvc repro`"
            )
        return cls(images, rows)


def numbers(
    evaluation: Evaluation,
    roc: Path,
    curves: Sequence[Path],
    training: Faces,
    held_out: Faces,
    generated: Faces,
) -> dict[str, Figure]:
    """Draw figures of numbers: accuracies, ROC, training curves, similarities.

    Args:
        evaluation: accuracies in percent.
        roc: table of all ROC curves; see ``figures.roc``.
        curves: table of each training; ``fr_real.csv`` is drawn as ``curves_fr_real``.
        training: faces that the generator was trained on.
        held_out: faces of people whom it was not trained on.
        generated: the generated set.

    Raises:
        InputError: a table is missing or cannot be read.
    """
    sets = {"training": training, "held-out": held_out, "generated": generated}
    counted = {}
    for name, faces in sets.items():
        features = faces.features[:PAIRED]
        counted[f"{name} faces"] = similarities(features, faces.images.labels[: len(features)])
    return {
        "accuracies": figures.accuracies(evaluation),
        "roc": figures.roc(_read(roc)),
        "similarities": figures.similarity_histograms(counted),
        **{f"curves_{path.stem}": figures.training_curves(_read(path)) for path in curves},
    }


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as CSV ({error}); run `dvc repro`") from error


def contact_sheets(
    p: Params,
    generator: Vec2Face,
    identities: np.ndarray,
    pca: PCA,
    training: Faces,
    held_out: Faces,
    generated: Faces,
) -> dict[str, Figure]:
    """Draw sheets of faces: two sets, reconstructions, and what sigma does.

    Args:
        p: the run's parameters.
        generator: what draws faces from vectors.
        identities: (n, D) float32 identity vectors.
        pca: the distribution of identities, for sigma.
        training: faces that the generator was trained on.
        held_out: faces of people whom it was not trained on.
        generated: the generated set.
    """
    size = generator.image_size
    drawn = partial(masks, p.seed, purpose="report", **p.sampling.masks.model_dump())
    perturbation = Perturbation.of(p, pca)
    # Every identity has the same levels, unless they or angles are drawn; so a column has one.
    levels = perturbation.levels[sheets.evenly(p.images_per_identity, IMAGES)]
    drawn_levels = perturbation.mixture == "all" or perturbation.max_angle is not None
    copies = sheets.reconstructions(
        generator, held_out.images, held_out.features, drawn, size=size, columns=IMAGES
    )
    rising = sheets.rising_sigma(
        generator, identities, drawn, perturbation=perturbation, sigma=SIGMA
    )
    return {
        "training_faces": figures.contact_sheet(
            sheets.people(training.images, size, images=IMAGES),
            row_labels=_numbered(training.images.labels),
        ),
        "reconstructions": figures.contact_sheet(
            copies, row_labels=["original", "generated"] * (len(copies) // 2)
        ),
        "rising_sigma": figures.contact_sheet(
            rising,
            row_labels=_numbered(np.arange(len(identities))),
            column_labels=_sigmas(SIGMA),
        ),
        "generated_faces": figures.contact_sheet(
            sheets.people(generated.images, size, images=IMAGES),
            row_labels=_numbered(generated.images.labels),
            column_labels=() if drawn_levels else _sigmas(levels),
        ),
    }


def _numbered(labels: np.ndarray) -> list[str]:
    """Name the people of a sheet by their labels in the set."""
    return [f"person {label}" for label in sheets.shown(labels)]


def _sigmas(levels: Sequence[float] | np.ndarray) -> list[str]:
    return [rf"$\sigma$ = {level:g}" for level in levels]
