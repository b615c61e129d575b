"""Stage 14, tables and report: everything measured, for people to read.

    python -m stages.report

Reads what the other stages left in reports/, data/ and models/; writes reports/metrics.json,
reports/run.json, reports/tables/, reports/figures/ and reports/index.html.
"""

from pathlib import Path

import numpy as np

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.faces.masked import open_set
from vec2face.faces.reading import read_array
from vec2face.generator.released import open_generator
from vec2face.identities.pca import PCA
from vec2face.report.contents import Faces, contact_sheets, numbers
from vec2face.report.figures import save
from vec2face.report.page import page
from vec2face.report.tables import flat_metrics, headline, read_evaluation, read_json, tables
from vec2face.runtime.files import whole_file, whole_folder, write_json
from vec2face.runtime.machine import kind_of_processor


def main() -> None:
    """Write the report."""
    p = Params.load(artifacts.params)
    evaluation = read_evaluation(artifacts.evaluation)
    others = (
        artifacts.certificate,
        artifacts.perturbation,
        artifacts.quality,
        artifacts.labels,
        artifacts.leaks,
    )
    metrics = flat_metrics(evaluation, *map(read_json, others))
    write_json(artifacts.metrics, headline(metrics, p.sets))
    write_json(artifacts.metrics.with_name("run.json"), {"processor": kind_of_processor()})

    sets = (
        Faces.load(artifacts.subset, artifacts.train_features),
        Faces.load(artifacts.held_out, artifacts.held_out_features),
        Faces.load(artifacts.generated, artifacts.generated_features),
    )
    subset, _, generated = (len(faces.images) for faces in sets)
    real, rows = p.sets["real"]
    own = Path(real) == artifacts.originals and not rows  # as many as were generated, or all
    originals = min(generated, subset) if own else len(open_set(real, rows, verify=False))
    laid_out = tables(evaluation, p.world, generated, originals)
    with whole_folder(artifacts.tables) as folder:
        for number, table in laid_out.items():
            (folder / f"table{number}.csv").write_text(table.csv())
            (folder / f"table{number}.md").write_text(table.markdown())

    curves = [artifacts.generator_curve, *map(artifacts.recognizer_curve, p.sets)]
    generator = open_generator(Path(p.paths.generator))
    identities = np.array(read_array(artifacts.identities))
    drawn = numbers(evaluation, artifacts.roc, curves, *sets)
    drawn |= contact_sheets(p, generator, identities, PCA.load(artifacts.pca), *sets)
    with whole_folder(artifacts.figures) as folder:
        for name, figure in drawn.items():
            save(figure, folder / f"{name}.png")

    pictures = {name: artifacts.figures / f"{name}.png" for name in drawn}
    with whole_file(artifacts.page) as temporary:
        temporary.write_text(page(p, metrics, laid_out.values(), pictures))


if __name__ == "__main__":
    run(main)
