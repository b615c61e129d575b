"""AttrOP within a data set, in the small world of test_attrop."""

import numpy as np
import pytest

from tests.dataset.test_attrop import AWAY, LIGHT, NETWORKS, SETTINGS
from vec2face.dataset import generate as dataset
from vec2face.dataset.aims import Aims, Group
from vec2face.dataset.perturbation import Perturbation
from vec2face.faces.images import decode, to_tensor
from vec2face.faces.source import open_source
from vec2face.generator.masks import masks as draw_masks
from vec2face.runtime.files import InputError, fingerprint

IMAGES = 10
IDENTITIES = (1.5 * np.random.default_rng(5).normal(size=(6, 12))).astype(np.float32)
MIXTURE = Perturbation(4, IMAGES, [0.2, 0.4], [0.5, 0.5], 0.5, 1.0)
GROUPS = (Group(0.4, {"turn": 20.0}), Group(0.2, {"turn": 30.0, "light": -20.0}))


def aims(groups=GROUPS, unconverged="best", attempts=1, mode="ours", **changes):
    settings = {**vars(SETTINGS), "attributes": (AWAY, LIGHT), **changes}
    return Aims(
        7,
        IMAGES,
        groups,
        NETWORKS,
        type(SETTINGS)(**settings),
        unconverged,
        attempts,
        mode,
        {"turn": other},
    )


def other(images):
    return {"turn": 0.9 * NETWORKS.estimators["halves"](images)["turn"] - 1}


def masks(first, count):
    return draw_masks(4, first, count, 0.1, 1.0, 0.15)


