"""Tables, results and settings, on made-up numbers."""

import csv
import io
import logging
import statistics
from pathlib import Path

import pytest

from ablations import layout, results, table10
from ablations.roots import Root
from ablations.study import Table, read_study
from tests.parameters import PAPER, ROOT, changed
from vec2face.report.gate import Rules
from vec2face.report.results import Results
from vec2face.report.tables import paper_table
from vec2face.runtime.files import InputError, write_json

PROJECT = Path(__file__).parents[2]
TABLE = Table.model_validate(
    {
        "paper": 5,
        "title": "mixtures",
        "columns": {"avg": "avg", "sim_min": "vector_cosine_min"},
        "rows": {
            "alone": {"paper": ["0.3", "100"]},
            "real": {"variant": "alone", "of": "real"},
            "missing": {"paper": ["0.3 0.5", "60 40"]},
        },
    }
)
RUNS = {
    ("alone", seed): {"avg": 80.0 + seed, "real_avg": 90.0, "vector_cosine_min": 0.7 + seed / 100}
    for seed in (0, 1, 2)
} | {("missing", 0): None}


def test_metrics_are_flat_with_one_name_a_row():
    found = layout.flat("table5", layout.cells(TABLE, RUNS))
    assert found == {
        "table5.alone.avg": 81.0,
        "table5.alone.avg_std": 1.0,
        "table5.alone.sim_min": pytest.approx(0.71),
        "table5.alone.sim_min_std": 0.01,
        "table5.real.avg": 90.0,
        "table5.real.avg_std": 0.0,
    }


def test_the_gate_reads_how_far_the_default_scatters(tmp_path):
    judged = {"avg", "recovery", "real_avg", "untrained_avg", "separated_share"}
    assert judged <= Rules.load(ROOT / "gate.yaml").metrics.keys()
    metrics = sorted(judged)
    runs = {
        ("default", seed): {name: 0.5 + seed * n for n, name in enumerate(metrics)}
        for seed in (0, 1, 2)
    }
    flat = layout.flat("seeds", layout.cells(read_study().table("seeds"), runs))
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    write_json(tmp_path / "reports/ablations/seeds.json", flat)
    write_json(tmp_path / "reports/quality.json", {"separated_share": 0.5})
    expected = {name: float(n) for n, name in enumerate(metrics)}
    assert Results.read(tmp_path, "run").deviations == expected


def test_rows_stand_beside_the_papers():
    found = layout.cells(TABLE, RUNS)
    rows = {row["row"]: row for row in csv.DictReader(io.StringIO(layout.to_csv(TABLE, found)))}
    alone = rows["alone"]
    assert [alone[key] for key in ("seeds", "avg", "avg_std", "avg_paper")] == [
        "3", "81.00", "1", "82.71"]  # fmt: skip
    assert (alone["sim_min_paper"], rows["real"]["avg_paper"], rows["real"]["sim_min"]) == (
        "0.71", "", "")  # fmt: skip
    assert (rows["missing"]["seeds"], rows["missing"]["avg"]) == ("0", "")
    text = layout.to_markdown(TABLE, found, "rendered")
    assert "| alone | 81.00 ± 1 | 82.71 | 0.71 ± 0.01 | 0.71 |" in text
    assert "not of the paper's level" in text
    assert "not of the paper's level" not in layout.to_markdown(TABLE, found, "paper")


def test_a_spread_of_one_seed_is_none():
    assert layout.spread([80.0]) == "80.00"
    values = [1.0, 2.0, 4.0]
    mean, deviation = layout.spread(values).split(" ± ")
    assert float(mean) == pytest.approx(statistics.fmean(values), abs=0.01)
    assert float(deviation) == pytest.approx(statistics.stdev(values), abs=0.01)


def test_a_row_that_the_paper_lacks_is_refused():
    with pytest.raises(InputError, match="table 5 .* no row that begins with 0.4"):
        layout.paper_row(5, ["0.4"])


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path / "one", PROJECT, {}, parameters=PROJECT / "params/smoke.yaml")


def test_a_result_stays_until_something_it_was_made_of_changes(root, tmp_path, caplog):
    made, file = results.made_of(root, ["evaluate"]), tmp_path / "a-0.json"
    assert {"geometry", "dataset", "recognizer@real", "evaluate"} < made["stages"].keys()
    assert {"dataset", "evaluate"} < made["code"].keys()
    assert {"models/rendered/identity.onnx", "models/rendered/pose.onnx"} < made["inputs"].keys()
    results.keep(file, "a", 0, made, {"avg": 1.0})
    assert results.kept(file, made) == {"avg": 1.0}
    other = Root(
        tmp_path / "two", PROJECT, {"fr.epochs": 3}, parameters=PROJECT / "params/smoke.yaml"
    )
    with caplog.at_level(logging.WARNING):
        assert results.kept(file, results.made_of(other, ["evaluate"])) is None
    assert "changed: stages recognizer@generated, stages recognizer@real" in caplog.text
    for kind, name in (("code", "dataset"), ("inputs", "models/rendered/pose.onnx")):
        now = {**made, kind: {**made[kind], name: "other"}}
        assert results.differences(made, now) == [f"{kind} {name}"]
    assert results.kept(tmp_path / "none.json", made) is None


def test_results_name_no_place_of_a_machine(root):
    named = {name for kind in results.made_of(root, ["evaluate"]).values() for name in kind}
    assert not [name for name in named if name.startswith(("/", ".."))]


def test_the_papers_parameters_are_those_of_its_table_10():
    found = {setting.name: setting for setting in table10.settings(PAPER)}
    assert [*found] == paper_table(10).iloc[:, 0].tolist()
    assert all(setting.same for setting in found.values())
    assert {name for name, s in found.items() if s.verdict == "not a parameter"} == {
        "Workers",
        "GPU",
    }


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"fr__epochs": 25}, "Epochs"),
        ({"fr__milestones": [12, 20]}, "Reduce Learning Rate"),
        ({"fr__schedule": "cosine"}, "Reduce Learning Rate"),
        ({"fr__precision": "float32"}, "FP16"),
        ({"fr__augment__erasing": 0}, "Augmentation"),
        ({"fr__weight_decay": 1e-3}, "Weight Decay"),
        ({"fr__backbone": "iresnet50"}, "Backbone"),
        ({"fr__lr": 0.2}, "Learning Rate"),
    ],
)
def test_a_setting_that_differs_is_named(values, name):
    found = table10.settings(changed(PAPER, **values))
    assert [setting.name for setting in found if not setting.same] == [name]
