"""Stage 10, tables and report: everything measured, for people to read.

    python -m stages.report

Reads what the other stages left in reports/, data/ and models/; writes reports/metrics.json,
reports/tables/, reports/figures/ and reports/index.html.
"""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from stages import run
from vec2face.config import Params
from vec2face.dataset.perturbation import shares
from vec2face.evaluation.separability import similarities
from vec2face.faces.source import open_source
from vec2face.generator.masks import masks
from vec2face.generator.released import open_generator
from vec2face.identities.pca import PCA
from vec2face.report import figures, sheets
from vec2face.report.page import Picture, Section, page
from vec2face.report.tables import HARDER, flat_metrics, read_evaluation, read_json, table
from vec2face.runtime.files import InputError, whole_file, whole_folder, write_json

REPORTS, DATA, MODELS = Path("reports"), Path("data"), Path("models")
SIGMA = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9)  # columns of the sheet after the paper's Fig. 1
IMAGES = 9  # of one person on a sheet
FEATURES = {  # panel of the similarity figure -> (features, their faces)
    "training faces": (DATA / "features" / "train.npy", DATA / "subset"),
    "held-out faces": (DATA / "features" / "held_out.npy", DATA / "held_out"),
    "generated faces": (DATA / "generated_features.npy", DATA / "generated"),
}
PAIRED = 20_000  # images of a panel, from the first on: pairs grow with the square


def main() -> None:
    """Write the report."""
    p = Params.load()
    evaluation = read_evaluation(REPORTS / "evaluation.json")
    others = [
        read_json(REPORTS / f"{name}.json") for name in ("sampling", "perturbation", "quality")
    ]
    metrics = flat_metrics(evaluation, *others)
    write_json(REPORTS / "metrics.json", metrics)

    generated, subset = (len(open_source(DATA / name)) for name in ("generated", "subset"))
    counts = (generated, min(generated, subset))  # the comparison trains on no more originals
    tables = [table(1, evaluation, p.world, *counts)]
    if any(b in results for results in evaluation.values() for b in HARDER):
        tables.append(table(6, evaluation, p.world, *counts))
    with whole_folder(REPORTS / "tables") as folder:
        for number, content in zip((1, 6), tables, strict=False):
            (folder / f"table{number}.csv").write_text(content.csv())
            (folder / f"table{number}.md").write_text(content.markdown())

    with whole_folder(REPORTS / "figures") as folder:
        for name, figure in (measured(evaluation) | faces(p)).items():
            figures.save(figure, folder / f"{name}.png")

    html = page(
        world=p.world,
        metrics=metrics,
        sections=sections(tables, p),
        settings={
            "seed": p.seed,
            "image size": p.image_size,
            "training identities": p.subset.identities,
            "generated identities": p.identities,
            "images per identity": p.images_per_identity,
            "tau": p.tau,
            "sigma": ", ".join(f"{s:g}" for s in p.sigma),
            "share of each sigma": ", ".join(f"{s:.0%}" for s in p.sigma_share),
            "least similarity": p.min_similarity,
            "recognizer trained": p.fr.backbone,
        },
    )
    with whole_file(REPORTS / "index.html") as temporary:
        temporary.write_text(html)


def measured(evaluation: dict[str, dict[str, dict[str, float]]]) -> dict[str, Figure]:
    """Draw figures of numbers: accuracies, ROC, training curves, similarities."""
    result = {"accuracies": figures.accuracies(evaluation)}
    for path in sorted((REPORTS / "curves").glob("*.csv")):
        curves = pd.read_csv(path)
        if path.stem == "roc":
            result["roc"] = figures.roc(curves)
        else:
            result[f"curves_{path.stem}"] = figures.training_curves(curves)
    counted = {}
    for title, (path, store) in FEATURES.items():
        if path.is_file():
            features, labels = np.load(path, mmap_mode="r"), open_source(store).labels
            if len(features) != min(len(labels), PAIRED) and len(features) != len(labels):
                raise InputError(
                    f"{path}: {len(features)} rows for {len(labels)} images of {store}; "
                    "run the features stage again"
                )
            counted[title] = similarities(features[:PAIRED], labels[: len(features)][:PAIRED])
    if counted:
        result["similarities"] = figures.similarity_histograms(counted)
    return result


