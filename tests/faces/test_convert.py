"""Every form into every other, against readers that share no code with the library."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faces.readers import (
    IMAGES,
    Rows,
    read_folder,
    read_lmdb,
    read_rec,
    read_store,
    read_webdataset,
)
from vec2face.faces.convert import FORMS, convert, merge
from vec2face.faces.reading import read_array
from vec2face.faces.source import open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.faces.webdataset import open_faces
from vec2face.runtime.files import InputError

NAMES = {"rec": "train.rec", "lmdb": "faces.lmdb"} | dict.fromkeys(FORMS[2:], "faces")
READ = dict(
    zip(FORMS, [read_rec, read_lmdb, read_folder, read_store, read_webdataset], strict=True)
)

some_rows = st.lists(
    st.tuples(st.sampled_from([0, 1, 3, 4, 11, 12, 200, 2**20]), st.integers(0, 59)),
    min_size=1,
    max_size=15,
)


def expected(source, form):
    """What a reader of this form must find: dense labels, rows in order, features if it can."""
    rank = {label: i for i, label in enumerate(sorted(set(source.labels.tolist())))}
    rows = [
        (rank[int(source.labels[i])], source.encoded(i), source.feature(i))
        for i in range(len(source))
    ]
    if form == "folder":
        rows.sort(key=lambda row: row[0])  # stable
    return rows if form in ("lmdb", "store") else [row[:2] for row in rows]


def same(found, wanted):
    plain = [
        [[x.tolist() if isinstance(x, np.ndarray) else x for x in row] for row in rows]
        for rows in (found, wanted)
    ]
    return plain[0] == plain[1]


@settings(max_examples=8)
@given(some_rows, st.booleans())
def test_every_form_into_every_other(tmp_path_factory, rows, features):
    source, path = Rows(rows, features), tmp_path_factory.mktemp("forms")
    for form in FORMS:
        first = path / form / NAMES[form]
        convert(source, first, form=form)
        assert same(READ[form](first), expected(source, form))
        between = open_faces(first)
        for other in FORMS:
            second = path / f"{form}-{other}" / NAMES[other]
            convert(between, second, form=other)
            assert same(READ[other](second), expected(between, other))


@pytest.mark.parametrize("form", FORMS)
def test_equal_input_gives_equal_files(tmp_path, form):
    source = Rows([(i % 7, i) for i in range(50)], features=True)
    for name in "ab":
        convert(source, tmp_path / name / NAMES[form], form=form)
    first = {p.relative_to(tmp_path / "a"): p for p in (tmp_path / "a").rglob("*") if p.is_file()}
    second = {p.relative_to(tmp_path / "b"): p for p in (tmp_path / "b").rglob("*") if p.is_file()}
    assert first.keys() == second.keys()
    assert all(first[name].read_bytes() == second[name].read_bytes() for name in first)


def test_a_record_file_comes_with_insightface_s_property(tmp_path):
    convert(Rows([(5, 1), (9, 2), (5, 3)]), tmp_path / "train.rec")
    assert (tmp_path / "property").read_text().strip() == "2,8,8"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["property", "train.idx", "train.rec"]


def test_a_large_database_outgrows_its_first_map(tmp_path):
    rows = [(i % 3, i % 60) for i in range(2500)]
    features = np.ones((2500, 2000), np.float32) * np.arange(2500, dtype=np.float32)[:, None]
    convert(Rows(rows), tmp_path / "a.lmdb", features=features)
    found = read_lmdb(tmp_path / "a.lmdb")
    assert [(row[0], row[1]) for row in found] == [(label, IMAGES[i]) for label, i in rows]
    assert all(np.array_equal(row[2], f) for row, f in zip(found, features, strict=True))


class Failing(Rows):
    def encoded(self, i):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls > len(self) + 4:  # after the check of all, within the copy
            raise InputError("the disk went away")
        return super().encoded(i)


@pytest.mark.parametrize("form", FORMS)
def test_a_place_that_cannot_be_written_is_named(tmp_path, form):
    (tmp_path / "file").write_text("in a folder's place")
    for parent in (tmp_path / "file", Path("/proc")):
        with pytest.raises(InputError, match=f"^{parent}: cannot be written to"):
            convert(Rows([(0, 1)], features=True), parent / NAMES[form], form=form)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_half_written_remains(tmp_path, form):
    source = Failing([(i, i) for i in range(9)], features=True)
    with pytest.raises(InputError, match="went away"):
        convert(source, tmp_path / "out" / NAMES[form], form=form)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_there_is_never_overwritten(tmp_path):
    source = Rows([(0, 1)])
    (tmp_path / "mine").mkdir()
    (tmp_path / "property").write_text("of another set")
    for destination in ("mine", "a.rec"):
        with pytest.raises(InputError, match="exists already"):
            convert(source, tmp_path / destination)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "property"]
    with pytest.raises(InputError, match=r"ends in \.rec"):
        convert(source, tmp_path / "b", form="rec")
    with pytest.raises(InputError, match=r"b\.rec: an LMDB of this name"):
        convert(source, tmp_path / "b.rec", form="lmdb")
    assert not (tmp_path / "b.rec").exists()


def test_corrupt_images_stop_or_are_counted(tmp_path):
    images = [IMAGES[0], b"no image", IMAGES[2], IMAGES[3][:-40]]
    with FaceStoreWriter(tmp_path / "in", image_size=8, seed=0, made_by="test") as writer:
        writer.extend(images, [0, 1, 2, 2])
    source = open_source(tmp_path / "in")
    with pytest.raises(InputError, match=r"key 2: not a readable.*corrupt to skip"):
        convert(source, tmp_path / "out.rec")
    skipped = convert(source, tmp_path / "out.rec", corrupt="skip")
    assert read_rec(tmp_path / "out.rec") == [(0, IMAGES[0]), (1, IMAGES[2])]  # no gap is left
    report = json.loads((tmp_path / "out.rec.skipped.json").read_text())
    assert report == {"count": 2, "entries": skipped}
    assert ["key 2" in skipped[0], "key 4" in skipped[1]] == [True, True]
    convert(source, tmp_path / "store", form="store", corrupt="skip")
    assert open_source(tmp_path / "store").manifest["skipped"]["count"] == 2


def test_features_must_fit(tmp_path):
    source = Rows([(0, 1), (0, 2)])
    with pytest.raises(InputError, match=r"features \(3, 4\) for the 2 images"):
        convert(source, tmp_path / "a.lmdb", features=np.zeros((3, 4)))
    with pytest.raises(InputError, match="holds no features"):
        convert(source, tmp_path / "a.rec", features=np.zeros((2, 4)))
    source.features = True
    source.feature = lambda i: None if i else np.zeros(3, np.float32)
    with pytest.raises(InputError, match="row 1: its feature"):
        convert(source, tmp_path / "a.lmdb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [np.nan, -np.inf, 1e300])
@pytest.mark.parametrize("form", ["lmdb", "store"])
def test_features_are_finite(tmp_path, form, wrong):
    source, features = Rows([(0, i) for i in range(4)]), np.zeros((4, 3))
    features[2, 1] = wrong
    np.save(tmp_path / "f.npy", features)
    with pytest.raises(InputError, match=r"f\.npy, row 2: its feature is not finite"):
        convert(source, tmp_path / "out", form=form, features=read_array(tmp_path / "f.npy"))
    source.features = True
    source.feature = lambda i: features[i]
    with pytest.raises(InputError, match="row 2: its feature is not finite"):
        convert(source, tmp_path / "out", form=form)
    assert [p.name for p in tmp_path.iterdir()] == ["f.npy"]


@settings(max_examples=10)
@given(st.lists(some_rows, min_size=1, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3))
def test_merged_sets_share_no_identity(tmp_path_factory, sets, features):
    path = tmp_path_factory.mktemp("merge") / "all.lmdb"
    sources = [Rows(rows, has) for rows, has in zip(sets, features, strict=False)]
    merge(sources, path)
    wanted, used = [], 0
    for source in sources:
        rows = expected(source, "lmdb")
        wanted += [(label + used, image, feature) for label, image, feature in rows]
        used += len(set(source.labels.tolist()))
    if not all(source.features for source in sources):
        wanted = [(label, image, None) for label, image, _ in wanted]
    assert same(read_lmdb(path), wanted)


def test_an_empty_set_is_no_part_of_a_merge(tmp_path):
    with pytest.raises(InputError, match="no images to merge"):
        merge([Rows([(0, 0)]), Rows([])], tmp_path / "a.rec")
    with pytest.raises(InputError, match="none of 0 images"):
        convert(Rows([]), tmp_path / "a.rec")


def test_files_are_named_by_what_they_hold(tmp_path):
    """In folders: every kind of picture with its own ending, whatever it was called."""
    endings = {".jpg": "jpg", ".png": "png", ".bmp": "bmp", ".webp": "webp", ".tiff": "tif"}
    (tmp_path / "in/a").mkdir(parents=True)
    for number, ending in enumerate([*endings, ".ppm", ".gif"]):
        data = cv2.imencode(ending, np.zeros((8, 8, 3), np.uint8))[1].tobytes()
        (tmp_path / f"in/a/{number}").write_bytes(data)
    convert(open_source(tmp_path / "in"), tmp_path / "out")
    found = sorted((tmp_path / "out").rglob("*.*"))
    assert [f.suffix[1:] for f in found] == [*endings.values(), "ppm", "gif"]
    assert [f.read_bytes() for f in found] == [
        f.read_bytes() for f in sorted((tmp_path / "in/a").iterdir())
    ]
