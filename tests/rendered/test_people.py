import dataclasses

import numpy as np

from vec2face.rendered.people import draw_lookalike, draw_person


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


def test_sex_and_ancestry_can_be_asked_for(geometry):
    model = next(p for p in people(geometry, 60) if not p.female and p.race[0] > 0.8)
    for i in range(20):
        free = draw_person(geometry, 3, "q", i)
        asked = draw_person(geometry, 3, "q", i, female=False, race=model.race)
        assert not asked.female
        assert np.array_equal(asked.race, model.race)
        assert np.array_equal(asked.shape, free.shape)  # the face stays
    melanin = [draw_person(geometry, 3, "q", i, race=model.race).melanin for i in range(40)]
    assert abs(np.mean(melanin) - model.melanin) < 0.25
    assert np.std(melanin) > 0.05  # skins differ within an ancestry
