import numpy as np
import pytest

from vec2face.randomness import stream
from vec2face.rendered.conditions import Regime, draw_conditions
from vec2face.rendered.people import draw_person
from vec2face.rendered.stores import REGIMES


@pytest.fixture
def person(geometry):
    return draw_person(geometry, 3, "p", 0)


def many(person, regime, count=300):
    return [draw_conditions(stream(1, "c", 0, i), person, regime) for i in range(count)]


def test_poses_stay_within_the_regime(person):
    yaw = np.abs([c.yaw for c in many(person, REGIMES["ordinary"])])
    assert yaw.max() <= 90
    assert (yaw < 20).mean() > 0.3
    assert (yaw > 60).mean() > 0.02  # profiles are among them
    profile = Regime(yaw_mean=72, yaw=8, yaw_limit=90)
    yaw = np.array([c.yaw for c in many(person, profile)])
    assert np.abs(yaw).min() > 40
    assert 0.4 < (yaw > 0).mean() < 0.6  # to either side


def test_ages_and_beards_follow_the_regime(person, geometry):
    ages = [c.age for c in many(person, Regime(age_range=(60, 80)))]
    assert min(ages) >= 60
    assert max(ages) <= 80
    man = next(p for p in (draw_person(geometry, 3, "p", i) for i in range(20)) if not p.female)
    clean = [c.beard for c in many(man, Regime(beard=0.0))]
    full = [c.beard for c in many(man, Regime(beard=1.0))]
    assert max(clean) < 0.4 < 0.6 < min(full)


def test_nothing_around_the_face_tells_who_it_is(geometry):
    """Two people in front of equal dice get the same light, background, clothes and pose."""
    people = [draw_person(geometry, 3, "p", i) for i in range(6)]
    for number in range(20):
        drawn = [draw_conditions(stream(1, "c", number), p, REGIMES["wide"]) for p in people]
        first = drawn[0]
        for other in drawn[1:]:
            assert np.array_equal(other.lights, first.lights)
            assert (other.yaw, other.pitch) == (first.yaw, first.pitch)
    cloth = np.array([[draw_conditions(stream(1, "c", p, i), person, REGIMES["wide"]).cloth
                       for i in range(40)] for p, person in enumerate(people)])  # fmt: skip
    between = cloth.mean(1).std(0)
    within = cloth.std(1).mean(0)
    assert np.all(between < 2.5 * within / np.sqrt(40))


@pytest.mark.parametrize("name", REGIMES)
def test_backgrounds_are_plain(name, person):
    walls = np.array([c.background[:2] for c in many(person, REGIMES[name], 60)])
    assert np.ptp(walls / walls.mean(2, keepdims=True), axis=0).max() < 1e-9  # of one hue
