"""Flat metrics and the paper's layout."""

import csv
import io
import json
from pathlib import Path

import pytest

from vec2face.report.tables import (
    HARDER,
    STANDARD,
    average,
    flat_metrics,
    headline,
    paper_table,
    read_evaluation,
    recovery,
    table,
    tables,
)
from vec2face.runtime.files import InputError


def results(accuracies: dict[str, float]) -> dict[str, dict[str, float]]:
    return {b: {"accuracy": a, "std": 1.0} for b, a in accuracies.items()}


FULL = {
    "generated": results({**dict(zip(STANDARD, (90, 80, 70, 60, 65), strict=True)), "hadrian": 55}),
    "real": results(dict.fromkeys(STANDARD, 90)),
    "untrained": results(dict.fromkeys(STANDARD, 54)),
}


def test_metrics_average_the_five_only() -> None:
    metrics = flat_metrics(FULL)
    assert metrics["avg"] == pytest.approx((90 + 80 + 70 + 60 + 65) / 5)
    assert metrics["avg_benchmarks"] == 5
    assert metrics["hadrian"] == 55
    assert metrics["real_calfw"] == 90
    assert metrics["untrained_avg"] == pytest.approx(54)
    assert metrics["recovery"] == pytest.approx((73 - 50) / (90 - 50))
    assert metrics["recovery_over_untrained"] == pytest.approx((73 - 54) / (90 - 54), abs=1e-4)
    assert "estimator_avg" not in metrics


def test_absent_benchmarks_are_absent_and_counted() -> None:
    metrics = flat_metrics({"generated": results({"lfw": 80, "mine": 70})})
    assert metrics == {"lfw": 80, "mine": 70, "avg": 80, "avg_benchmarks": 1}


def test_no_standard_benchmark_no_average() -> None:
    assert flat_metrics({"generated": results({"mine": 70})}) == {"mine": 70}
    assert average({})[1] == 0


def test_recovery_is_left_out_when_originals_gain_nothing() -> None:
    evaluation = {"generated": results({"lfw": 60}), "real": results({"lfw": 50})}
    assert "recovery" not in flat_metrics(evaluation)
    assert recovery(60, 70) == pytest.approx(0.5)


def test_a_further_training_set_has_its_own_prefix_and_row() -> None:
    evaluation = {"dcface": results({"lfw": 70}), "generated": results({"lfw": 60})}
    metrics = flat_metrics(evaluation)
    assert (metrics["lfw"], metrics["dcface_lfw"]) == (60, 70)
    rows = table(1, evaluation, "photos", 10, 10).ours
    assert [row[0] for row in rows] == ["Vec2Face (generated)", "dcface"]


def test_a_stand_in_is_no_gan_and_its_originals_are_not_real() -> None:
    for world, kinds in (
        ("rendered", ["generated", "rendered", ""]),
        ("photos", ["generated", "real", ""]),
        ("paper", ["gan", "real", ""]),
    ):
        assert [row[1] for row in table(1, FULL, world, 10, 10).ours] == kinds


def test_other_numbers_join_and_text_does_not() -> None:
    others = {"separated_share": 0.5, "pair": [1, 2], "seed": 3, "ok": True, "bad": float("nan")}
    assert flat_metrics({}, others, {"images": 7}) == {"separated_share": 0.5, "images": 7}
    with pytest.raises(InputError, match="'lfw'"):
        flat_metrics({"generated": results({"lfw": 60})}, {"lfw": 1.0})


def test_the_headline_holds_averages_and_says_whose_the_rest_is() -> None:
    metrics = flat_metrics(FULL | {"dcface": results({"lfw": 70})}, {"mislabelled_share": 0.5})
    assert headline(metrics, ["generated", "real", "dcface"]) == {
        "avg": 73,
        "real_avg": 90,
        "untrained_avg": 54,
        "dcface_avg": 70,
        "recovery": metrics["recovery"],
        "recovery_over_untrained": metrics["recovery_over_untrained"],
        "labels": {"mislabelled_share": 0.5},
    }


