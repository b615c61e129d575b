"""AttrOP as printed and as released, against accounts of both in numpy with gradients by hand."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from tests.dataset.test_attrop import NETWORKS, SETTINGS, samples, seen
from vec2face.dataset.attrop import Attribute, Networks, Sample, Settings
from vec2face.dataset.attrop_reference import optimise_as, printed, released

SIDE, DIMENSION = 8, 6
PIXELS = 3 * SIDE * SIDE
RNG = np.random.default_rng(3)
PAINT = RNG.normal(size=(PIXELS, DIMENSION)) / 3
SEE = RNG.normal(size=(DIMENSION, PIXELS)) / 8
YAW, QUALITY = RNG.normal(size=(2, PIXELS))

ATTRIBUTES = (
    Attribute("yaw", 1.0, 5.0, "absolute", "lines"),
    Attribute("quality", 1.0, 1.0, "least", "lines"),
)
PLAIN = Settings(ATTRIBUTES, 5, 1e-3, 1.0, -1.0, 4, 95)


def generator(vectors, drop, mask):
    return (vectors @ torch.from_numpy(PAINT).T).tanh().view(-1, 3, SIDE, SIDE)


def recognizer(images):
    return images.flatten(1) @ torch.from_numpy(SEE).T


def estimator(images):
    flat = images.flatten(1)
    return {"yaw": flat @ torch.from_numpy(YAW), "quality": flat @ torch.from_numpy(QUALITY)}


WORLD = Networks(generator, recognizer, {"lines": estimator}, torch.device("cpu"))


def made(count, targets=(30.0, 5.0)):
    none = torch.zeros(49, dtype=torch.bool)
    rows = np.random.default_rng(count).normal(size=(count, 2, DIMENSION))
    return [
        Sample(n, n, *torch.from_numpy(row), torch.tensor(targets, dtype=torch.float64), none, none)
        for n, row in enumerate(rows)
    ]


def gradient(vector, identity, targets, weight=1.0, clamped=False, clip=np.inf):
    """Return value and gradient of equation 5 for one vector, by the chain rule."""
    image = np.tanh(PAINT @ vector)
    feature = SEE @ image
    a, b = np.linalg.norm(feature), np.linalg.norm(identity)
    cosine = feature @ identity / a / b
    at_image = -weight * SEE.T @ (identity / a / b - cosine * feature / a**2)
    yaw, quality = YAW @ image, QUALITY @ image
    errors = np.zeros(2)
    if not np.isnan(targets[0]):
        clipped = np.clip(yaw, -clip, clip)
        errors[0] = abs(targets[0] - abs(clipped))
        if abs(yaw) < clip:
            at_image += -np.sign(targets[0] - abs(yaw)) * np.sign(yaw) * YAW
    if not np.isnan(targets[1]):
        errors[1] = targets[1] - quality
        if not clamped or errors[1] > 0:
            at_image -= QUALITY
    if clamped:
        errors[1] = max(errors[1], 0)
    return 1 - cosine, errors, PAINT.T @ ((1 - image**2) * at_image)


@pytest.mark.parametrize("targets", [(30.0, 5.0), (10.0, np.nan), (np.nan, -50.0)])
def test_printed_is_algorithm_1(targets):
    """Also where quality is far above what is asked: then it goes on rising."""
    some = made(6, targets)
    results = printed(WORLD, some, PLAIN)
    for sample, result in zip(some, results, strict=True):
        vector, identity = sample.vector.numpy().copy(), sample.identity.numpy()
        before = QUALITY @ np.tanh(PAINT @ vector)
        for _ in range(5):
            vector = vector - 1e-3 * gradient(vector, identity, targets)[2]
        assert np.abs(result.vector - vector).max() < 1e-12
        assert (result.number, result.steps) == (sample.number, 5)
        if targets[1] == -50:
            assert QUALITY @ np.tanh(PAINT @ vector) > before


def test_released_is_one_adam_on_means():
    some = made(5)
    settings = replace(PLAIN, steps=12, rate=0.1, identity=100.0)
    results = released(WORLD, some, settings, identity_loss=2.0)
    vectors = np.stack([s.vector.numpy() for s in some])
    identities = np.stack([s.identity.numpy() for s in some])
    first, second, steps, ended = 0, 0, 0, False
    while not ended and steps < 12:
        seen_ = [
            gradient(v, i, (30.0, 5.0), 100.0, clamped=True, clip=90.0)
            for v, i in zip(vectors, identities, strict=True)
        ]
        ended = bool((np.mean([s[1] for s in seen_], 0) <= (5, 1)).all())
        slope = np.stack([s[2] for s in seen_]) / 5
        steps += 1
        first, second = 0.9 * first + 0.1 * slope, 0.999 * second + 0.001 * slope**2
        size = np.sqrt(second / (1 - 0.999**steps)) + 1e-8
        vectors = vectors - 0.1 * first / (1 - 0.9**steps) / size
    assert np.abs(np.stack([r.vector for r in results]) - vectors).max() < 1e-9
    assert {(r.steps, r.ended) for r in results} == {(steps, ended)}


def by_released(some, steps=40, **changes):
    settings = replace(SETTINGS, steps=steps, slots=len(some), **changes)
    return released(NETWORKS, some, settings, identity_loss=2.0)


def test_released_ends_by_the_mean_or_at_its_bound():
    results = by_released(samples(8))
    assert all(r.ended and r.steps < 40 for r in results)
    outlier = [*samples(7), *samples(1, turn=500.0, first=7)]
    results = by_released(outlier)
    assert {(r.ended, r.steps) for r in results} == {(False, 40)}
    assert len(by_released(samples(8), steps=0)) == 8
    strict = released(NETWORKS, samples(8), replace(SETTINGS, steps=5), identity_loss=0.0)
    assert not any(r.ended for r in strict)


def test_released_draws_other_masks_for_each_image():
    drawn = []

    def painter(vectors, drop, mask):
        drawn.append(mask)
        return NETWORKS.generator(vectors, drop, mask)

    networks = replace(NETWORKS, generator=painter)
    results = released(networks, samples(4), replace(SETTINGS, steps=30), identity_loss=2.0)
    assert len(drawn) == results[0].steps + 1  # the last one is drawn once more
    for mask in drawn:
        assert len({int(row.sum()) for row in mask}) == 1  # one ratio a batch
        assert len({tuple(row.tolist()) for row in mask}) > 1
    assert not any(torch.equal(a, b) for a, b in pairwise(drawn))


@pytest.mark.parametrize("mode", ["printed", "released"])
def test_results_are_told_of_the_stored_images_whatever_the_batches(mode):
    some = [*samples(5), *samples(4, turn=float("nan"), light=-5.0, first=5)]
    settings = replace(SETTINGS, slots=3, steps=5, rate=0.01)
    results = {r.number: r for r in optimise_as(mode, NETWORKS, some, settings)}
    assert sorted(results) == list(range(9))
    for number, result in results.items():
        values = seen(result)
        if number < 5:
            assert result.errors[0] == pytest.approx(abs(values["turn"] - 20), abs=1e-3)
        else:
            assert result.errors[1] == pytest.approx(max(-5 - values["light"], 0), abs=1e-3)
        near = torch.tensor([a.tolerance for a in SETTINGS.attributes]).numpy()
        assert result.converged == (result.errors <= near).all()
    again = list(optimise_as(mode, NETWORKS, some[5:], settings))
    for result in again:  # batches have the same targets
        assert result.jpeg == results[result.number].jpeg
