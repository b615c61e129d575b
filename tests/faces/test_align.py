import os

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import SimilarityTransform

from vec2face.faces.align import TEMPLATE, align, align_folder, similarity
from vec2face.faces.benchmarks import load_benchmark
from vec2face.faces.headers import kind
from vec2face.faces.images import decode
from vec2face.runtime.files import InputError

coordinates = st.floats(-500, 500, width=32)


def photograph(points, size=(150, 200)):
    """A smooth picture with red dots at the points."""
    y, x = np.mgrid[: size[0], : size[1]]
    image = np.stack([x * 0 + 40, x, y], axis=-1).clip(0, 255).astype(np.uint8)
    for point in points:
        cv2.circle(image, tuple(int(v) for v in point), 2, (255, 0, 0), -1)
    return image


@settings(max_examples=60)
@given(st.lists(st.tuples(coordinates, coordinates), min_size=5, max_size=5), st.booleans())
def test_the_transform_is_scikit_images(points, mirrored):
    points = np.array(points)
    if np.ptp(points, axis=0).max() < 1:
        points[0] += 50
    if mirrored:  # what a reflection would fit better
        points = TEMPLATE * (-1.5, 1.5) + points / 100
    for size in (112, 224):
        expected = SimilarityTransform.from_estimate(points, TEMPLATE * size / 112).params[:2]
        assert np.allclose(similarity(points, size), expected, rtol=1e-7, atol=1e-5)


def test_a_turned_scaled_and_shifted_template_is_brought_back():
    angle, scale, shift = 0.7, 2.5, (30, -12)
    turn = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    matrix = similarity(TEMPLATE @ turn.T + shift)
    assert np.allclose(matrix[:, :2] @ turn, np.eye(2))
    assert np.allclose(matrix @ (*shift, 1), 0)


def test_another_template_scales_with_the_crop():
    moved = similarity(TEMPLATE, 224, TEMPLATE + (3, 0))
    assert np.allclose(moved, [(2, 0, 6), (0, 2, 0)])


def test_the_points_of_a_picture_come_to_the_template():
    points = TEMPLATE * 0.9 + (40, 20)
    crop = align(photograph(points), points)
    assert crop.shape == (112, 112, 3)
    for x, y in TEMPLATE.round().astype(int):
        assert crop[y, x, 0] > 200
        assert crop[y, x, 1] < 60
    assert not align(photograph(points), points - (250, 200)).any()  # black outside


@pytest.mark.parametrize("shift", [(1e9, 0), (0, -1e300), (0, 400), (-350, 0)])
def test_landmarks_far_outside_of_the_picture_are_refused(raw, tmp_path, shift):
    with pytest.raises(InputError, match=r"0\.png: landmarks .* far outside of the 200 x 150"):
        align_folder(raw, tmp_path / "done", lambda _: TEMPLATE + shift)
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize("size", [-5, 0, 15, 1025, 10**6])
def test_sizes_of_no_crop_are_refused(raw, tmp_path, size):
    with pytest.raises(InputError, match=rf"size {size}: expected 16 to 1024"):
        align_folder(raw, tmp_path / "done", raw / "landmarks.csv", size=size)
    assert not (tmp_path / "done").exists()


def test_a_pipe_among_the_photographs_is_named(raw, tmp_path):
    os.mkfifo(raw / "A/pipe.jpg")
    with pytest.raises(InputError, match=r"pipe\.jpg: a pipe or device"):
        align_folder(raw, tmp_path / "done", lambda _: TEMPLATE)
    (raw / "A/pipe.jpg").rename(raw / "A/pipe.txt")
    assert align_folder(raw, tmp_path / "done", lambda _: TEMPLATE) == ([], 1)


@pytest.mark.parametrize(
    "points", [np.zeros((5, 2)), np.full((5, 2), np.nan), TEMPLATE[:4], np.ones((5, 3))]
)
def test_points_that_are_none_are_refused(points):
    with pytest.raises(InputError, match="landmarks"):
        similarity(points)


def landmarks_of(i):
    return TEMPLATE * (0.8 + i / 10) + (20, i)


@pytest.fixture
def raw(tmp_path):
    """A folder of pictures of two people, a list of pairs, and the CSV of their landmarks."""
    folder = tmp_path / "raw"
    rows = ["path,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5"]
    for i in range(4):
        name = f"{'AB'[i % 2]}/{i}.{'png' if i % 3 == 0 else 'jpg'}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        bgr = photograph(landmarks_of(i))[..., ::-1]
        (folder / name).write_bytes(cv2.imencode(name[-4:], bgr)[1].tobytes())
        rows.append(",".join([name, *(f"{v:.3f}" for v in landmarks_of(i).ravel())]))
    (folder / "landmarks.csv").write_text("\n".join(rows) + "\n")
    pairs = "path1,path2,issame,fold\nA/0.png,A/2.jpg,1,0\nB/1.jpg,B/3.png,0,1\n"
    (folder / "pairs.csv").write_text(pairs)
    return folder