def faces(p: Params) -> dict[str, Figure]:
    """Draw contact sheets."""
    generator = open_generator(p.paths.generator)
    size = generator.image_size
    m = p.sampling.masks
    drawn = partial(
        masks, p.seed, minimum=m.minimum, maximum=m.maximum, mean=m.mean, purpose="report"
    )
    # Levels are the same for every identity: the columns of the generated set have them, too.
    levels = np.repeat(p.sigma, shares(p.sigma_share, p.images_per_identity))
    held_out = sheets.reconstructions(
        generator,
        open_source(DATA / "held_out"),
        np.load(DATA / "features" / "held_out.npy"),
        drawn,
        size=size,
    )
    identities = np.load(DATA / "identities.npy")
    rising = sheets.rising_sigma(
        generator,
        identities,
        drawn,
        sigma=SIGMA,
        feature_scale=PCA.load(MODELS / "pca.npz").feature_scale,
        seed=p.seed,
    )
    subset, made = open_source(DATA / "subset"), open_source(DATA / "generated")
    return {
        "training_faces": figures.contact_sheet(
            sheets.people(subset, size), row_labels=numbered(subset.labels)
        ),
        "reconstructions": figures.contact_sheet(
            held_out, row_labels=["original", "generated"] * (len(held_out) // 2)
        ),
        "rising_sigma": figures.contact_sheet(
            rising,
            row_labels=numbered(np.arange(len(identities))),
            column_labels=[rf"$\sigma$ = {s:g}" for s in SIGMA],
        ),
        "generated_faces": figures.contact_sheet(
            sheets.people(made, size, images=IMAGES),
            row_labels=numbered(made.labels),
            column_labels=[
                rf"$\sigma$ = {s:g}" for s in levels[sheets.evenly(len(levels), IMAGES)]
            ],
        ),
    }


def numbered(labels: np.ndarray) -> list[str]:
    """Name the people of a sheet, by their labels in the set."""
    return [f"person {label}" for label in sheets.shown(labels)]


def flaws(p: Params) -> str:
    """Say what is wrong with generated faces below the paper's scale, and why."""
    if p.world == "paper":
        return ""
    lost = "glasses, marks and expressions" if p.world == "rendered" else "glasses, hats and marks"
    text = (
        " The faces are blurred: a network that is small, or trained for a short time, paints "
        f"the average of what the vector leaves open, and {lost} are lost."
    )
    if p.training.losses.identity:
        text += (
            " Coloured spots, most often about nose and mouth, may come from the identity loss, "
            "which rewards all that the recognizer takes for the person, also what no face has."
        )
    return text


def sections(tables: list, p: Params) -> list[Section]:
    """Put tables and figures in reading order, with words."""
    again = " Blur and spots are those of the reconstructions." if flaws(p) else ""

    def pictures(**captions: str) -> list[Picture]:
        paths = {name: REPORTS / "figures" / f"{name}.png" for name in captions}
        return [Picture(paths[n], text) for n, text in captions.items() if paths[n].is_file()]

    curves = {
        "curves_generator": "The generator.",
        "curves_fr_generated": "The recognizer, on generated faces.",
        "curves_fr_real": "The recognizer, on as many originals.",
    }
    for path in sorted((REPORTS / "figures").glob("curves_fr_*.png")):
        curves.setdefault(path.stem, f"The recognizer, on {path.stem.removeprefix('curves_fr_')}.")
    return [
        Section(
            "Recognition",
            "A recognizer trained on generated faces alone, the same network trained on as many of "
            "the original faces, and the network untrained. Beside them the recognizer whose "
            "features the generator was trained from, a reference rather than a rival.",
            pictures(accuracies="Accuracy by benchmark, ten folds, flipped images added."),
        ),
        Section(
            "In the layout of the paper",
            "Tables 1 and 6 of the paper. Rows of this run stand in a block of their own.",
            tables=tables,
        ),
        Section(
            "Faces",
            "People are taken at even steps through each set, not picked by looks.",
            pictures(
                training_faces="The faces the generator was trained on"
                f"{', rendered from 3D heads' if p.world == 'rendered' else ''}: one person a row, "
                "under the number they have in data/subset.",
                reconstructions="People the generator was never trained on: above, the original; "
                f"below, the face generated from its feature vector.{flaws(p)}",
                rising_sigma="One sampled identity a row, perturbed more from left to right, after "
                "the paper's Figure 1. The first column is the identity vector itself, whose "
                f"images in data/generated have this number.{again}",
                generated_faces="The generated set: the same identities, one a row, in its mixture "
                f"of sigmas.{again}",
            ),
        ),
        Section(
            "Similarity",
            "Cosine of all pairs of images under the recognizer of the identity loss. The less the "
            "two overlap, the cleaner the labels.",
            pictures(similarities="Pairs of one person's images against pairs of two people's."),
        ),
        Section(
            "Accept and reject",
            "Receiver operating characteristic on each benchmark.",
            pictures(
                roc="True accepts against false accepts; the axis of the latter is logarithmic."
            ),
        ),
        Section(
            "Training",
            "Losses and rates over the steps of each training.",
            pictures(**curves),
        ),
    ]


if __name__ == "__main__":
    run(main)
