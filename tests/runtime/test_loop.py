"""The loop of a training: every step once, a curve of means, no trace of a kill."""

import random

import pytest
import torch

from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.loop import Curve, loop, means
from vec2face.runtime.processes import Group

ALONE = Group(0, 1, torch.device("cpu"))


class KilledError(Exception):
    pass


class Sum:
    """A run whose state is the chain of its batches; it leaves out some and dies at one."""

    def __init__(self, dies_at=None):
        self.value, self.dies_at = torch.zeros(()), dies_at

    def step(self, batch):
        if batch == self.dies_at:
            raise KilledError
        if batch % 4 == 2:
            return None
        self.value = self.value * 1.5 + batch
        return {"loss": 2.0 * batch} | ({"late": 1.0} if batch >= 7 else {})

    def state(self):
        return {"value": self.value}

    def load(self, state):
        self.value = state["value"].clone()


def train(folder, dies_at=None, steps=10, every=4):
    run, lines = Sum(dies_at), []
    loop("test", run, iter, steps, Checkpoint(folder), Curve(every, means, lines.append), ALONE)
    return run.value.item(), lines


def test_a_line_is_the_mean_over_the_steps_that_had_a_value(tmp_path):
    _, lines = train(tmp_path)
    assert lines == [
        {"step": 4, "loss": (0 + 2 + 6) / 3},
        {"step": 8, "loss": (8 + 10 + 14) / 3, "late": 1.0},
        {"step": 10, "loss": (16 + 18) / 2, "late": 1.0},
    ]


@pytest.mark.parametrize("seconds", ["0", "1e9"])
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, monkeypatch, seconds):
    monkeypatch.setenv("VEC2FACE_CHECKPOINT_SECONDS", seconds)
    expected = train(tmp_path / "whole")
    for dies_at in sorted(random.choices(range(10), k=3)):
        with pytest.raises(KilledError):
            train(tmp_path / "killed", dies_at)
    assert train(tmp_path / "killed") == expected
    # Once it is done, it does nothing again, if its last state was kept.
    if seconds == "0":
        assert train(tmp_path / "killed", dies_at=9) == expected


def test_a_curve_goes_on_within_a_line():
    seen = []
    curve = Curve(5, means, seen.append)
    for found in ({"mse": 1.0}, None, {"mse": 2.0}, {"mse": 6.0, "identity": 0.5}):
        curve.add(found)
    again = Curve(5, means, seen.append)
    again.load(curve.state())
    again.add({"mse": 7.0})
    again.close(5)
    again.add({"mse": 3.0})
    again.close(6)
    assert seen == [{"step": 5, "mse": 4.0, "identity": 0.5}, {"step": 6, "mse": 3.0}]
