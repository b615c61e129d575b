import csv
import io
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vec2face.faces.named import Names
from vec2face.faces.source import load_images, open_source
from vec2face.runtime.files import InputError

names = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
    max_size=20,
)


@given(names)
def test_names_are_kept_and_sorted(given_names):
    kept = Names(given_names)
    assert list(kept) == given_names
    assert [kept[i] for i in kept.order()] == sorted(given_names)


def tree(folder, paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(path.encode())
    return folder


parts = st.text("ab-.0 ", min_size=1, max_size=3).filter(lambda t: t.strip(" .") and t[0] != ".")


@settings(max_examples=50)
@given(st.sets(st.tuples(parts, parts, parts), min_size=1, max_size=12))
def test_a_folder_is_read_in_the_order_of_its_sorted_paths(tmp_path_factory, found):
    paths = sorted(f"{a}/{b}/{c}.png" for a, b, c in found)
    source = open_source(tree(tmp_path_factory.mktemp("faces"), paths))
    assert [source.encoded(i).decode() for i in range(len(source))] == paths
    people = list(dict.fromkeys(path.rpartition("/")[0] for path in paths))
    assert source.labels.tolist() == [people.index(p.rpartition("/")[0]) for p in paths]


def test_other_files_are_passed_over_and_links_followed(tmp_path):
    tree(tmp_path / "in", ["b/1.JPG", "b/notes.txt", "b/.2.jpg", ".c/1.jpg", "d/e"])
    tree(tmp_path / "away", ["x/2.jpeg"])
    (tmp_path / "in/a").symlink_to(tmp_path / "away/x")
    source = open_source(tmp_path / "in")
    assert [source.where(i) for i in range(len(source))] == [
        f"{tmp_path}/in/a/2.jpeg",
        f"{tmp_path}/in/b/1.JPG",
    ]
    (tmp_path / "in/b/1.JPG").unlink()
    with pytest.raises(InputError, match=r"b/1\.JPG: cannot be read"):
        source.encoded(1)


def test_pipes_are_not_waited_for(tmp_path):
    tree(tmp_path, ["a/0.jpg", "list.csv"])
    (tmp_path / "list.csv").write_text("a/1.jpg,0\na/0.jpg,0\n")
    os.mkfifo(tmp_path / "a/1.jpg")
    for name in ("", "list.csv"):
        source = open_source(tmp_path / name)
        assert source.encoded(0) == b"a/0.jpg"
        with pytest.raises(InputError, match=r"a/1\.jpg: a pipe or device"):
            source.encoded(1)
    for name in ("a.csv", "a.zip", "a.tar", "a.lmdb", "a.rec"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match=rf"{name}: (not a known form|no such file)"):
            open_source(tmp_path / name)


def test_folders_that_are_no_faces_say_what_is_expected(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no images there.*or a FaceStore"):
        open_source(tmp_path / "empty")
    with pytest.raises(InputError, match=r"1\.jpg: lies in no identity's folder"):
        open_source(tree(tmp_path / "flat", ["1.jpg"]))
    tree(tmp_path / "loop", ["a/1.jpg"])
    (tmp_path / "loop/a/again").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="does a link lead in a circle"):
        open_source(tmp_path / "loop")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("path,label\nx/1.jpg,7\ny/0.jpg,3\nx/0.jpg,7\n", [7, 7, 3]),
        ("label,score,path\n7,0.1,x/1.jpg\n3,0.2,y/0.jpg\n7,0.3,x/0.jpg\n", [7, 7, 3]),
        ("x/1.jpg,ann\ny/0.jpg,Bob\nx/0.jpg,ann\n", [1, 1, 0]),
        ("x/1.jpg\tp7\ny/0.jpg\tp-3\nx/0.jpg\tp7\n", [1, 1, 0]),
        ("x/1.jpg,1\ny/0.jpg,2\nx/0.jpg,1.0\n", [1, 1, 2]),
        ("x/1.jpg,1.0\ny/0.jpg,10.\nx/0.jpg,2.00\n", [2, 1, 10]),
        ("x\\1.jpg,7\ny\\0.jpg,3\nx/0.jpg,7\n", [7, 7, 3]),
        ("x/1.jpg\ny/0.jpg\n\nx/0.jpg\n", [0, 0, 1]),
        ("\ufeffpath,label\r\n./x/1.jpg,7\r\ny//0.jpg,3\r\nx/../x/0.jpg,7\r\n", [7, 7, 3]),
    ],
)
def test_lists_with_and_without_header_and_labels(tmp_path, text, labels):
    tree(tmp_path, ["x/0.jpg", "x/1.jpg", "y/0.jpg"])
    (tmp_path / "faces.csv").write_text(text, newline="")
    source = open_source(tmp_path / "faces.csv")
    found = [source.encoded(i).decode() for i in range(3)]
    assert found == ["x/0.jpg", "x/1.jpg", "y/0.jpg"]
    assert source.labels.tolist() == labels
    assert source.where(0) == f"{tmp_path}/faces.csv, x/0.jpg"


