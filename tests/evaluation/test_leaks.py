"""Leaks: thresholds against brute force, planted people found, disjoint ones not."""

import logging

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from vec2face.evaluation import leaks
from vec2face.evaluation.leaks import Baseline, Known, draw_alike, find_leaks, membership, overlaps
from vec2face.identities.nearest import Crowd
from vec2face.recognizers.statistics import identity_means

DIMENSION, IMAGES = 64, 6


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(leaks, "BLOCK", 50)


def people(count, seed):
    """Images of people: (features, labels)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), IMAGES)
    noise = rng.normal(size=(len(labels), DIMENSION))
    return (rng.normal(size=(count, DIMENSION))[labels] + 0.6 * noise).astype(np.float32), labels


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def training():
    return people(300, 0)


@pytest.fixture(scope="module")
def baseline(training):
    return Baseline(*training)


@pytest.fixture
def known(training):
    pca, benchmark = people(200, 1), people(20, 2)
    return {
        "training": Known(Crowd.of(identity_means(*training))),
        "pca": Known(Crowd.of(identity_means(*pca))),
        "benchmark": Known(Crowd.of(benchmark[0]), faces=True),
    }


@pytest.mark.parametrize("images", [True, False])
@pytest.mark.parametrize("faces", [True, False])
def test_the_threshold_is_exceeded_by_the_stated_share_of_strangers(
    training, baseline, images, faces
):
    features, labels = training
    means = identity_means(features, labels)
    leak = features[::IMAGES] if images else means
    there, whose = (features, labels) if faces else (means, np.arange(300))
    gram = unit(leak) @ unit(there).T
    gram[np.arange(300)[:, None] == whose[None]] = -2
    found = gram.max(1)
    same = Known(Crowd.of(there[: 299 * (IMAGES if faces else 1)]), faces=faces)
    threshold = baseline.threshold(same, 0.05, images=images)
    # Two who are nearest to each other have one cosine; either both exceed it or none.
    assert (found > threshold + 1e-6).sum() in (14, 15)
    # Twice as many people are twice the chances: two pairs as independent have 0.05 together.
    twice = Known(Crowd.of(np.concatenate([same.crowd.rows.raw] * 2)), faces=faces)
    expected = int((1 - np.sqrt(0.95)) * 300)
    threshold = baseline.threshold(twice, 0.05, images=images)
    assert (found > threshold + 1e-6).sum() in (expected - 1, expected)


def test_strangers_pass_as_often_as_stated(baseline, training, known):
    for name, real in known.items():
        strangers = identity_means(*people(1000, 7))
        threshold = baseline.threshold(real, 0.05, images=False)
        gram = unit(strangers) @ unit(real.crowd.rows.raw).T
        # 300 people fix a threshold of 5 % to 1.3 points; many faces are of few people.
        assert 0.02 < (gram.max(1) > threshold).mean() < 0.1, name


def test_a_smuggled_person_is_found_and_nobody_else(tmp_path, training, baseline, known):
    features, labels = training
    identities = identity_means(*people(40, 5)).astype(np.float32)
    images = np.repeat(identities, 3, axis=0)
    clean = find_leaks(
        {"vector": identities, "image": images}, known, baseline, 0.001, tmp_path / "clean"
    )
    assert not [v for key, v in clean.items() if key.endswith("flagged") and v]
    identities[11] = features[labels == 123].mean(0)
    record = find_leaks({"vector": identities}, known, baseline, 0.001, tmp_path / "leak")
    assert record["leak_vector_training_flagged"] == 1
    assert record["leak_vector_training_largest"] == pytest.approx(1)
    assert record["leak_vector_training_above_0.4"] >= 1
    assert record["leak_vector_pca_flagged"] == 0
    assert record["leak_vector_benchmark_flagged"] == 0
    for name in known:
        assert record[f"leak_vector_{name}_power"] > 0.99


def test_power_is_the_share_of_planted_people_above_the_threshold(training, baseline):
    features, labels = training
    one, other = features[0::2], features[1::2]
    half = labels[0::2]
    cosine = (unit(identity_means(one, half)) * unit(identity_means(other, half))).sum(1)
    line = float(np.quantile(cosine, 0.3))
    assert baseline.power(line, images=False, faces=False) == pytest.approx((cosine > line).mean())
    pair = (unit(features[0::IMAGES]) * unit(features[1::IMAGES])).sum(1)
    assert baseline.power(0.6, images=True, faces=True) == pytest.approx((pair > 0.6).mean())


def test_a_benchmark_person_in_the_training_set_is_warned_of(
    tmp_path, training, baseline, known, caplog
):
    with caplog.at_level(logging.WARNING):
        record = overlaps(known, baseline, 0.001, tmp_path / "apart")
    assert set(record.values()) == {0}
    assert not caplog.records
    shared = np.concatenate([known["benchmark"].crowd.rows.raw, training[0][labels_of(training)]])
    known["benchmark"] = Known(Crowd.of(shared), faces=True)
    with caplog.at_level(logging.WARNING):
        record = overlaps(known, baseline, 0.001, tmp_path / "shared")
    assert record == {
        "overlap_training_pca": 0, "overlap_training_benchmark": 4, "overlap_pca_benchmark": 0,
    }  # fmt: skip
    (warning,) = caplog.messages
    assert warning.startswith("4 of 300 people of the training set seem to be in the benchmark set")


def labels_of(training):
    """One image of each of four people."""
    return np.searchsorted(training[1], [3, 50, 99, 298])


def test_the_auc_is_that_of_mann_and_whitney_and_its_interval_covers_the_truth():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        one, other = rng.normal(0.5, 1, 60), rng.normal(0, 1, 25)
        found = membership(np.repeat(one, 2), np.repeat(np.arange(60), 2), other, np.arange(25))
        wins = mannwhitneyu(one, other).statistic / (60 * 25)
        assert found["membership_auc"] == pytest.approx(wins)
        truth = 0.6381632  # of two normals half a deviation apart
        inside += found["membership_auc_low"] <= truth <= found["membership_auc_high"]
    assert 180 <= inside <= 199


@pytest.mark.parametrize(
    ("effect", "person", "skewed"),
    [(0.0, 0.2, True), (0.5, 1.0, False)],
    ids=["nothing leaks", "a planted effect"],
)
def test_few_held_out_people_compare_with_many_training_people(effect, person, skewed):
    rng = np.random.default_rng(0)
    groups = [np.repeat(np.arange(2000), 8), np.repeat(np.arange(250), 8)]
    truth = norm.cdf(effect / np.sqrt(2 * (person**2 + 1 / 8)))  # means of 8, if normal
    inside, trials = 0, 200
    for seed in range(trials):
        scores = []
        for labels, shift in zip(groups, (effect, 0.0), strict=True):
            draw = rng.standard_exponential if skewed else rng.standard_normal
            scores.append(shift + person * rng.normal(size=2000)[labels] - draw(len(labels)))
        rows = draw_alike(groups, seed, 2000)
        assert [len(some) for some in rows] == [2000, 2000]
        one, other = ((s[r], g[r]) for s, r, g in zip(scores, rows, groups, strict=True))
        found = membership(*one, *other)
        inside += found["membership_auc_low"] <= truth <= found["membership_auc_high"]
    assert 0.9 * trials <= inside <= 0.99 * trials


def test_people_are_drawn_first_and_then_as_many_images_of_each():
    many = np.repeat(np.arange(100, 400), 10)[::-1].copy()
    few = np.repeat([7, 8, 9, 11, 12], [1, 5, 6, 7, 30])
    rows = draw_alike([many, few], 3, 60)
    who, images = np.unique(many[rows[0]], return_counts=True)
    assert (len(who), set(images.tolist())) == (10, {6})
    assert len(np.unique(who // 50)) > 2  # not the first ones
    assert np.unique(few[rows[1]], return_counts=True)[0].tolist() == [9, 11, 12]
    assert all(len(np.unique(some)) == len(some) for some in rows)
    assert rows[1].tolist() == draw_alike([many, few], 3, 60)[1].tolist()
    assert rows[1].tolist() != draw_alike([many, few], 4, 60)[1].tolist()
    assert [len(some) for some in draw_alike([many, few], 0, 5)] == [5, 5]
