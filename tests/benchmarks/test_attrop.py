"""The modes of AttrOP beside each other, in the small world of its tests and on random networks."""

from dataclasses import replace

import pytest

from benchmarks.attrop import Contest, contest_of, table
from tests.dataset.test_attrop import AWAY, LIGHT, NETWORKS, SETTINGS, estimator, samples
from vec2face.config.params import Params
from vec2face.runtime.files import InputError

TURN = replace(AWAY, name="yaw")


def yaws(images):
    values = estimator(images)
    return {"yaw": values["turn"], "light": values["light"]}


def contest(count=8):
    networks = replace(NETWORKS, estimators=[yaws])
    settings = replace(SETTINGS, attributes=(TURN, LIGHT), steps=30)
    return Contest(networks, settings, samples(count, light=-20.0), yaws, 40)


def test_all_modes_are_measured_from_the_same_vectors():
    rows = contest().rows(20.0)
    assert list(rows) == ["ours", "printed", "released", "batch mean"]
    for row in rows.values():
        assert row["second_error"] == pytest.approx(row["yaw_error"], abs=1e-3)  # the same one
        assert row["images_per_second"] == pytest.approx(8 / row["seconds"])
        assert 0 <= row["converged"] <= 1
    assert rows["ours"]["converged"] > 0.9
    assert rows["printed"]["steps"] == 5
    assert rows["printed"]["rate"] in [10.0**-power for power in range(6)]


def test_the_loop_over_means_hangs_where_ours_ends():
    rows = contest(4).hang(20.0)
    assert rows["batch mean"]["ended"] == 0
    assert rows["batch mean"]["steps"] == 40
    assert rows["ours"]["converged"] == 0.75
    assert rows["ours"]["steps"] < 30


def test_the_quality_of_identity_vectors_reaches_their_images():
    some = contest()
    some = replace(some, samples=samples(8, light=5.0))
    found = some.identities_first()
    assert found["after"]["light_error"] < found["before"]["light_error"]


def test_what_the_parameters_lack_is_named():
    p = Params.load("params.yaml").model_copy(update={"attrop": None})
    with pytest.raises(InputError, match="attrop"):
        contest_of(p, 4, None, 5)


def test_the_table_has_a_cell_for_each_figure():
    lines = table("title", {"a": {"x": 1.0}, "b": {"y": 0.25}}).splitlines()
    assert lines[0] == "title"
    assert lines[3].split() == ["b", "0.25"]
