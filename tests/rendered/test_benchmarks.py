from itertools import pairwise

import numpy as np
import pytest

from vec2face.faces.benchmarks import load_benchmark
from vec2face.faces.images import encode
from vec2face.randomness import stream
from vec2face.rendered import benchmarks
from vec2face.rendered.benchmarks import FOLDS, PAIRS, write_benchmark
from vec2face.rendered.conditions import draw_conditions
from vec2face.rendered.people import draw_person
from vec2face.rendered.produce import Picture, find_person
from vec2face.runtime.files import InputError


@pytest.fixture
def taken(monkeypatch):
    """Replace rendering by blank pictures; return who sat for which, by the picture's bytes."""
    who = {}

    def produce(head, seed, size, sittings, *, what):
        for sitting in sittings:
            pictures = []
            for number, regime in sitting.shots:
                blank = np.full((8, 8, 3), 128, np.uint8)
                jpeg = encode(blank) + f"{sitting.who}/{number}".encode()
                who[jpeg] = (sitting.who, number, regime)
                pictures.append(Picture(jpeg, 0, 0, 0, 0, 0))
            yield pictures

    monkeypatch.setattr(benchmarks, "produce", produce)
    return who


@pytest.mark.parametrize("name", PAIRS)
def test_folds_are_balanced_and_share_no_one(name, taken, tmp_path):
    write_benchmark("none", tmp_path / "b.bin", name=name, seed=1, pairs=80, size=8)
    benchmark = load_benchmark(tmp_path / "b.bin")
    assert len(benchmark.same) == 80
    people = [taken[bytes(image)][0] for image in benchmark.images]
    folds = []
    for fold in range(FOLDS):
        rows = slice(fold * 8, fold * 8 + 8)
        assert benchmark.same[rows].sum() == 4
        folds.append({p.index for p in people[2 * fold * 8 : 2 * (fold * 8 + 8)]})
    assert len(set().union(*folds)) == sum(len(f) for f in folds)
    for pair, same in enumerate(benchmark.same):
        left, right = people[2 * pair], people[2 * pair + 1]
        assert (left == right) == same
        if not same:  # one was made to match the other
            assert left.index == right.after or right.index == left.after


@pytest.mark.parametrize("name", PAIRS)
def test_no_picture_is_used_twice_and_regimes_do_not_tell(name, taken, tmp_path):
    write_benchmark("none", tmp_path / "b.bin", name=name, seed=1, pairs=40, size=8)
    benchmark = load_benchmark(tmp_path / "b.bin")
    assert len(set(benchmark.images)) == len(benchmark.images)
    for pair in range(40):
        left, right = (taken[bytes(benchmark.images[2 * pair + k])][2] for k in (0, 1))
        assert (left, right) == PAIRS[name]


def test_hadrian_and_eclipse_are_sharp_and_indoors(geometry):
    """Drawn for each benchmark alike: what blurs, soils and surrounds a face."""
    person = draw_person(geometry, 3, "p", 0)
    for name, regimes in PAIRS.items():
        drawn = [draw_conditions(stream(1, "c", i), person, r) for i in range(60) for r in regimes]
        walls = np.array([c.background[:2] for c in drawn])
        plain = np.ptp(walls / walls.mean(2, keepdims=True), axis=0).max() < 1e-9  # one hue
        sharp = all(c.blur == 0 and c.jpeg >= 95 and c.noise < 0.005 and not c.grey for c in drawn)
        assert plain == sharp == (name in ("hadrian", "eclipse")), name
    shaved, bearded = PAIRS["hadrian"]
    dark, bright = PAIRS["eclipse"]
    assert (shaved.beard, bearded.beard) == (0.0, 1.0)  # still what makes them hard
    assert bright.exposure_mean - dark.exposure_mean > 3


def test_impostors_are_matched(studio, taken, tmp_path):
    alike = {}
    for name in ("lfw", "hadrian", "doppelver"):
        write_benchmark("none", tmp_path / "b.bin", name=name, seed=1, pairs=40, size=8)
        everyone = list(dict.fromkeys(who for who, _, _ in taken.values()))[-20:]
        cosines = []
        for one, other in pairwise(everyone):
            if other.after != one.index:
                continue
            a, b = (find_person(studio, 1, who) for who in (one, other))
            assert a.female == b.female
            assert a.age == b.age
            assert np.array_equal(a.skin, b.skin)
            norms = np.linalg.norm(a.shape) * np.linalg.norm(b.shape)
            cosines.append(a.shape @ b.shape / norms)
            if name == "hadrian":
                assert not a.female
        alike[name] = np.mean(cosines)
    assert alike["doppelver"] > 0.6
    assert max(alike["lfw"], alike["hadrian"]) < alike["doppelver"] - 0.25


def test_a_small_benchmark_is_rendered(head, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKERS", "1")
    write_benchmark(head, tmp_path / "cfp_fp.bin", name="cfp_fp", seed=1, pairs=40, size=28)
    assert len(load_benchmark(tmp_path / "cfp_fp.bin").images) == 80


def test_bad_settings_name_their_key(tmp_path):
    with pytest.raises(InputError, match=r"rendered\.benchmarks\.names.*'ijbc'.*known: lfw"):
        write_benchmark("none", tmp_path / "b.bin", name="ijbc", seed=1, pairs=40, size=8)
    for pairs in (0, 50, -40):
        with pytest.raises(InputError, match=r"rendered\.benchmarks\.pairs.*multiple of 40"):
            write_benchmark("none", tmp_path / "b.bin", name="lfw", seed=1, pairs=pairs, size=8)