@pytest.mark.parametrize("accuracy", [85.0, -0.1, None, "0.9"])
def test_evaluation_holds_shares(tmp_path: Path, accuracy: object) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"real": {"lfw": {"accuracy": accuracy}}}))
    with pytest.raises(InputError, match=r"evaluation\.json: real/lfw"):
        read_evaluation(path)


def test_evaluation_is_turned_into_percent(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"real": {"lfw": {"accuracy": 0.875, "std": 0.01}}}))
    assert read_evaluation(path)["real"]["lfw"] == {"accuracy": 87.5, "std": 1.0}


@pytest.mark.parametrize("text", ["", "[1]", '{"real": {"lfw": 1}}'])
def test_evaluation_of_another_kind_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"evaluation\.json"):
        read_evaluation(path)


def test_the_papers_averages_agree_with_its_columns_but_where_the_method_says() -> None:
    """A slip of typing would show: the printed average is that of the printed five."""
    method = (Path(__file__).parents[2] / "docs/method.md").read_text()
    slips = set()
    for number in range(1, 10):
        printed = paper_table(number)
        assert len(printed) > 1
        if {*STANDARD, "avg"} <= {*printed.columns}:
            numbers = printed[[*STANDARD, "avg"]].astype(float)
            mean = numbers[[*STANDARD]].mean(axis=1)
            off = (mean - numbers["avg"]).abs() > 0.0051
            slips |= {(a, f"{b:.2f}") for a, b in zip(printed["avg"][off], mean[off], strict=True)}
    assert len(slips) == 3
    for written, mean in slips:
        assert f"{written} ({mean})" in " ".join(method.split())


def test_cells_are_as_printed() -> None:
    """Zeros at the end, and lists, are part of what is printed."""
    assert "43.80" in paper_table(3).to_numpy()
    assert "0.70" in paper_table(7).to_numpy()
    assert dict(paper_table(10).to_numpy())["Reduce Learning Rate"] == "[12, 20, 24]"
    for number in range(1, 10):
        printed = paper_table(number)
        for column in {*STANDARD, *HARDER, "avg"} & {*printed.columns}:
            assert printed[column].str.fullmatch(r"|\d\d\.\d\d").all(), (number, column)


def test_the_papers_tables_agree_among_themselves() -> None:
    one, two = (paper_table(n).set_index("training_set") for n in (1, 2))
    columns = [*STANDARD, "avg"]
    shared = ["HSFace10K", "CASIA-WebFace (real)"]
    assert one.loc[shared, columns].equals(two.loc[shared, columns])
    with pytest.raises(InputError, match="1 to 10"):
        paper_table(11)


def test_rendered_rows_stand_apart() -> None:
    laid = table(1, FULL, "rendered", 6400, 500_000)
    rows = list(csv.DictReader(io.StringIO(laid.csv())))
    ours = [r for r in rows if r["source"] == "stand-in"]
    assert {r["source"] for r in rows} == {"paper", "stand-in"}
    assert rows[: len(rows) - len(ours)] == [r for r in rows if r["source"] == "paper"]
    assert [r["images"] for r in ours] == ["6 400", "0.5M", "0"]
    assert ours[0]["avg"] == "73.00"
    text = laid.markdown()
    assert text.index("not comparable") < text.index("Vec2Face (generated)")
    assert text.index("Vec2Face (generated)") < text.index("### The paper")


def test_an_average_over_fewer_stays_out_of_the_table() -> None:
    laid = table(1, {"generated": results({"lfw": 80})}, "photos", 10, 10)
    assert laid.ours[0][laid.columns.index("avg")] == ""
    assert "1 of its 5" in laid.notes[0]


def test_harder_benchmarks_have_table_six() -> None:
    laid = table(6, FULL, "rendered", 1, 1)
    assert laid.columns == ["training_set", *HARDER]
    assert laid.ours == [["Vec2Face (generated)", "55.00", "", "", ""]]
    assert list(tables(FULL, "rendered", 1, 1)) == [1, 6]
    assert list(tables({"real": results({"lfw": 90})}, "rendered", 1, 1)) == [1]
    with pytest.raises(InputError, match="table 3"):
        table(3, FULL, "rendered", 1, 1)
