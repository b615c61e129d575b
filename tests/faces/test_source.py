import io
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests import ranks
from tests.faces.readers import IMAGES, Rows
from vec2face.faces.convert import convert
from vec2face.faces.images import decode
from vec2face.faces.source import Selection, load_images, open_readable, open_source, readable
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import processes


def picture(side, form="JPEG", mode="RGB"):
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, form)
    return buffer.getvalue()


KINDS = {
    "same": picture(16), "small": picture(8), "large": picture(24), "png": picture(16, "PNG"),
    "grey": picture(16, mode="L"), "cmyk": picture(16, mode="CMYK"),
}  # fmt: skip
ROWS = Rows([(i % 3, i) for i in range(10)], features=True)


@pytest.mark.parametrize("name", ["a.rec", "a.lmdb", "faces"])
def test_a_mask_selects_rows_in_its_order(tmp_path, name):
    convert(ROWS, tmp_path / name)
    whole = open_source(tmp_path / name)
    np.save(tmp_path / "mask.npy", np.array([7, 2, 2], np.int32))
    part = open_source(tmp_path / name, mask=tmp_path / "mask.npy")
    assert [part.encoded(i) for i in range(len(part))] == [whole.encoded(i) for i in (7, 2, 2)]
    assert part.labels.tolist() == whole.labels[[7, 2, 2]].tolist()
    assert part.where(0) == whole.where(7)
    assert np.array_equal(part.feature(0), whole.feature(7))


@pytest.mark.parametrize(
    "mask", [np.array([0, 10]), np.array([-1]), np.array([0.5]), np.array([[1]]), np.array([], int)]
)
def test_masks_of_other_sets_are_refused(tmp_path, mask):
    convert(ROWS, tmp_path / "a.rec")
    np.save(tmp_path / "mask.npy", mask)
    with pytest.raises(InputError, match=r"mask\.npy"):
        open_source(tmp_path / "a.rec", mask=tmp_path / "mask.npy")
    with pytest.raises(InputError, match=r"none\.npy: cannot be read"):
        open_source(tmp_path / "a.rec", mask=tmp_path / "none.npy")
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(InputError, match=r"pipe\.npy: a pipe or device"):
        open_source(tmp_path / "a.rec", mask=tmp_path / "pipe.npy")