def test_absolute_paths_may_stay_below_the_list(tmp_path):
    tree(tmp_path, ["x/a, b.jpg"])
    with (tmp_path / "faces.txt").open("w", newline="") as file:
        csv.writer(file).writerow([tmp_path / "x/a, b.jpg", 4])
    assert open_source(tmp_path / "faces.txt").encoded(0) == b"x/a, b.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/1.jpg,1\n../b/1.jpg,1\n", r"line 2: '\.\./b/1\.jpg' is no file below the list's"),
        ("/etc/passwd,1\n", "line 1: '/etc/passwd' is no file below"),
        ("path,label\n,1\n", "line 2: '' is no file below"),
        ("path,label\na/1.jpg\n", "line 2: 1 columns, expected 2"),
        ("a/1.jpg,1\na/2.jpg,\n", "a line without a label"),
        ('a/1.jpg,"1\n', "not a list of images"),
        ("a/1.jpg,-1\na/2.jpg,0\n", "the label '-1' is no whole number >= 0"),
        ("a/1.jpg,ann\na/2.jpg,-7\n", "the label '-7' is no whole number >= 0"),
        ("a/1.jpg,1\na/2.jpg,0.5\n", "the label '0.5' is no whole number >= 0"),
        ("a/1.jpg,1\na/2.jpg,1.0\na/3.jpg,bob", "the label '1.0' is no whole number >= 0"),
        ("a/1.jpg,1\na/2.jpg,1\n./a/1.jpg,2\n", "a/1.jpg: has two labels"),
        ("a/1.jpg,ann\na/1.jpg,ann\na/1.jpg,bob\n", "a/1.jpg: has two labels"),
        ("a/1.jpg,1\na/2.jpg,nan\n", "the label 'nan' is no whole number >= 0"),
        ("a/1.jpg,ann\na/2.jpg,-Inf\n", "the label '-Inf' is no whole number >= 0"),
        ("a/1.jpg,NaN\na/2.jpg,infinity\n", "the label 'NaN' is no whole number >= 0"),
        ("a/1.jpg\0,1\n", "is no image's path"),
        ("\xff", "line 1: .* is no image's path"),
        ("1.jpg", "no identity's folder"),
        ("", "no images there"),
    ],
)
def test_bad_lists_name_the_line(tmp_path, text, message):
    (tmp_path / "faces.csv").write_text(text)
    with pytest.raises(InputError, match=r"faces\.csv.*" + message):
        open_source(tmp_path / "faces.csv")


def test_nan_is_a_name_too(tmp_path):
    (tmp_path / "faces.csv").write_text("a/1.jpg,Nan\na/2.jpg,Ann\na/3.jpg,Nan\n")
    assert open_source(tmp_path / "faces.csv").labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("header", ["Path,Label", "path, label", '"PATH",LABEL'])
def test_a_header_may_have_capitals_and_spaces(tmp_path, header):
    tree(tmp_path, ["a/1.jpg", "a/2.jpg"])
    (tmp_path / "list.csv").write_text(f"{header}\na/1.jpg, 3\na/2.jpg, 10\n")
    assert open_source(tmp_path / "list.csv").labels.tolist() == [3, 10]


