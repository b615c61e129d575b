import numpy as np
import pytest

from vec2face.faces.images import decode
from vec2face.faces.store import FaceStore
from vec2face.rendered import produce
from vec2face.rendered.produce import Attributes
from vec2face.rendered.stores import write_store
from vec2face.runtime.files import InputError, sha256

SMALL = {"seed": 1, "images": 2, "size": 56, "made_by": "a test"}


@pytest.fixture
def one_worker(monkeypatch):
    monkeypatch.setenv("WORKERS", "1")


def test_a_store_holds_people_and_what_is_known_of_each_row(head, tmp_path, one_worker):
    write_store(head, tmp_path / "faces", people=3, work=tmp_path / "work", **SMALL)
    store = FaceStore(tmp_path / "faces").verify()
    assert store.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert store.manifest["identities"] == 3
    assert decode(store.encoded(5), "row 5").shape == (56, 56, 3)
    known = {p.stem: np.load(p) for p in (tmp_path / "faces-attributes").glob("*.npy")}
    assert set(known) == set(Attributes._fields)
    assert all(values.shape == (6,) for values in known.values())
    assert known["person"].tolist() == store.labels.tolist()
    for name in ("yaw", "pitch", "age", "light", "exposure"):  # of a picture
        assert len(np.unique(known[name])) == 6, name
    for name in ("female", "melanin"):  # of a person
        assert np.array_equal(known[name][::2], known[name][1::2]), name


def test_a_killed_run_goes_on_with_what_it_has(head, tmp_path, one_worker, monkeypatch):
    write_store(head, tmp_path / "whole/faces", people=3, work=tmp_path / "w", **SMALL)
    monkeypatch.setattr(produce, "SITTINGS", 1)
    sat = []

    def sit(head, seed, size, sitting, original=produce.sit):
        sat.append(sitting.who.index)
        if len(sat) == 3:
            raise KeyboardInterrupt
        return original(head, seed, size, sitting)

    monkeypatch.setattr(produce, "sit", sit)
    arguments = {"people": 3, "work": tmp_path / "work", **SMALL}
    with pytest.raises(KeyboardInterrupt):
        write_store(head, tmp_path / "faces", **arguments)
    assert not (tmp_path / "faces").exists()
    write_store(head, tmp_path / "faces", **arguments)
    assert sat == [0, 1, 2, 2]
    for file in ("part-00000.rec", "manifest.json"):
        assert sha256(tmp_path / "faces" / file) == sha256(tmp_path / "whole/faces" / file)


def test_workers_and_sizes_of_the_store_change_no_picture(head, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKERS", "1")
    write_store(head, tmp_path / "one/faces", people=3, work=tmp_path / "1", **SMALL)
    few = {**SMALL, "images": 1, "work": tmp_path / "2"}
    write_store(head, tmp_path / "few/faces", people=2, **few)
    monkeypatch.setenv("WORKERS", "2")
    write_store(head, tmp_path / "two/faces", people=3, work=tmp_path / "3", **SMALL)
    shard = "faces/part-00000.rec"
    assert sha256(tmp_path / "one" / shard) == sha256(tmp_path / "two" / shard)
    one, few = (FaceStore(tmp_path / name / "faces") for name in ("one", "few"))
    assert few.encoded(0) == one.encoded(0)
    assert few.encoded(1) == one.encoded(2)


def test_stores_of_other_names_hold_other_people(head, tmp_path, one_worker):
    for name in ("faces", "pca"):
        write_store(head, tmp_path / name, people=1, work=tmp_path / f"{name}-work", **SMALL)
    a, b = (FaceStore(tmp_path / name).encoded(0) for name in ("faces", "pca"))
    assert a != b


def test_a_missing_head_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.npz"):
        write_store(
            tmp_path / "none.npz", tmp_path / "faces", people=1, work=tmp_path / "work", **SMALL
        )