def npy(header, data=b""):
    """An .npy of a header's text and anything behind it."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + data


SHAPE = "{'descr': '%s', 'fortran_order': False, 'shape': %s}"
HEADERS = [
    npy(SHAPE % ("<i8", "(1099511627776,)"), bytes(8)),
    npy(SHAPE % ("<i8", "(1099511627776, 0)")),
    npy(SHAPE % ("<i8", "(-1, -8)"), bytes(64)),
    npy(SHAPE % ("<i8", "(2,)"), bytes(15)),
    npy(SHAPE % ("<i8", "(2,)"), bytes(17)),
    npy(SHAPE % ("|O", "(1,)"), bytes(8)),
    npy(SHAPE % ("<i8", "(True,)"), bytes(8)),
    npy(SHAPE % ("<i8", "(" * 400), bytes(8)),
    npy(SHAPE % ("<q'", "(1,)"), bytes(8)),
    npy("{'descr': '<i8'}", bytes(8)),
    npy("0b"),
    b"\x93NUMPY\1\0\xff\xff{",
    b"\x93NUMPY",
    b"PK\3\4",
    b"",
]


@pytest.mark.parametrize("content", HEADERS)
def test_an_array_holds_what_its_header_says(tmp_path, content):
    convert(ROWS, tmp_path / "a.rec")
    (tmp_path / "mask.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"mask\.npy: cannot be read"):
        open_source(tmp_path / "a.rec", mask=tmp_path / "mask.npy")


def test_corrupt_images_are_found_wherever_they_are(tmp_path, monkeypatch):
    images = [IMAGES[i] if i not in (3, 8) else IMAGES[i][:-9] for i in range(10)]
    with FaceStoreWriter(tmp_path / "a", image_size=8, seed=0, made_by="test") as writer:
        writer.extend(images, range(10))
    source = open_source(tmp_path / "a")
    rows, skipped = readable(source, [8, 1, 3, 0], corrupt="skip")
    assert rows.tolist() == [1, 0]
    assert ["key 9" in skipped[0], "key 4" in skipped[1]] == [True, True]
    assert readable(source, [1, 0], corrupt="stop")[0].tolist() == [1, 0]
    with pytest.raises(InputError, match=r"key 4: not a readable image.*set corrupt to skip"):
        readable(source, corrupt="stop")
    with pytest.raises(InputError, match=r"none of 2 images can be read; .*key 4"):
        readable(source, [3, 8], corrupt="skip")
    part = open_readable(tmp_path / "a", corrupt="skip")
    assert part.labels.tolist() == [0, 1, 2, 4, 5, 6, 7, 9]
    assert len(load_images(part, 8)) == 8
    assert len(open_readable(tmp_path / "a", corrupt="stop")) == 10


def say_what_is_readable(folder):
    source = open_source(folder / "a", verify=False)
    rows, skipped = readable(source, range(9, -1, -1), corrupt="skip")
    with pytest.raises(InputError) as stopped:
        readable(source, corrupt="stop")
    found = [rows.tolist(), skipped, str(stopped.value)]
    (folder / f"{processes().rank}-of-{processes().size}").write_text(json.dumps(found))


def test_two_processes_find_the_same_corrupt_images(tmp_path):
    with FaceStoreWriter(tmp_path / "a", image_size=8, seed=0, made_by="test") as writer:
        writer.extend([b"none" if i in (3, 8) else IMAGES[i] for i in range(10)], range(10))
    say_what_is_readable(tmp_path)
    alone = (tmp_path / "0-of-1").read_text()
    rows, skipped, stopped = json.loads(alone)
    assert rows == [9, 7, 6, 5, 4, 2, 1, 0]
    assert ["key 9" in skipped[0], "key 4" in skipped[1], "key 4" in stopped] == [True] * 3
    assert ranks.finish(ranks.start(say_what_is_readable, tmp_path, size=2)) == [0, 0]
    assert [(tmp_path / f"{rank}-of-2").read_text() for rank in (0, 1)] == [alone] * 2


@pytest.mark.parametrize("cores", [1, 4])
def test_images_are_loaded_in_their_order_however_many_threads(monkeypatch, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    rows = Rows([(0, i) for i in range(50)])
    order = np.random.default_rng(0).permutation(50)
    found = load_images(rows, 8, order)
    assert np.array_equal(found, [decode(IMAGES[i], "") for i in order])
    monkeypatch.setattr(rows, "encoded", lambda i: b"" if i > 20 else IMAGES[i])
    with pytest.raises(InputError, match="^row 21: not a readable image"):
        load_images(rows, 8)


@given(st.lists(st.sampled_from(["same", "small", "large", "png", "grey", "cmyk"]), max_size=40))
def test_images_of_any_size_and_kind_come_to_the_size_asked(kinds):
    """Whatever stands before an image in the source must not show in it."""
    rows = Rows([(0, 0)] * len(kinds))
    rows.encoded = lambda i: KINDS[kinds[i]]
    found = load_images(rows, 16, range(len(kinds)))
    for image, kind in zip(found, kinds, strict=True):
        assert np.array_equal(image, decode(KINDS[kind], "", 16))


def test_a_selection_of_a_selection():
    outer = Selection(Selection(ROWS, np.array([5, 6, 7])), np.array([2, 0]))
    assert [outer.encoded(i) for i in range(2)] == [IMAGES[7], IMAGES[5]]
    assert outer.labels.tolist() == [1, 2]
    assert outer.where(1) == "row 5"


def test_unknown_files_say_what_is_expected(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"something")
    with pytest.raises(
        InputError, match=r"a\.bin: not a known form of faces; expected a FaceStore"
    ):
        open_source(tmp_path / "a.bin")
    with pytest.raises(InputError, match="no faces there; expected a FaceStore"):
        open_source(tmp_path / "nothing")
