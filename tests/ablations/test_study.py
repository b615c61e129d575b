"""What the study says of itself: its variants, tables and statements, as they are shipped."""

from pathlib import Path

import pytest
import yaml

from ablations import verdicts
from ablations.costs import planned
from ablations.layout import paper_row
from ablations.roots import Root, overridden
from ablations.study import Set, read_study, with_seed
from vec2face.config.params import Params
from vec2face.report.tables import paper_table
from vec2face.runtime.files import InputError

PROJECT = Path(__file__).parents[2]
STUDY = read_study()


@pytest.mark.parametrize(
    ("values", "changes", "seed", "sampling", "fr"),
    [
        ({}, {}, 0, None, None),  # null means seed, which is 0
        ({}, {}, 2, 2, 2),
        ({"seed": 2}, {}, 2, None, None),
        ({"seed": 2}, {}, 0, 0, 0),
        ({}, {"seed": 1}, 1, None, None),
        ({}, {"seed": 1}, 0, 0, 0),
        ({"fr.seed": 5}, {}, 0, None, 0),
        ({"fr.seed": 5}, {"tau": 0.2}, 5, 5, 5),
    ],
)
def test_a_seed_that_is_so_already_changes_nothing(values, changes, seed, sampling, fr):
    content = overridden(yaml.safe_load((PROJECT / "params.yaml").read_text()), values)
    found = overridden(content, with_seed(content, changes, seed))
    assert (found["sampling"]["seed"], found["fr"]["seed"]) == (sampling, fr)
    assert {**found, "sampling": 0, "fr": 0} == {
        **overridden(content, changes), "sampling": 0, "fr": 0}  # fmt: skip


def test_shipped_variants_are_possible(tmp_path):
    for variant in STUDY.variants.values():
        content = yaml.safe_load((PROJECT / variant.parameters).read_text())
        for seed in (0, 1):
            text = yaml.safe_dump(overridden(content, variant.seeded(PROJECT, seed)))
            (tmp_path / "params.yaml").write_text(text)
            p = Params.load(tmp_path / "params.yaml")
            assert (p.sampling_seed, p.fr_seed) == (seed, seed)
            assert variant.sets.keys() <= p.training_sets.keys()


@pytest.mark.parametrize("number", [2, 4, 5, 6, 7, 8])
def test_tables_have_every_row_of_the_papers_in_its_order(number):
    table = STUDY.tables[f"table{number}"]
    rows = [paper_row(number, row.paper) for row in table.rows.values()]
    printed = paper_table(number).to_dict("records")
    assert rows[: len(printed)] == printed
    assert all(row in printed for row in rows if row)  # further rows of ours


def test_columns_of_tables_are_the_papers_or_say_more():
    for name in ("table1", "table2", "table4", "table5", "table6", "table7", "table8", "table9"):
        table = STUDY.tables[name]
        measured = {c for c in paper_table(table.paper).columns if c in table.columns}
        assert measured
        assert set(table.columns) - measured <= {"rejected"}


def test_sets_of_others_get_rows_of_table_1(tmp_path):
    (tmp_path / "params").mkdir()
    content = yaml.safe_load((PROJECT / "params/study.yaml").read_text())
    content["training_sets"]["dcface"] = "data/external/dcface.rec"
    content["masked_sets"]["some"] = {"path": "data/external/all.rec", "rows": "rows.npy"}
    (tmp_path / "params/study.yaml").write_text(yaml.safe_dump(content))
    rows = STUDY.table("table1", tmp_path).rows
    assert (rows["dcface"].variant, rows["dcface"].of) == ("yaw_85", "dcface")
    assert (rows["some"].variant, rows["some"].of) == ("yaw_85", "some")
    assert set(rows) - {"dcface", "some"} == set(STUDY.tables["table1"].rows)


def test_every_variant_is_shown():
    assert {v for table in STUDY.tables.values() for v in table.variants()} == set(STUDY.variants)


def test_statements_are_about_rows_that_there_are():
    for statement in verdicts.read_statements().values():
        for claim in statement.claims:
            for value in claim.values:
                for cell in value.split(" - "):
                    table, row, column = cell.split(".")
                    assert row in STUDY.tables[table].rows
                    assert column in STUDY.tables[table].columns


def test_the_second_pipeline_has_a_stage_for_each_table():
    stages = yaml.safe_load((PROJECT / "ablations/dvc.yaml").read_text())["stages"]
    assert set(STUDY.tables) | {"table10", "verdicts"} == set(stages)
    for name, stage in stages.items():
        assert stage["cmd"] == f"python -m ablations {name}"
        files = {STUDY.variants[v].parameters for v in STUDY.tables[name].variants()} if (
            name in STUDY.tables
        ) else set()  # fmt: skip
        assert files <= set(stage["deps"])
    judged = {
        f"reports/ablations/{cell.split('.')[0]}.csv"
        for statement in verdicts.read_statements().values()
        for claim in statement.claims
        for value in claim.values
        for cell in value.split(" - ")
    }
    assert judged <= set(stages["verdicts"]["deps"])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("variants: {a: {chnages: {}}}\ntables: {}", "variants.a.chnages"),
        (
            "variants: {}\ntables: {t: {title: t, columns: {avg: avg}, rows: {a: {}}}}",
            "t: variants has no a",
        ),
        ("variants: {a: {alike: 2}}\ntables: {}", "variants.a.alike"),
    ],
)
def test_what_a_study_cannot_mean_is_named(tmp_path, text, named):
    (tmp_path / "variants.yaml").write_text(text)
    with pytest.raises(InputError, match=named):
        read_study(tmp_path / "variants.yaml")


def test_sets_cost_by_their_size(tmp_path):
    changes = {"training_sets.few": "data/sets/few", "training_sets.mixed": "data/sets/mixed"}
    root = Root(tmp_path / "few", PROJECT, changes, parameters=PROJECT / "params/smoke.yaml")
    p, sets = root.params, {"few": Set(people=6), "mixed": Set(images=3, beside="faces")}
    seconds = planned(root, sets, tflops=1)
    made, real = 24 * 6, 24 * 6
    assert p.identities * p.images_per_identity == made
    each = seconds["recognizer@generated"] / made
    assert seconds["recognizer@few"] == pytest.approx(6 * 6 * each)
    assert seconds["recognizer@mixed"] == pytest.approx((24 * 3 + real) * each)


def test_a_table_is_made_anew_when_a_module_changes_that_makes_it():
    others = {"__init__", "__main__", "costs", "devices", "ladder", "table10", "verdicts"}
    wanted = {f"ablations/{m.name}" for m in PROJECT.glob("ablations/*.py") if m.stem not in others}
    stages = yaml.safe_load((PROJECT / "ablations/dvc.yaml").read_text())["stages"]
    made = {name: set(stage["deps"]) for name, stage in stages.items() if name in STUDY.tables}
    assert made.keys() == STUDY.tables.keys()
    assert not [
        name for name, deps in made.items() if {d for d in deps if d[-3:] == ".py"} != wanted
    ]
