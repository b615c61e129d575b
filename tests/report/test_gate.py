"""What the gate tells apart, and what it refuses to compare."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.parameters import ROOT
from tests.test_docs import explained
from vec2face.report.comment import markdown, parameter_changes, plain, write
from vec2face.report.gate import Rules, decide, errors_over_folds
from vec2face.report.results import Made, Results, flattened
from vec2face.report.tables import HEADLINE, STANDARD, average, flat_metrics, recovery
from vec2face.runtime.files import InputError

RULES = Rules.load(ROOT / "gate.yaml")
SMOKE = dict(flattened(yaml.safe_load((ROOT / "params/smoke.yaml").read_text())))


def evaluation(draw, generated=70.0, real=80.0, pairs=600):
    """Accuracies of ten folds of pairs, of recognizers that are right so often (percent)."""
    found = {}
    for name, percent in (("generated", generated), ("real", real), ("untrained", 55.0)):
        found[name] = {}
        for benchmark in STANDARD:
            folds = draw.binomial(pairs // 10, percent / 100, 10) / (pairs // 10)
            found[name][benchmark] = {"accuracy": 100 * folds.mean(), "std": 100 * folds.std()}
    return found


def run(evaluated, name="run", *, proof=0, others=None, deviations=None, **changes):
    metrics = flat_metrics(evaluated, {"mislabelled_vectors": proof, **(others or {})})
    usual = Results(name, SMOKE, evaluated, metrics, deviations or {}, "one", {}, Path("none"))
    return dataclasses.replace(usual, **changes)


def test_what_is_judged_stands_in_the_headline():
    """But for AttrOP's figures, whose names depend on the groups."""
    shown = {name.rpartition(".")[2] for name in HEADLINE}
    assert {name for name in RULES.metrics if not name.startswith("attrop_")} <= shown


def verdicts(decision):
    return {c.key: c.verdict for c in decision.comparisons}


def test_the_error_of_averages_and_of_recovery_is_that_of_independent_accuracies():
    found = evaluation(np.random.default_rng(0))
    errors = errors_over_folds(found)

    def of_average(name):
        return math.sqrt(sum(found[name][b]["std"] ** 2 / 9 for b in STANDARD)) / 5

    assert errors["lfw"] == pytest.approx(found["generated"]["lfw"]["std"] / 3)
    assert errors["avg"] == pytest.approx(of_average("generated"))
    assert errors["untrained_avg"] == pytest.approx(of_average("untrained"))
    means = {n: average({b: r["accuracy"] for b, r in found[n].items()})[0] for n in found}
    gained = means["real"] - 50
    slope = recovery(means["generated"], means["real"]) / gained
    expected = math.hypot(of_average("generated") / gained, of_average("real") * slope)
    assert errors["recovery"] == pytest.approx(expected, rel=0.01)


def test_at_smoke_scale_nothing_is_told_apart():
    """Originals gain hardly anything over chance there, and recovery divides by what they gain."""
    draw = np.random.default_rng(1)
    runs = [run(evaluation(draw, 51.0, 51.5, pairs=40)) for _ in range(80)]
    recoveries = [r.metrics["recovery"] for r in runs if "recovery" in r.metrics]
    assert max(recoveries) - min(recoveries) > 5
    codes = [decide(a, b, RULES).code for a, b in zip(runs[::2], runs[1::2], strict=True)]
    assert codes.count(1) <= 1


def test_equals_pass_and_what_is_clearly_worse_does_not():
    draw = np.random.default_rng(2)
    runs = [run(evaluation(draw)) for _ in range(60)]
    codes = [decide(a, b, RULES).code for a, b in zip(runs[::2], runs[1::2], strict=True)]
    assert codes.count(1) <= 1  # of 30: a dozen metrics at three standard errors
    for base in runs[:10]:
        # Three standard errors of a difference of averages over 3000 pairs each are 3.5 points.
        harmed = decide(base, run(evaluation(draw, generated=63.0)), RULES)
        assert verdicts(harmed)["avg"] == "worse"
        assert harmed.code == 1
        helped = decide(base, run(evaluation(draw, generated=77.0)), RULES)
        assert verdicts(helped)["avg"] == "better"
        assert helped.code == 0