def test_a_folder_is_aligned_by_a_csv(raw, tmp_path):
    assert align_folder(raw, tmp_path / "done", raw / "landmarks.csv") == ([], 0)
    benchmark = load_benchmark(tmp_path / "done")
    assert benchmark.name == "done"
    for i, data in zip((0, 2, 1, 3), benchmark.images, strict=True):
        crop = decode(data, "crop").astype(int)
        assert crop.shape == (112, 112, 3)
        expected = align(photograph(landmarks_of(i)), landmarks_of(i))
        assert np.abs(crop - expected).mean() < (0.1 if i % 3 == 0 else 3)
        assert data.startswith(b"\x89PNG" if i % 3 == 0 else b"\xff\xd8")


@pytest.mark.parametrize("name", ["x.webp", "x.TIF", "x.tiff", "x.jfif", "x", "x.gif", "x.ppm"])
def test_pictures_of_every_kind_are_aligned_into_their_own(raw, tmp_path, name, caplog):
    ending = {"x.jfif": ".jpg", "x": ".webp"}.get(name, name[1:].lower())
    picture = cv2.imencode(ending, photograph(landmarks_of(0))[..., ::-1])[1].tobytes()
    (raw / "A" / name).write_bytes(picture)
    for hidden in (f"A/._{name}", "__MACOSX/A/._0.png", ".cache/1.jpg"):
        (raw / hidden).parent.mkdir(parents=True, exist_ok=True)
        (raw / hidden).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    (raw / "A/notes.pdf").write_bytes(b"%PDF")
    assert align_folder(raw, tmp_path / "done", lambda _: landmarks_of(0)) == ([], 1)
    done = sorted(str(f.relative_to(tmp_path / "done")) for f in (tmp_path / "done").rglob("*.*"))
    assert done == sorted(
        {"A/0.png", "A/2.jpg", "B/1.jpg", "B/3.png", "landmarks.csv", "pairs.csv"}
        | ({f"A/{name}"} if "." in name else set())
    )
    data = (tmp_path / "done/A" / name).read_bytes()
    if ending != ".gif":  # OpenCV reads more kinds than it writes well
        assert kind(data) == kind(picture)
    expected = align(decode(picture, "a"), landmarks_of(0)).astype(int)
    assert np.abs(decode(data, "a") - expected).mean() < (3 if ending == ".jpg" else 0.1)
    assert "1 files left out that are no JPEG" in caplog.text


def test_a_folder_is_aligned_by_a_detector(raw, tmp_path):
    seen = []

    def detector(picture):
        seen.append(picture.shape)
        return None if len(seen) == 2 else TEMPLATE + (5, 0)

    assert align_folder(raw, tmp_path / "done", detector, size=56) == (["A/2.jpg"], 0)
    assert seen == [(150, 200, 3)] * 4
    assert cv2.imread(str(tmp_path / "done/B/3.png")).shape == (56, 56, 3)
    with pytest.raises(InputError, match=r"2\.jpg is missing"):
        load_benchmark(tmp_path / "done")
    with pytest.raises(InputError, match="no picture has landmarks"):
        align_folder(raw, tmp_path / "none", lambda _: None)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "x\n" + text, r"landmarks\.csv, line 1: expected the header path,x1"),
        (lambda text: text.replace("A/2.jpg", "A/9.jpg"), r"line 4: .*9\.jpg is missing"),
        (lambda text: text.replace("A/2.jpg", "../2.jpg"), r"line 4: \.\./2\.jpg: leads out"),
        (lambda text: text[:-3] + "x\n", "line 5: .*expected a path and ten numbers"),
        (lambda text: text + "A/0.png,1,2\n", "line 6: .*expected a path and ten numbers"),
        (lambda text: text + "A/0.png" + ",7" * 10, r"0\.png: all five landmarks lie at"),
        (lambda text: text + "A/0.png" + ",nan" * 10, r"0\.png: landmarks .*expected five"),
    ],
)
def test_what_is_wrong_in_the_csv_is_named(raw, tmp_path, change, message):
    table = raw / "landmarks.csv"
    table.write_text(change(table.read_text()))
    with pytest.raises(InputError, match=message):
        align_folder(raw, tmp_path / "done", table)
    assert not (tmp_path / "done").exists()


def test_folders_that_cannot_be_aligned_are_refused(raw, tmp_path):
    table = raw / "landmarks.csv"
    for target in ("raw", "raw/done", "."):
        with pytest.raises(InputError, match="choose a new place"):
            align_folder(raw, tmp_path / target, table)
    with pytest.raises(InputError, match="cannot be read"):
        align_folder(raw, tmp_path / "done", tmp_path / "none.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures there"):
        align_folder(tmp_path / "empty", tmp_path / "done", table)
    (raw / "A/0.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0\.png: not a readable image"):
        align_folder(raw, tmp_path / "done", table)
