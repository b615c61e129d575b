import csv

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vec2face.faces.listing import Names
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
        ("x/1.jpg\t7\ny/0.jpg\t-3\nx/0.jpg\t7\n", [1, 1, 0]),
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
        ("\xff", "line 1: .* is no image's path"),
        ("1.jpg", "no identity's folder"),
        ("", "no images there"),
    ],
)
def test_bad_lists_name_the_line(tmp_path, text, message):
    (tmp_path / "faces.csv").write_text(text)
    with pytest.raises(InputError, match=r"faces\.csv.*" + message):
        open_source(tmp_path / "faces.csv")


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


@pytest.mark.parametrize("ending", [".ppm", ".PGM", ".tif", ".tiff", ".bmp", ".webp"])
def test_other_images_are_found_and_decoded(tmp_path, ending):
    picture = np.full((8, 8) if ending == ".PGM" else (8, 8, 3), 77, np.uint8)
    (tmp_path / "a").mkdir()
    (tmp_path / f"a/1{ending}").write_bytes(cv2.imencode(ending.lower(), picture)[1].tobytes())
    assert (load_images(open_source(tmp_path), 8) == 77).all()
