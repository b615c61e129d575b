"""AttrOP in a small world whose attributes are known: halves of the image are bright or dark."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from vec2face.dataset.attrop import Attribute, Networks, Sample, Settings, keep, optimise
from vec2face.dataset.attrop_reference import optimise_as
from vec2face.faces.images import decode, to_tensor

DIMENSION = 12
TURN = Attribute("turn", 30.0, 3.0, "signed", "halves")
AWAY = dataclasses.replace(TURN, kind="absolute")
LIGHT = Attribute("light", 20.0, 1.0, "least", "halves")


class Painter(nn.Module):
    """Vectors to images (B, 3, 16, 16): one number for each quarter and colour."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = torch.randn(DIMENSION, 12) / DIMENSION**0.5

    def forward(self, vectors, drop, mask):
        shade = mask.float().mean(1)[:, None] * 0.01  # so that masks show in the image
        squares = ((vectors @ self.weight) / 3 + shade).tanh().view(-1, 3, 2, 2)
        return squares.repeat_interleave(8, 2).repeat_interleave(8, 3)


PAINTER = Painter()


def recognizer(images):
    return (nn.functional.avg_pool2d(images, 8).flatten(1).clamp(-0.999, 0.999).atanh() * 3) @ (
        torch.linalg.pinv(PAINTER.weight)
    )


def estimator(images):
    left, right = images[..., :8].mean((1, 2, 3)), images[..., 8:].mean((1, 2, 3))
    return {"turn": 90 * (right - left), "light": 50 * images.mean((1, 2, 3))}


NETWORKS = Networks(PAINTER, recognizer, {"halves": estimator}, torch.device("cpu"))
SETTINGS = Settings((TURN, LIGHT), 60, 1.0, 1.0, 0.5, 4, 95)


def samples(count, turn=20.0, light=float("nan"), first=0):
    made = []
    for number in range(first, first + count):
        rng = np.random.default_rng(number)
        row, noise = rng.normal(size=(2, DIMENSION)).astype(np.float32)
        identity = torch.from_numpy(row * 1.5)
        vector = identity + 0.3 * torch.from_numpy(noise)
        drop = torch.zeros(49, dtype=torch.bool)
        targets = torch.tensor([turn, light])
        mask = torch.from_numpy(rng.random(49) < 0.5)
        made.append(Sample(number, number, vector, identity, targets, drop, mask))
    return made


def run(made, **changes):
    found = list(optimise(NETWORKS, made, dataclasses.replace(SETTINGS, **changes)))
    assert sorted(r.number for r in found) == [s.number for s in made]
    return sorted(found, key=lambda result: result.number)


def seen(result):
    image = to_tensor(decode(result.jpeg, "stored")[None])
    return {name: float(value) for name, value in estimator(image).items()}


def cosine(a, b):
    a, b = np.float64(a), np.float64(b)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_stored_images_have_the_attributes_and_vectors_stay_in_the_cone():
    made = samples(24)
    results = run(made)
    assert np.mean([r.converged for r in results]) > 0.9
    for sample, result in zip(made, results, strict=True):
        values = seen(result)  # of the decoded JPEG itself
        assert result.errors[0] == pytest.approx(abs(values["turn"] - 20), abs=1e-3)
        assert result.converged == (abs(values["turn"] - 20) <= TURN.tolerance)
        assert cosine(result.vector, sample.identity.numpy()) >= 0.5
        assert np.linalg.norm(result.vector) == pytest.approx(float(sample.vector.norm()), rel=1e-5)
        image = PAINTER(torch.from_numpy(result.vector)[None], sample.drop[None], sample.mask[None])
        stored = to_tensor(decode(result.jpeg, "stored")[None])
        assert (image - stored).abs().mean() < 0.06  # the vector is the image's


def test_an_absolute_target_is_reached_on_either_side():
    results = run(samples(24, turn=25.0), attributes=(AWAY, LIGHT))
    turns = np.array([seen(r)["turn"] for r in results if r.converged])
    assert len(turns) > 20
    assert (turns > 0).any()
    assert (turns < 0).any()
    assert np.abs(np.abs(turns) - 25).max() <= TURN.tolerance


