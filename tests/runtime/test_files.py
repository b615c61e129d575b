"""Files are whole or not at all."""

import pytest

from vec2face.runtime.files import (
    InputError,
    fingerprint,
    sha256,
    whole_file,
    whole_folder,
    write_json,
)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "store"
    with whole_folder(path) as temporary:
        (temporary / "x").write_text("old")
    with pytest.raises(RuntimeError), whole_folder(path) as temporary:
        (temporary / "x").write_text("half")
        raise RuntimeError
    assert (path / "x").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_folder_replaces_all_of_the_old_one(tmp_path):
    for name in ("x", "y"):
        with whole_folder(tmp_path / "store") as temporary:
            (temporary / name).write_text(name)
    assert [p.name for p in (tmp_path / "store").iterdir()] == ["y"]


@pytest.mark.parametrize("make", [whole_file, whole_folder])
@pytest.mark.parametrize("place", ["file/x", "/proc/x", "n" * 250])
def test_a_place_for_no_output_is_named_before_the_work(tmp_path, make, place):
    (tmp_path / "file").write_text("in a folder's place")
    path = tmp_path / place
    worked = False
    with pytest.raises(InputError, match=f"{path}: cannot be made"), make(path):
        worked = True
    assert not worked
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_takes_no_folders_place(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="x: cannot be made: Is a directory"):
        write_json(tmp_path / "x", {})
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
def test_a_folder_replaces_whatever_stands_there(tmp_path, kind):
    path, other = tmp_path / "store", tmp_path / "other"
    other.mkdir()
    (other / "kept").write_text("")
    if kind == "file":
        path.write_text("old")
    else:
        path.symlink_to(other if kind == "link" else tmp_path / "none")
    with whole_folder(path) as temporary:
        (temporary / "x").write_text("new")
    assert [p.name for p in path.iterdir()] == ["x"]
    assert [p.name for p in other.iterdir()] == ["kept"]


def test_fingerprints_follow_content_not_place_or_order(tmp_path):
    for name in ("a", "b"):
        write_json(tmp_path / name / "x.json", {"k": 1})
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    before = fingerprint(tmp_path / "a")
    write_json(tmp_path / "a" / "x.json", {"k": 2})
    assert fingerprint(tmp_path / "a") != before


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # the example of FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