def run(folder, wanted, identities=IDENTITIES, perturbation=MIXTURE, **options):
    generator = NETWORKS.generator
    generator.image_size = 16
    return dataset.generate(
        generator, identities, perturbation, masks, store=folder / "generated", aims=wanted,
        vectors=folder / "vectors.npy", work=folder / "work", made_by="test", **options,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(dataset, "BLOCK", 16)


def test_groups_have_their_shares_in_each_identity_at_random_places():
    found = aims().groups_of(np.arange(400 * IMAGES)).reshape(400, IMAGES)
    for row in found:
        assert np.bincount(row + 1, minlength=3).tolist() == [4, 4, 2]
    share = (found == 0).mean(0)  # every place is as likely: none is left to one sigma
    assert np.abs(share - 0.4).max() < 4 * (0.4 * 0.6 / 400) ** 0.5
    part = aims().groups_of(np.array([17, 3999, 5]))
    assert part.tolist() == [found.flat[17], found.flat[3999], found.flat[5]]


def test_no_vector_comes_nearer_to_another_identity(tmp_path):
    """People are so alike that a vector on its way passes others; then its plain image is taken."""
    rng = np.random.default_rng(1)
    alike = (rng.normal(size=12) + 0.4 * rng.normal(size=(12, 12))).astype(np.float32)
    narrow = Perturbation(4, IMAGES, [0.02], [1.0], 0.5, 1.0)
    wanted = aims((Group(0.6, {"turn": 40.0}),), min_similarity=0.5)
    options = {"identities": alike, "perturbation": narrow}
    summary = run(tmp_path / "with", wanted, **options)
    plain = run(tmp_path / "without", None, **options)
    assert summary["images"] == plain["images"] == 120
    assert 0 < summary["attrop_0_astray"] < 72
    assert summary["attrop_0_astray"] + summary["attrop_0_images"] == 72
    vectors, before = (np.load(tmp_path / n / "vectors.npy") for n in ("with", "without"))
    unit, people = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (vectors, alike))
    assert ((unit @ people.T).argmax(1) == np.arange(120) // IMAGES).all()
    same = (vectors == before).all(1)
    assert same.sum() == 48 + summary["attrop_0_astray"]


@pytest.mark.parametrize("part", [slice(0, 400), slice(130, 310)])
def test_slots_have_as_many_of_every_group(part):
    samples = np.arange(400)[part]
    groups, places = aims().groups_of(samples), aims().places_of(samples)
    for group, count in ((0, 4), (1, 2)):
        found = np.sort(places[groups == group])
        assert np.array_equal(found, np.arange(found[0], found[0] + len(found)))  # all different
        slots = np.bincount(found % 5, minlength=5)
        assert slots.max() - slots.min() <= 1
        if part.start == 0:
            assert len(found) == 40 * count


def test_targets_are_those_of_the_group():
    targets = aims().targets(np.array([0, -1, 1]))
    assert targets[0, 0] == 20
    assert targets[2].tolist() == [30, -20]
    assert np.isnan(targets[1]).all()
    assert np.isnan(targets[0, 1])


def test_aimed_images_have_their_attributes_and_the_others_are_as_without(tmp_path):
    summary = run(tmp_path / "with", aims())
    run(tmp_path / "without", None)
    groups = aims().groups_of(np.arange(60))
    ours, plain = (open_source(tmp_path / n / "generated") for n in ("with", "without"))
    vectors, before = (np.load(tmp_path / n / "vectors.npy") for n in ("with", "without"))
    assert ours.labels.tolist() == plain.labels.tolist()
    signed = np.zeros(60)
    for sample in range(60):
        if groups[sample] < 0:
            assert ours.encoded(sample) == plain.encoded(sample)
            assert np.array_equal(vectors[sample], before[sample])
        image = to_tensor(decode(ours.encoded(sample), "x")[None])
        signed[sample] = float(NETWORKS.estimators["halves"](image)["turn"])
    turns = np.abs(signed)
    for group, target in ((0, 20), (1, 30)):
        errors = np.abs(turns[groups == group] - target)
        assert summary[f"attrop_{group}_turn_error"] == pytest.approx(errors.mean(), abs=1e-3)
        judged = np.abs(0.9 * signed[groups == group] - 1) - target
        figures = np.abs(judged).mean(), judged.mean(), (np.abs(judged) <= 6).mean()
        for name, figure in zip(("error", "bias", "within"), figures, strict=True):
            found = summary[f"attrop_{group}_turn_second_{name}"]
            assert found == pytest.approx(figure, abs=1e-3)
        assert summary[f"attrop_{group}_images"] == (groups == group).sum()
    assert summary["attrop_0_converged"] > 0.8
    owners = IDENTITIES[np.arange(60) // IMAGES]
    cosines = (vectors * owners).sum(1) / np.linalg.norm(vectors, axis=1)
    assert (cosines / np.linalg.norm(owners, axis=1)).min() >= 0.5


def test_shards_and_blocks_change_nothing(tmp_path, monkeypatch):
    run(tmp_path / "one", aims(), images_per_shard=30)
    monkeypatch.setattr(dataset, "BLOCK", 7)
    run(tmp_path / "two", aims(), images_per_shard=30)
    one, two = (fingerprint(tmp_path / n / "generated", tmp_path / n / "vectors.npy")
                for n in ("one", "two"))  # fmt: skip
    assert one == two


HARD = (Group(0.5, {"turn": 300.0}),)


def test_what_does_not_converge_is_kept_tried_again_or_dropped(tmp_path):
    best = run(tmp_path / "best", aims(HARD, steps=5))
    again = run(tmp_path / "again", aims(HARD, "again", 3, steps=5))
    dropped = run(tmp_path / "drop", aims(HARD, "drop", steps=5))
    assert best["attrop_0_converged"] == again["attrop_0_converged"] == 0
    assert best["attrop_0_attempts"] == 1
    assert again["attrop_0_attempts"] == 3
    assert again["attrop_0_turn_error"] <= best["attrop_0_turn_error"]
    assert dropped["images"] == len(open_source(tmp_path / "drop/generated")) == 30
    assert np.bincount(open_source(tmp_path / "drop/generated").labels).tolist() == [5] * 6
    assert len(np.load(tmp_path / "drop/vectors.npy")) == 30
    assert (dropped["attrop_0_images"], dropped["attrop_0_dropped"]) == (0, 30)


def test_all_images_may_be_aimed_at(tmp_path):
    summary = run(tmp_path, aims((Group(1.0, {"turn": 20.0}),)), identities=IDENTITIES[:2])
    assert summary["attrop_0_images"] == summary["images"] == 20


@pytest.mark.parametrize("share", [0.02, 0.1])  # of ten images: none, and one in some blocks
def test_blocks_without_aimed_images_are_drawn_plainly(tmp_path, share, monkeypatch):
    monkeypatch.setattr(dataset, "BLOCK", 4)
    wanted = aims((Group(share, {"turn": 20.0}),), steps=2)
    summary = run(tmp_path, wanted)
    assert summary["images"] == 60
    assert summary["attrop_0_images"] == (wanted.groups_of(np.arange(60)) == 0).sum()


def test_shards_that_are_dropped_whole_are_left_out(tmp_path):
    with pytest.raises(InputError, match=r"attrop\.unconverged"):
        run(tmp_path / "none", aims((Group(1.0, {"turn": 300.0}),), "drop", steps=0))
    part = aims((Group(1.0, {"turn": 20.0}),), "drop", steps=0)
    summary = run(tmp_path / "part", part, images_per_shard=2)
    store = open_source(tmp_path / "part/generated")
    assert 0 < summary["images"] < 30  # so that of 30 shards some are empty
    assert len(store) == len(np.load(tmp_path / "part/vectors.npy")) == summary["images"]
    assert summary["attrop_0_images"] == summary["images"] == 60 - summary["attrop_0_dropped"]
    assert summary["attrop_0_converged"] == 1
    images = to_tensor(np.stack([decode(store.encoded(row), "x") for row in range(len(store))]))
    turns = NETWORKS.estimators["halves"](images)["turn"].abs().numpy()
    assert summary["attrop_0_turn_error"] == pytest.approx(np.abs(turns - 20).mean(), abs=1e-3)
    assert run(tmp_path / "part", part, images_per_shard=2) == summary


def test_a_second_attempt_starts_elsewhere():
    first, _ = MIXTURE.vectors(IDENTITIES, range(5))
    other, _ = MIXTURE.vectors(IDENTITIES, range(5), again=1)
    assert not np.isclose(first, other).all(1).any()


def test_the_other_modes_make_a_whole_set_and_say_how_they_ended(tmp_path):
    ours = run(tmp_path / "ours", aims(steps=5))
    printed = run(tmp_path / "printed", aims(mode="printed", steps=5, rate=1e-3))
    released = run(tmp_path / "released", aims(HARD, mode="released", steps=5))
    assert ours.keys() == printed.keys()
    assert printed["attrop_0_steps"] == 5
    assert released["images"] == 60
    assert released["attrop_0_ended"] == 0
    again = run(tmp_path / "again", aims(HARD, mode="released", steps=5))
    assert again == released
    assert fingerprint(tmp_path / "again/generated") == fingerprint(tmp_path / "released/generated")


def test_the_released_mode_starts_from_the_largest_sigma():
    assert aims(mode="printed").starts(MIXTURE) is MIXTURE
    assert aims(mode="released").starts(MIXTURE).levels.tolist() == [0.4] * IMAGES
