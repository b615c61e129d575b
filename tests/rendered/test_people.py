import dataclasses

import numpy as np

from vec2face.rendered.people import draw_lookalike, draw_match, draw_person


def people(geometry, count, purpose="p"):
    return [draw_person(geometry, 3, purpose, i) for i in range(count)]


def same(a, b):
    pairs = zip(dataclasses.astuple(a), dataclasses.astuple(b), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_a_person_is_a_function_of_seed_population_and_index(geometry):
    first = draw_person(geometry, 3, "p", 7)
    assert same(first, people(geometry, 8)[7])
    for other in (("q", 7, 3), ("p", 8, 3), ("p", 7, 4)):
        purpose, index, seed = other
        assert not same(first, draw_person(geometry, seed, purpose, index))


def test_a_population_is_mixed(geometry):
    crowd = people(geometry, 300)
    assert 0.4 < np.mean([p.female for p in crowd]) < 0.6
    melanin = np.array([p.melanin for p in crowd])
    assert melanin.min() < 0.1
    assert melanin.max() > 0.7
    assert np.ptp([p.age for p in crowd]) > 30
    assert all(p.beard == 0 for p in crowd if p.female)
    skins = np.array([p.skin for p in crowd])
    assert np.all((skins > 0) & (skins < 1))
    assert np.all(skins[:, 0] > skins[:, 2])  # no skin is blue


def test_people_differ_in_many_independent_ways(geometry):
    shapes = np.array([p.shape for p in people(geometry, 300)])
    used = shapes[:, shapes.std(0) > 0]
    spectrum = np.linalg.svd(used - used.mean(0), compute_uv=False) ** 2
    share = spectrum / spectrum.sum()
    assert 1 / (share**2).sum() > 50  # the participation ratio counts the dimensions
    unit = used / np.linalg.norm(used, axis=1, keepdims=True)
    cosine = unit @ unit.T - np.eye(len(unit))
    assert cosine.max() < 0.75


def test_a_match_shares_sex_skin_and_age_but_no_face(geometry):
    a, b = people(geometry, 2)
    match = draw_match(a, b)
    assert (match.female, match.age, match.melanin) == (a.female, a.age, a.melanin)
    assert np.array_equal(match.skin, a.skin)
    assert np.array_equal(match.shape, b.shape)
    assert np.array_equal(match.paint, b.paint)
    assert match.female or match.beard > 0


def test_a_lookalike_is_nearer_than_a_stranger_and_as_expressive(geometry):
    crowd = people(geometry, 40)
    for a, b in zip(crowd[::2], crowd[1::2], strict=True):
        alike = draw_lookalike(a, b, 0.5)
        near = np.linalg.norm(alike.shape - a.shape)
        far = np.linalg.norm(b.shape - a.shape)
        assert 0 < near < 0.7 * far
        assert np.array_equal(alike.skin, a.skin)
    norms = [np.linalg.norm(draw_lookalike(a, b, 0.5).shape) / np.linalg.norm(a.shape)
             for a, b in zip(crowd[::2], crowd[1::2], strict=True)]  # fmt: skip
    assert 0.85 < np.mean(norms) < 1.15


def test_a_sex_can_be_asked_for(geometry):
    assert not any(draw_person(geometry, 3, "p", i, female=False).female for i in range(20))