EXACT = {b: {"accuracy": 70.0, "std": 0.0} for b in STANDARD}


@pytest.mark.parametrize(
    ("key", "before", "after", "expected"),
    [
        ("separated_share", 0.9, 0.5, "worse"),  # of 24 people
        ("separated_share", 0.9, 0.85, "same"),
        ("separated_share", 0.5, 1.0, "better"),
        ("mislabelled_share", 0.1, 0.7, "worse"),
        ("second_reconstruction_cosine", 0.60, 0.59, "same"),  # within its tolerance
        ("second_reconstruction_cosine", 0.60, 0.55, "worse"),
        ("leak_identity_training_flagged", 1, 4, "same"),  # counts scatter by their roots
        ("leak_identity_training_flagged", 1, 40, "worse"),
        ("attrop_0_yaw_second_bias", -2.0, 2.5, "same"),
        ("attrop_0_yaw_second_bias", -2.0, 3.5, "worse"),
        ("attrop_0_yaw_second_bias", 5.0, 1.0, "better"),
        ("mislabelled_vectors", 0, 1, "worse"),
        ("mislabelled_vectors", 7, 7, "worse"),
        ("mislabelled_vectors", 7, 0, "better"),
    ],
)
def test_every_metric_is_judged_in_its_own_direction(key, before, after, expected):
    results = [
        run({"generated": EXACT}, others={"identities": 24, key: value})
        for value in (before, after)
    ]
    decision = decide(*results, RULES)
    assert verdicts(decision)[key] == expected
    assert decision.code == (expected == "worse")


def test_the_scatter_over_seeds_counts_as_noise():
    base, head = (
        {"generated": {b: EXACT[b] | {"accuracy": a} for b in STANDARD}} for a in (70, 68)
    )
    assert verdicts(decide(run(base), run(head), RULES))["avg"] == "worse"
    scattered = decide(run(base, deviations={"avg": 1.0}), run(head), RULES)
    (average_,) = (c for c in scattered.comparisons if c.key == "avg")
    assert average_.error == pytest.approx(math.sqrt(2))  # of the difference of two draws
    assert average_.verdict == "same"


def test_a_metric_that_the_head_has_lost_is_refused_unless_it_is_named():
    key = "attrop_0_yaw_second_bias"
    base, head = run({"generated": EXACT}, "base", others={key: 1.0}), run({"generated": EXACT})
    lost = decide(base, head, RULES)
    assert lost.refused == [f"run lacks what base has; if that is meant, --across {key}"]
    assert lost.code == 2
    named = decide(base, head, RULES, across=[key])
    assert verdicts(named)[key] == "not measured"
    assert named.code == 0
    gained = decide(head, base, RULES)
    assert verdicts(gained)[key] == "not measured"
    assert gained.code == 0


def read_at(checksum):
    return {"evaluate": Made("", {"data/rendered/benchmarks": checksum}, {})}


UNPROVED = dict(run({"generated": EXACT}).metrics)
del UNPROVED["mislabelled_vectors"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"parameters": SMOKE | {"world": "photos"}}, "world"),
        ({"parameters": SMOKE | {"training.steps": 3000}}, "training.steps"),
        ({"parameters": SMOKE | {"rendered.stores.pca.people": 7}}, "rendered.stores.pca.people"),
        ({"parameters": {k: v for k, v in SMOKE.items() if k != "fr.epochs"}}, "fr.epochs"),
        ({"processor": "another"}, "processor"),
        ({"evaluation": {"generated": EXACT | {"mine": EXACT["lfw"]}}}, "benchmarks"),
        ({"evaluation": {}}, "has no reports/evaluation.json"),
        ({"metrics": UNPROVED}, "has no mislabelled_vectors"),
        ({"stages": read_at("other")}, "the content of paths.benchmarks"),
    ],
)
def test_what_differs_in_kind_is_not_compared(changes, named):
    base = run({"generated": EXACT}, stages=read_at("one"))
    assert decide(base, base, RULES).code == 0
    decision = decide(base, dataclasses.replace(base, **changes), RULES)
    assert decision.code == 2
    (reason,) = decision.refused
    assert named in reason
    assert {c.key for c in decision.comparisons} <= {"mislabelled_vectors"}


