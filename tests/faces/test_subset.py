import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vec2face.faces.images import encode
from vec2face.faces.record import RecordWriter
from vec2face.faces.source import open_source
from vec2face.faces.subset import choose, copy_rows, whole_people
from vec2face.files import InputError

some_labels = st.lists(st.integers(-3, 12), min_size=1, max_size=120).map(np.array)


@settings(max_examples=100, deadline=None)
@given(some_labels, st.integers(1, 5), st.integers(1, 5), st.integers(0, 99), st.data())
def test_the_paper_rule(labels, identities, images, seed, data):
    minimum = data.draw(st.integers(1, 6))
    people, counts = np.unique(labels, return_counts=True)
    exclude = data.draw(st.sets(st.sampled_from(people.tolist())))
    able = {p for p, n in zip(people, counts, strict=True) if n >= minimum} - exclude
    rule = {"images_per_identity": images, "minimum_images": minimum, "seed": seed}
    if len(able) < identities:
        with pytest.raises(InputError, match=f"only {len(able)} have at least {minimum} images"):
            choose(labels, identities=identities, exclude=exclude, **rule)
        return
    rows = choose(labels, identities=identities, exclude=exclude, **rule)
    assert (np.diff(rows) > 0).all()
    chosen, found = np.unique(labels[rows], return_counts=True)
    assert len(chosen) == identities
    assert set(chosen) <= able
    for person, n in zip(chosen, found, strict=True):
        assert n == min(images, counts[people == person][0])
    assert np.array_equal(rows, choose(labels, identities=identities, exclude=exclude, **rule))


def test_the_default_takes_only_identities_with_all_their_images():
    labels = np.repeat(np.arange(10), np.arange(1, 11))
    rows = choose(labels, identities=3, images_per_identity=8, seed=0)
    assert sorted(set(labels[rows])) == [7, 8, 9]
    assert len(rows) == 24
    with pytest.raises(InputError, match=r"a\.rec: 4 identities asked, but only 3 .*it holds 10"):
        choose(labels, identities=4, images_per_identity=8, seed=0, where="a.rec")


def test_larger_choices_contain_smaller_ones():
    labels = np.arange(600) % 30
    small = choose(labels, identities=5, images_per_identity=4, seed=3)
    large = choose(labels, identities=9, images_per_identity=7, seed=3)
    assert set(small) < set(large)


def test_seeds_and_rows_matter():
    labels = np.arange(600) % 30
    rows = [choose(labels, identities=10, images_per_identity=5, seed=s) for s in range(20)]
    assert len({tuple(r) for r in rows}) == 20
    # Every identity and every place within an identity can be chosen.
    assert set(labels[np.concatenate(rows)]) == set(range(30))
    assert len(set((np.concatenate(rows) // 30).tolist())) == 20


@given(
    st.lists(st.integers(-3, 9), max_size=60).map(np.array),
    st.integers(0, 70),
    st.integers(0, 3),
)
def test_whole_people_fill_the_number_asked(labels, images, seed):
    labels = labels.astype(np.int64)
    rows = whole_people(labels, images, seed=seed)
    assert len(rows) == min(images, len(labels))
    assert (np.diff(rows) > 0).all()
    cut = [p for p in np.unique(labels[rows]) if (labels[rows] == p).sum() < (labels == p).sum()]
    assert len(cut) <= 1


def test_rows_are_copied_byte_by_byte_and_renumbered(tmp_path):
    images = [encode(np.full((24, 24, 3), 9 * i, np.uint8)) for i in range(12)]
    labels = [40, 7, 40, 7, 300, 300, 7, 40, 5, 300, 5, 7]
    with RecordWriter(tmp_path / "a.rec") as writer:
        for image, label in zip(images, labels, strict=True):
            writer.append(image, label)
    source = open_source(tmp_path / "a.rec")
    rows = np.array([1, 2, 5, 9, 11])
    copy_rows(source, rows, tmp_path / "store", seed=4, made_by="a test")
    store = open_source(tmp_path / "store")
    assert [store.encoded(i) for i in range(5)] == [images[i] for i in rows]
    assert store.labels.tolist() == [0, 1, 2, 2, 0]
    assert store.manifest["image_size"] == 24
    assert (store.manifest["seed"], store.manifest["identities"]) == (4, 3)