def test_a_least_target_may_be_exceeded_and_nan_is_left_alone():
    free = run(samples(8, turn=float("nan"), light=float("nan")))
    assert all(r.converged and r.steps == 0 for r in free)
    bright = run(samples(24, turn=float("nan"), light=-100.0))
    assert [r.jpeg for r in bright[:8]] == [r.jpeg for r in free]
    lit = run(samples(24, turn=float("nan"), light=5.0))
    assert all(seen(r)["light"] >= 5 - LIGHT.tolerance for r in lit if r.converged)
    assert np.mean([r.converged for r in lit]) > 0.8


def test_a_sample_depends_on_its_number_alone():
    """Not on the samples beside it, before it or after it: to the byte."""
    whole = run(samples(21))
    for first, count in ((0, 5), (7, 1), (9, 12)):
        part = run(samples(count, first=first))
        for result in part:
            other = whole[result.number]
            assert (result.jpeg, result.steps) == (other.jpeg, other.steps)
            assert np.array_equal(result.vector, other.vector)


@pytest.mark.parametrize("lacking", [1.0, 500.0])
def test_a_step_would_end_the_error_of_a_linear_world_or_goes_a_fifth_of_the_length(lacking):
    alone = dataclasses.replace(SETTINGS, attributes=(TURN,), identity=0.0, min_similarity=-1.0)
    alone = dataclasses.replace(alone, attributes=(dataclasses.replace(TURN, tolerance=1e-9),))
    moved = 0
    for sample in samples(16):
        (start,) = optimise(NETWORKS, [sample], dataclasses.replace(alone, steps=0))
        goal = seen(start)["turn"] + lacking
        aimed = dataclasses.replace(sample, targets=torch.tensor([goal]))
        (result,) = optimise(NETWORKS, [aimed], dataclasses.replace(alone, steps=1))
        vector = sample.vector.clone().requires_grad_()
        turn = estimator(PAINTER(vector[None], sample.drop[None], sample.mask[None]))["turn"]
        (slope,) = torch.autograd.grad(turn.sum(), vector)
        length, steepness = float(sample.vector.norm()), float(slope.norm())
        expected = vector.detach() + slope / steepness * min(lacking / steepness, length / 5)
        if result.steps:  # else rounding to whole pixel values has made it no better
            moved += 1
            assert torch.allclose(
                torch.from_numpy(result.vector), expected * length / expected.norm(), atol=1e-4
            )
    assert moved > 12


def test_a_step_follows_the_gradient_of_all_terms_as_far_as_the_rate_says():
    both = dataclasses.replace(SETTINGS, rate=0.1, identity=2.0, min_similarity=-1.0, steps=1)
    moved = 0
    for sample in samples(16, light=10.0):
        start, (result,) = (
            optimise(NETWORKS, [sample], dataclasses.replace(both, steps=0)),
            optimise(NETWORKS, [sample], both),
        )
        (before,) = start
        vector = sample.vector.clone().requires_grad_()
        image = PAINTER(vector[None], sample.drop[None], sample.mask[None])
        stored = to_tensor(decode(before.jpeg, "x")[None])
        shown = image + (stored - image).detach()
        values = estimator(shown)
        lacking = (values["turn"] - 20).abs() / 30 + (10 - values["light"]).relu() / 20
        cosines = nn.functional.cosine_similarity(recognizer(shown), sample.identity[None])
        (slope,) = torch.autograd.grad((2 * (1 - cosines) + lacking).sum(), vector)
        length, steepness = float(sample.vector.norm()), float(slope.norm())
        size = min(0.1 * float(lacking) / steepness, length / 5)
        expected = vector.detach() - slope / steepness * size
        if result.steps:
            moved += 1
            assert torch.allclose(
                torch.from_numpy(result.vector), expected * length / expected.norm(), atol=1e-4
            )
    assert moved > 10