def test_a_broken_proof_is_refused_whatever_it_is_compared_with():
    base = run({"generated": EXACT})
    stopped = run({}, proof=3, parameters=SMOKE | {"world": "photos"})
    decision = decide(base, stopped, RULES)
    assert decision.refused
    assert decision.code == 1


def test_what_two_runs_do_not_record_is_said_and_what_is_let_differ_is_named_right():
    base = run({"generated": EXACT}, "old", processor="")
    head = run({"generated": EXACT}, parameters=SMOKE | {"fr.epochs": 99, "tau": 0.2})
    assert decide(base, head, RULES).code == 2
    decision = decide(base, head, RULES, across=["fr.epochs"])
    assert decision.code == 0
    assert "Nothing says on what kind of processor old was made." in decision.notes
    with pytest.raises(InputError, match="--across tau: no metric"):
        decide(base, head, RULES, across=["tau"])


def test_runs_of_the_same_code_data_and_parameters_are_equal_by_construction():
    base = run({"generated": EXACT}, stages=read_at("one"))
    assert any("equal by construction" in note for note in decide(base, base, RULES).notes)
    others = run({"generated": EXACT}, stages=read_at("one"), others={"draws": 3})
    assert any("yet figures differ" in note for note in decide(base, others, RULES).notes)
    code = {"evaluate": Made("", {"data/code/evaluate": "1"}, {})}
    other = {"evaluate": Made("", {"data/code/evaluate": "2"}, {})}
    decision = decide(
        dataclasses.replace(base, stages=code), dataclasses.replace(base, stages=other), RULES
    )
    assert "Stages whose code differs: evaluate." in decision.notes


def test_the_comment_has_verdicts_parameters_and_the_figures_that_are_there(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures/roc.png").write_bytes(b"curve")
    (tmp_path / "figures/own.png").write_bytes(b"no reviewer asked for it")
    base = run({"generated": EXACT}, "main")
    worse = {b: r | {"accuracy": 60.0} for b, r in EXACT.items()}
    head = run(
        {"generated": worse}, parameters=SMOKE | {"tau": "a|b"}, figures=tmp_path / "figures"
    )
    decision = decide(base, head, RULES)
    write(decision, base, head, tmp_path / "gate")
    text = (tmp_path / "gate/comment.md").read_text()
    assert text.startswith("## Gate: refused")
    assert "| `avg` | higher | 70 | 60 | -10 | 0 | **worse** |" in text
    assert "| `tau` | `0.3` | `a\\|b` |" in text
    assert "| - | ![roc, head](figures/head/roc.png) |" in text
    assert [p.name for p in (tmp_path / "gate/figures").rglob("*.png")] == ["roc.png"]
    assert "png" not in markdown(decision, base, head)
    assert plain(decision, base, head)["parameters"] == {"tau": [0.3, "a|b"]}
    assert parameter_changes(base, base) == {}


def test_the_rules_name_metrics_and_parameters_that_exist():
    assert all(explained(key) for key in RULES.metrics)
    used = {metric.share_of for metric in RULES.metrics.values()} - {None}
    assert all(explained(key) for key in used)
    known = [key for key in RULES.same if key not in ("processor", "benchmarks")]
    assert all(any(p == key or p.startswith(f"{key}.") for p in SMOKE) for key in known)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("standard_errors: 0\nmetrics: {}\nsame: []\n", "standard_errors"),
        ("standard_errors: 3\nmetrics: {avg: {better: up}}\nsame: []\n", "metrics.avg.better"),
        ("standard_errors: 3\nmetrics: {avg: {better: zero, x: 1}}\nsame: []\n", "metrics.avg.x"),
        ("[1]", "valid dictionary"),
        ("{", "is not YAML"),
    ],
)
def test_rules_that_make_no_sense_are_refused(tmp_path, text, named):
    (tmp_path / "gate.yaml").write_text(text)
    with pytest.raises(InputError, match=named):
        Rules.load(tmp_path / "gate.yaml")
