import numpy as np
import pytest

from vec2face.faces.benchmarks import load_benchmark
from vec2face.faces.images import encode
from vec2face.randomness import stream
from vec2face.rendered import benchmarks
from vec2face.rendered.benchmarks import FOLDS, KINDS, write_benchmark
from vec2face.rendered.conditions import draw_conditions
from vec2face.rendered.people import draw_person
from vec2face.rendered.produce import Attributes, Picture, describe, find_person
from vec2face.runtime.files import InputError


@pytest.fixture
def taken(monkeypatch):
    """Replace rendering by blank pictures; return who sat for which, by the picture's bytes."""
    who = {}

    def produce(head, seed, size, sittings, work, *, what):
        for sitting in sittings:
            pictures = []
            for number, regime in sitting.shots:
                blank = np.full((8, 8, 3), 128, np.uint8)
                jpeg = encode(blank) + f"{sitting.who}/{number}".encode()
                who[jpeg] = (sitting.who, number, regime)
                known = [sitting.who.index, number] + [0] * (len(Attributes._fields) - 2)
                pictures.append(Picture(jpeg, Attributes(*known)))
            yield pictures

    monkeypatch.setattr(benchmarks, "produce", produce)
    return who


def write(folder, name, pairs, head="none", size=8):
    path = folder / f"{name}.bin"
    known = write_benchmark(
        head, path, name=name, seed=1, pairs=pairs, size=size, work=folder / "work"
    )
    return load_benchmark(path), known


@pytest.mark.parametrize("name", KINDS)
def test_folds_are_balanced_and_share_no_one(name, taken, tmp_path):
    benchmark, known = write(tmp_path, name, 80)
    assert len(benchmark.same) == 80
    people = [taken[bytes(image)][0] for image in benchmark.images]
    assert [p.index for p in people] == [k.person for k in known]
    folds = []
    for fold in range(FOLDS):
        rows = slice(fold * 8, fold * 8 + 8)
        assert benchmark.same[rows].sum() == 4
        folds.append({p.index for p in people[2 * fold * 8 : 2 * (fold * 8 + 8)]})
    assert len(set().union(*folds)) == sum(len(f) for f in folds)
    for pair, same in enumerate(benchmark.same):
        left, right = people[2 * pair], people[2 * pair + 1]
        assert (left == right) == same


@pytest.mark.parametrize("name", KINDS)
def test_no_picture_is_used_twice_and_regimes_follow_the_kind(name, taken, tmp_path):
    benchmark, _ = write(tmp_path, name, 40)
    assert len(set(benchmark.images)) == len(benchmark.images)
    kind = KINDS[name]
    impostors = []
    for pair, same in enumerate(benchmark.same):
        regimes = tuple(taken[bytes(benchmark.images[2 * pair + k])][2] for k in (0, 1))
        if same or not kind.alike:  # so that regimes do not tell
            assert regimes == (kind.first, kind.second)
        else:  # as Hadrian and Eclipse have it: what tells people apart is made alike
            assert regimes[0] == regimes[1]
            impostors.append(regimes[0])
    assert impostors.count(kind.first) == impostors.count(kind.second)


def test_hadrian_and_eclipse_are_sharp(geometry):
    person = draw_person(geometry, 3, "p", 0)
    for name, kind in KINDS.items():
        regimes = kind.first, kind.second
        drawn = [draw_conditions(stream(1, "c", i), person, r) for i in range(60) for r in regimes]
        sharp = all(c.blur == 0 and c.jpeg >= 95 and c.noise < 0.005 and not c.grey for c in drawn)
        assert sharp == (name in ("hadrian", "eclipse")), name
    shaved, bearded = KINDS["hadrian"].first, KINDS["hadrian"].second
    dark, bright = KINDS["eclipse"].first, KINDS["eclipse"].second
    assert (shaved.beard, bearded.beard) == (0.0, 1.0)  # what makes them hard
    assert bright.exposure_mean - dark.exposure_mean > 3


ANYONE = {"lfw", "cfp_fp", "agedb_30"}
LOOKALIKES = {"sllfw", "doppelver"}


@pytest.mark.parametrize("name", KINDS)
def test_impostors_are_those_of_the_original(name, studio, taken, tmp_path):
    """LFW, CFP and AgeDB pair people at random, others within a sex and an ancestry."""
    write(tmp_path, name, 160)
    by_index = {who.index: find_person(studio, 1, who) for who, _, _ in taken.values()}
    pairs = [(by_index[i], by_index[i + 1]) for i in range(0, len(by_index), 2)]
    matched = [a.female == b.female and np.array_equal(a.race, b.race) for a, b in pairs]
    assert all(matched) == (name not in ANYONE)
    cosines = [unit(a.shape) @ unit(b.shape) for a, b in pairs]
    assert (np.mean(cosines) > 0.5) == (name in LOOKALIKES)
    skins_differ = np.mean([not np.array_equal(a.skin, b.skin) for a, b in pairs])
    assert skins_differ == (name not in LOOKALIKES)
    assert name != "hadrian" or not any(a.female for a, _ in pairs)


def unit(vector):
    return vector / np.linalg.norm(vector)


def test_a_small_benchmark_is_rendered(head, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKERS", "1")
    benchmark, known = write(tmp_path, "cfp_fp", 40, head, 28)
    assert len(benchmark.images) == len(known) == 80
    yaw = np.abs([k.yaw for k in known])
    assert yaw[::2].max() < 40 < yaw[1::2].min()  # frontal against profile


def test_bad_settings_name_their_key(tmp_path):
    with pytest.raises(InputError, match=r"rendered\.benchmarks\.ijbc.*known: lfw"):
        write(tmp_path, "ijbc", 40)
    for pairs in (0, 50, -40):
        with pytest.raises(InputError, match=r"rendered\.benchmarks\.lfw.*multiple of 40"):
            write(tmp_path, "lfw", pairs)


def test_attributes_say_where_the_light_comes_from(geometry):
    person = draw_person(geometry, 3, "p", 0)
    for i in range(20):
        conditions = draw_conditions(stream(1, "c", i), person, KINDS["lfw"].first)
        known = describe(7, person, conditions)
        direction = conditions.lights[2]
        turned = np.radians(known.light)
        level = np.hypot(direction[0], direction[2])
        assert np.allclose([np.sin(turned) * level, np.cos(turned) * level], direction[[0, 2]])
        assert (known.person, known.female, known.age) == (7, person.female, conditions.age)
