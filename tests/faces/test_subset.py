from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vec2face.faces.images import encode
from vec2face.faces.record_writer import RecordWriter
from vec2face.faces.source import open_source
from vec2face.faces.subset import choose, choose_released, copy_rows, whole_people
from vec2face.runtime.files import InputError

some_labels = st.lists(st.integers(-3, 12), min_size=1, max_size=120).map(np.array)


@settings(max_examples=100)
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


def released(paths, identities):
    """The rule word by word: positions in the sorted paths, in the order of the choice."""
    np.random.seed(0)  # noqa: NPY002
    positions = defaultdict(list)
    for position, path in enumerate(np.sort(paths)):
        positions[path.split("/")[-2]].append(position)
    chosen = np.random.choice(list(positions), identities, replace=False)  # noqa: NPY002
    return [position for person in chosen for position in positions[person]]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.text("ab-_0", min_size=1, max_size=3), st.integers(0, 20)),
        min_size=1,
        max_size=40,
        unique=True,
    ),
    st.data(),
)
def test_the_released_rule(tmp_path_factory, images, data):
    folder = tmp_path_factory.mktemp("faces")
    for person, image in images:
        (folder / person).mkdir(exist_ok=True)
        (folder / person / f"{image}.jpg").write_bytes(f"{person} {image}".encode())
    source = open_source(folder)
    paths = [f"root/{person}/{image}.jpg" for person, image in images]
    people = len({person for person, _ in images})
    identities = data.draw(st.integers(1, people))
    rows = choose_released(source.labels, identities=identities, seed=0)
    assert rows.tolist() == sorted(released(paths, identities))
    wanted = {np.sort(paths)[row][5:-4].replace("/", " ").encode() for row in rows}
    assert {source.encoded(row) for row in rows} == wanted
    with pytest.raises(InputError, match=f"it holds {people}"):
        choose_released(source.labels, identities=people + 1, seed=0)


def test_the_released_rule_numbers_identities_as_they_appear():
    labels = np.array([5, 5, 9, 2, 2, 2, 9, 7])
    paths = np.sort(["r/a/1", "r/a/2", "r/b/1", "r/c/1", "r/c/2", "r/c/3", "r/b/2", "r/d/1"])
    for n in range(1, 5):
        chosen = {paths[i].split("/")[1] for i in released(paths, n)}
        numbers = {{"a": 5, "b": 9, "c": 2, "d": 7}[person] for person in chosen}
        rows = choose_released(labels, identities=n, seed=0)
        assert rows.tolist() == np.flatnonzero(np.isin(labels, list(numbers))).tolist()


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
    copy_rows(source, rows, tmp_path / "store", work=tmp_path / "work", seed=4, made_by="a test")
    store = open_source(tmp_path / "store")
    assert [store.encoded(i) for i in range(5)] == [images[i] for i in rows]
    assert store.labels.tolist() == [0, 1, 2, 2, 0]
    assert store.manifest["image_size"] == 24
    assert (store.manifest["seed"], store.manifest["identities"]) == (4, 3)
