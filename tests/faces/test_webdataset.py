"""Shards of ``.tar`` against tarfile, the package ``webdataset``, and the pipeline's own reader."""

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faces.readers import IMAGES, Rows, read_webdataset
from vec2face.faces.convert import convert
from vec2face.faces.source import open_source
from vec2face.faces.webdataset import ShardSource, open_faces
from vec2face.runtime.files import InputError

ROWS = [(i % 4, i) for i in range(11)]


def shards(path):
    return [file.name for file in sorted((path / "data").iterdir())]


def names_of(shard):
    with tarfile.open(shard) as tar:
        return tar.getnames()


def tar_of(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))


@settings(max_examples=10)
@given(st.integers(1, 14))
def test_shards_hold_so_many_images_and_the_rows_in_order(tmp_path_factory, shard):
    path = tmp_path_factory.mktemp("shards") / "out"
    convert(Rows(ROWS), path, form="webdataset", shard=shard)
    count = -(-11 // shard)
    assert shards(path) == [f"train-{i:05d}-of-{count:05d}.tar" for i in range(count)]
    assert read_webdataset(path) == [(label, IMAGES[i]) for label, i in ROWS]
    sizes = [len(names_of(file)) // 2 for file in sorted((path / "data").iterdir())]
    assert set(sizes[:-1]) <= {shard}
    made = open_faces(path)
    assert made.labels.tolist() == [label for label, _ in ROWS]
    assert [made.encoded(i) for i in range(11)] == IMAGES[:11]


def test_bytes_say_nothing_of_time_user_or_machine(tmp_path):
    convert(Rows(ROWS), tmp_path / "out", form="webdataset")
    (file,) = (tmp_path / "out/data").iterdir()
    with tarfile.open(file) as tar:
        for member in tar:
            about = member.mtime, member.uid, member.gid, member.uname, member.gname, member.mode
            assert about == (0, 0, 0, "", "", 0o644)


def test_a_shard_alone_is_an_archive_of_folders(tmp_path):
    """So the pipeline itself reads one."""
    convert(Rows(sorted(ROWS)), tmp_path / "out", form="webdataset")
    (file,) = (tmp_path / "out/data").iterdir()
    archive = open_source(file)
    assert archive.labels.tolist() == sorted(label for label, _ in ROWS)
    assert [archive.encoded(i) for i in range(11)] == [IMAGES[i] for _, i in sorted(ROWS)]


def test_the_package_webdataset_reads_it(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    convert(Rows(ROWS), tmp_path / "out", form="webdataset", shard=4)
    urls = [str(tmp_path / "out/data" / name) for name in shards(tmp_path / "out")]
    samples = webdataset.WebDataset(urls, shardshuffle=False)
    assert [(int(s["cls"]), s["jpg"]) for s in samples] == [(label, IMAGES[i]) for label, i in ROWS]


def test_others_name_samples_otherwise(tmp_path):
    """Flat names, endings in any order and case, more files a sample, shards beside each other."""
    tar_of(tmp_path / "b-1.tar", [("7.json", b"{}"), ("7.cls", b"30\n"), ("7.JPG", IMAGES[2])])
    tar_of(tmp_path / "b-0.tar", [("./a/0.1.cls", b"9")])
    with pytest.raises(InputError, match=r"b-0\.tar, a/0: 0 images"):
        open_faces(tmp_path)
    tar_of(tmp_path / "b-0.tar", [("./x/0.cls", b"9"), ("./x/0.png", IMAGES[0])])
    source = open_faces(tmp_path)
    assert source.labels.tolist() == [9, 30]
    assert [source.encoded(i) for i in (0, 1)] == [IMAGES[0], IMAGES[2]]
    assert source.where(1) == f"{tmp_path}/b-1.tar, 7"


def test_a_tar_beside_peoples_folders_is_no_shard(tmp_path):
    convert(Rows(ROWS), tmp_path / "faces", form="folder")
    (tmp_path / "faces/backup.tar").write_bytes(b"")
    assert len(open_faces(tmp_path / "faces")) == 11


def test_a_mask_may_shuffle(tmp_path):
    convert(Rows(ROWS), tmp_path / "out", form="webdataset", shard=3)
    np.save(tmp_path / "mask.npy", [10, 0, 10])
    source = open_faces(tmp_path / "out", mask=tmp_path / "mask.npy")
    assert source.labels.tolist() == [2, 0, 2]
    assert source.encoded(2) == IMAGES[10]


IMAGE = ("0.jpg", IMAGES[0])


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([IMAGE], "1 images and no label"),
        ([("0.cls", b"1")], "0 images and a label"),
        ([IMAGE, ("0.png", IMAGES[1]), ("0.cls", b"1")], "2 images"),
        ([IMAGE, ("0.cls", b"-1")], "whole number"),
        ([IMAGE, ("0.cls", b"1.0")], "whole number"),
        ([IMAGE, ("0.cls", b"9" * 19)], "whole number"),
        ([IMAGE, ("0.cls", b"9" * 999)], "whole number"),
        ([IMAGE, ("0.cls", b"")], "whole number"),
        ([("../0.jpg", IMAGES[0]), ("../0.cls", b"1")], "leads out"),
    ],
)
def test_what_is_no_sample_is_named(tmp_path, members, why):
    tar_of(tmp_path / "a.tar", [("x.jpg", IMAGES[0]), ("x.cls", b"0"), *members])
    with pytest.raises(InputError, match=rf"a\.tar, .*{why}"):
        ShardSource(tmp_path)


def test_a_cut_shard_is_refused(tmp_path):
    convert(Rows(ROWS), tmp_path / "out", form="webdataset")
    (file,) = (tmp_path / "out/data").iterdir()
    whole = file.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for size in (end - 512, end - 1024, end - 700):
        file.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"train-00000-of-00001\.tar"):
            open_faces(tmp_path / "out")


def test_a_shard_has_at_least_one_image(tmp_path):
    with pytest.raises(InputError, match="0 images in a shard"):
        convert(Rows(ROWS), tmp_path / "out", form="webdataset", shard=0)
    assert not list(tmp_path.iterdir())