@pytest.mark.parametrize("first", ["filename,identity", "a/1.jpg 3", "path;label"])
def test_a_first_line_of_another_form_is_named(tmp_path, first):
    tree(tmp_path, ["a/1.jpg"])
    (tmp_path / "list.csv").write_text(f"{first}\na/1.jpg,3\n")
    with pytest.raises(InputError, match=r"list\.csv, line 1: .* is no image's path; expected"):
        open_source(tmp_path / "list.csv")


def test_an_image_may_come_twice_with_one_label(tmp_path):
    tree(tmp_path, ["a/1.jpg"])
    (tmp_path / "list.csv").write_text("a/1.jpg,3\na/1.jpg,3\n")
    assert open_source(tmp_path / "list.csv").labels.tolist() == [3, 3]


def pack(folder, form):
    """Return a folder as it is, or its archive."""
    if form == "folder":
        return folder
    return Path(shutil.make_archive(str(folder), form, folder))


FORMS = pytest.mark.parametrize("form", ["folder", "zip", "tar"])


@FORMS
def test_images_are_told_by_their_content_and_others_counted(tmp_path, caplog, form):
    picture = np.full((8, 8, 3), 77, np.uint8)
    jpeg, webp, avif = (
        cv2.imencode(kind, picture)[1].tobytes() for kind in (".jpg", ".webp", ".avif")
    )
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "GIF")
    gif = buffer.getvalue()
    images = {
        "a/1.jfif": jpeg,
        "a/2.JPE": jpeg,
        "a/3": jpeg,
        "a/4.gif": gif,
        "b/5.jpg.1": webp,
        "a/6": b"\0\0\0\x0cjP  \r\n\x87\n",
        "a/7.avif": avif,
        "a/notes": b"no picture",
        "a/empty": b"",
        "b/Thumbs.db": b"\xd0\xcf\x11\xe0",
        "a/._1.jfif": b"\0\5\x16\7",
        "a/.DS_Store": b"\0\0\0\1Bud1",
        "__MACOSX/a/._3": jpeg,
    }
    for name, content in images.items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(content)
    source = open_source(pack(tmp_path / "in", form))
    assert list(source.names) == ["a/1.jfif", "a/2.JPE", "a/3", "a/4.gif", "b/5.jpg.1"]
    assert source.labels.tolist() == [0, 0, 0, 0, 1]
    assert (load_images(source, 8) == 77).all()
    assert "5 files left out that are no JPEG, PNG" in caplog.text


@FORMS
@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["a/v1/0.jpg", "a/v2/0.jpg", "b/v3/0.jpg"], "3 folders within 2 others"),
        (["x/a/v1/0.jpg", "x/a/v2/0.jpg", "x/b/0.jpg"], "3 folders within 2 others"),
        (["x/y/a/0.jpg", "x/y/b/0.jpg"], ""),
        (["a/v1/0.jpg", "b/v2/0.jpg"], ""),
        (["a/0.jpg", "b/0.jpg", "c/0.jpg"], ""),
    ],
)
def test_folders_in_folders_are_said_where_they_are_ambiguous(tmp_path, caplog, form, paths, said):
    """The rule: an identity is the folder in which an image lies."""
    source = open_source(pack(tree(tmp_path / "in", paths), form))
    assert source.labels.tolist() == list(range(len(paths)))
    assert ("each of the" in caplog.text) == bool(said)
    assert said in caplog.text


@pytest.mark.parametrize("ending", [".ppm", ".PGM", ".tif", ".tiff", ".bmp", ".webp"])
def test_other_images_are_found_and_decoded(tmp_path, ending):
    picture = np.full((8, 8) if ending == ".PGM" else (8, 8, 3), 77, np.uint8)
    (tmp_path / "a").mkdir()
    (tmp_path / f"a/1{ending}").write_bytes(cv2.imencode(ending.lower(), picture)[1].tobytes())
    assert (load_images(open_source(tmp_path), 8) == 77).all()
