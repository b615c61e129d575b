"""Run variants of the pipeline, over seeds.

    python -m ablations seeds          a table of ablations/variants.yaml
    python -m ablations ladder         real faces, reconstructions, perturbed people, sampled people

The pipeline's own results must be there (``dvc repro``). What was finished is not computed again;
folders lie under work/ablations. Writes reports/ablations/<table>.json and .md.
"""

import logging
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ablations.ladder import REAL, SETS, write_sets
from ablations.roots import Root, check_made, overridden, value_at
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.report.tables import flat_metrics, read_evaluation, read_json
from vec2face.runtime.files import InputError, whole_file, write_json

log = logging.getLogger(__name__)

HERE, BASE = Path(__file__).parent, Path()
WORK = artifacts.work / "ablations"
RESULTS = BASE / "reports/ablations"
SHOWN = {"certificates.mislabelled_features": 1}  # a table shows them and does not end at them
COLUMNS = ("lfw", "cfp_fp", "cplfw", "agedb_30", "calfw", "avg", "real_avg", "untrained_avg",
           "recovery_over_untrained", "separated_share", "pure_separated_share", "vector_angle_max",
           "attrop_0_converged", "attrop_0_yaw_second_bias", "attrop_0_yaw_second_within",
           "attrop_1_converged", "attrop_1_yaw_second_bias",
           "attrop_1_yaw_second_within")  # fmt: skip
"""Metrics in the tables; the JSON files beside them have all."""


def variants(table: str) -> dict[str, dict[str, Any]]:
    """Run a table; return each variant's metrics: mean, standard deviation and values."""
    tables = yaml.safe_load((HERE / "variants.yaml").read_text())
    if table not in tables:
        raise InputError(
            f"{HERE / 'variants.yaml'}: no table {table!r}; there are {', '.join(tables)}"
        )
    content = yaml.safe_load((BASE / "params.yaml").read_text())
    found: dict[str, dict[str, Any]] = {}
    for name, changes in tables[table]["variants"].items():
        runs = []
        for seed in tables[table]["seeds"]:
            seeded = with_seed(content, {**SHOWN, **changes}, seed)
            root = Root(WORK / f"{table}-{name}-{seed}", BASE, seeded)
            root.make(["evaluate", "measure", "labels"])
            runs.append(metrics(root))
        found[name] = over_seeds(runs)
    return found


def with_seed(content: Mapping[str, Any], changes: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return changes with the seeds of sampling and FR training, where those are others yet.

    A seed of null means ``seed``. Written as a number it would rerun its stages for the same bytes.
    """
    now = overridden(content, changes)
    keys = ("sampling.seed", "fr.seed")
    values = {key: value_at(now, key) for key in keys}
    effective = {key: now["seed"] if value is None else value for key, value in values.items()}
    return {**changes, **{key: seed for key in keys if effective[key] != seed}}


def metrics(root: Root) -> dict[str, float]:
    """Return the metrics of a root, under their names in docs/measures.md."""
    evaluation = read_evaluation(root.folder / "reports/evaluation.json")
    others = ("sampling", "perturbation", "quality", "labels")
    return flat_metrics(evaluation, *(read_json(root.folder / f"reports/{o}.json") for o in others))


def over_seeds(runs: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return for each metric that all runs have its mean, standard deviation and values."""
    shared = [key for key in runs[0] if all(key in run for run in runs)]
    return {
        key: {
            "mean": round(statistics.fmean(run[key] for run in runs), 4),
            "std": round(statistics.stdev([run[key] for run in runs]), 4) if runs[1:] else None,
            "values": [run[key] for run in runs],
        }
        for key in shared
    }


def ladder() -> dict[str, dict[str, Any]]:
    """Train on both sets between real and generated faces; return averages by rung."""
    p = Params.load(artifacts.params)
    check_made(BASE, ["dataset"])
    sets = write_sets(p, WORK / "ladder-sets")
    root = Root(
        WORK / "ladder", BASE, {f"training_sets.{n}": str((sets / n).resolve()) for n in SETS}
    )
    root.make(["evaluate"])
    found = flat_metrics(read_evaluation(root.folder / "reports/evaluation.json"))
    rungs = {n: f"{n}_" for n in ("untrained", REAL, *SETS)}
    return {
        rung: {key.removeprefix(prefix): found[key] for key in found if key.startswith(prefix)}
        for rung, prefix in rungs.items()
    } | {"sampled": {key: found[key] for key in ("avg", *p.rendered.benchmarks) if key in found}}


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of ``COLUMNS``: a row for each variant or rung."""
    keys = [k for k in COLUMNS if any(k in row for row in found.values())]
    lines = ["| | " + " | ".join(keys) + " |", "| --- " * (len(keys) + 1) + "|"]
    for name, row in found.items():
        cells = []
        for key in keys:
            value = row.get(key, "")
            if isinstance(value, Mapping):
                value = f"{value['mean']:g}" + (f" ± {value['std']:g}" if value["std"] else "")
            cells.append(str(value))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(table: str) -> None:
    """Run one table and write it."""
    found = ladder() if table == "ladder" else variants(table)
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_json(RESULTS / f"{table}.json", found)
    with whole_file(RESULTS / f"{table}.md") as temporary:
        temporary.write_text(markdown(found))
    log.info("%s:\n%s", RESULTS / f"{table}.md", markdown(found))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1])
    except InputError as error:
        sys.exit(f"error: {error}")