def test_unreachable_targets_end_with_the_best_image():
    results = run(samples(9, turn=500.0), steps=15)
    early = run(samples(9, turn=500.0), steps=0)
    assert not any(r.converged for r in results)
    for result, start in zip(results, early, strict=True):
        assert result.steps <= 15
        assert result.errors[0] < start.errors[0]
        assert result.errors[0] == pytest.approx(500 - seen(result)["turn"], abs=1e-2)


def test_a_sample_that_stops_early_has_converged():
    """Also where an image before the last was nearer in scales, but not within a tolerance."""
    drawn = []

    def painter(vectors, drop, mask):
        drawn.append(vectors)
        return PAINTER(vectors, drop, mask)

    heavy = dataclasses.replace(LIGHT, scale=2.0, tolerance=3.0)
    settings = dataclasses.replace(SETTINGS, attributes=(TURN, heavy), slots=1, rate=0.3)
    networks, early = dataclasses.replace(NETWORKS, generator=painter), 0
    for sample in samples(48, light=0.0):
        drawn.clear()
        (result,) = optimise(networks, [sample], settings)
        if len(drawn) <= settings.steps:
            early += 1
            assert result.converged
            assert np.array_equal(result.vector, drawn[-1][0].detach().numpy())
    assert early > 40


@pytest.mark.parametrize("mode", ["ours", "printed", "released"])
def test_an_attribute_is_its_own_estimators_though_another_has_its_name(mode):
    """Whichever of the two comes first."""

    def other(images):
        return {"turn": -estimator(images)["turn"], "shade": -estimator(images)["light"]}

    shade = Attribute("shade", 20.0, 1.0, "least", "other")
    settings = dataclasses.replace(SETTINGS, attributes=(TURN, shade), steps=5, rate=0.01)
    for estimators in (
        {"halves": estimator, "other": other},
        {"other": other, "halves": estimator},
    ):
        networks = dataclasses.replace(NETWORKS, estimators=estimators)
        for result in optimise_as(mode, networks, samples(4, light=5.0), settings):
            values = seen(result)
            assert result.errors[0] == pytest.approx(abs(values["turn"] - 20), abs=1e-3)
            assert result.errors[1] == pytest.approx(max(5 + values["light"], 0), abs=1e-3)


def test_a_loss_that_is_no_number_ends_its_sample_only():
    def broken(images):
        values = estimator(images)
        bad = images[:, 0, 0, 0] > 0.2
        return values | {"turn": values["turn"].masked_fill(bad, torch.nan)}

    made = samples(16)
    networks = dataclasses.replace(NETWORKS, estimators={"halves": broken})
    results = {r.number: r for r in optimise(networks, made, SETTINGS)}
    assert len(results) == 16
    ends = [not np.isfinite(r.errors).all() for r in results.values()]
    assert any(ends)
    assert not all(ends)
    assert not any(r.converged for r in results.values() if not np.isfinite(r.errors).all())


def test_nothing_of_a_step_stays_behind():
    weight = nn.Parameter(PAINTER.weight.clone())
    painter = Painter()
    painter.weight = weight
    frozen = dataclasses.replace(NETWORKS, generator=painter.requires_grad_(requires_grad=False))
    results = list(optimise(frozen, samples(4), SETTINGS))
    assert weight.grad is None
    assert all(isinstance(r.vector, np.ndarray) for r in results)


@pytest.mark.parametrize("least", [-1.0, 0.0, 0.5, 0.9])
def test_the_cone_is_kept_to_float32(least):
    torch.manual_seed(0)
    for _ in range(50):
        identity, vector = torch.randn(2, DIMENSION)
        none = torch.zeros(49, dtype=torch.bool)
        sample = Sample(0, 0, vector, identity, torch.zeros(1), none, none)
        wild = 10 * torch.randn(DIMENSION)
        found = keep(wild, sample, least)
        assert cosine(found.numpy(), identity.numpy()) >= least
        assert float(found.norm()) == pytest.approx(float(vector.norm()), rel=1e-5)
        if cosine(wild.numpy(), identity.numpy()) > least + 1e-3:  # inside: only its length
            assert cosine(found.numpy(), wild.numpy()) == pytest.approx(1, abs=1e-6)
