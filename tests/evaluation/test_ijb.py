"""IJB's protocol against a template-by-template account, and lists that are wrong."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from vec2face.evaluation import ijb as ijb_module
from vec2face.evaluation.ijb import (
    RATES,
    evaluate_ijb,
    is_ijb,
    pair_cosines,
    picture_features,
    pool,
    read_ijb,
)
from vec2face.faces.align import TEMPLATE
from vec2face.faces.images import encode
from vec2face.runtime.files import InputError

COLOURS = {10: (200, 30, 30), 20: (30, 200, 30), 30: (190, 40, 30), 40: (30, 30, 200)}


def colour(images):
    """A recognizer of colours, longer for brighter pictures, that sees left from right."""
    left, right = images[:, :, :56].mean((1, 2)), images[:, :, 56:].mean((1, 2))
    return np.concatenate([left, 0.2 * right], 1).astype(np.float32)


def write_ijb(path):
    """Four templates of two media each, one a video of two frames; persons 10 and 30 are one."""
    for name in ("meta", "loose_crop"):
        (path / name).mkdir(parents=True)
    draw = np.random.default_rng(0)
    marks, belongs = [], []
    for number, (template, rgb) in enumerate((t, c) for t, c in COLOURS.items() for _ in range(3)):
        picture = np.clip(draw.normal(rgb, 20, (150, 160, 3)), 0, 255).astype(np.uint8)
        (path / f"loose_crop/{number}.jpg").write_bytes(encode(picture))
        points = (TEMPLATE + (20, 10)).round(3).ravel()
        score = round(0.5 + 0.04 * number, 2)
        marks.append(f"{number}.jpg {' '.join(map(str, points))} {score}")
        belongs.append(f"{number}.jpg {template} {7 + (number % 3 > 0)}")
    pairs = ["10 30 1", "10 20 0", "10 40 0", "20 30 0", "20 40 0", "30 40 0", "10 10 1"]
    for name, lines in (
        ("name_5pts_score", marks),
        ("face_tid_mid", belongs),
        ("template_pair_label", pairs),
    ):
        (path / f"meta/ijbb_{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path):
    write_ijb(tmp_path)
    return tmp_path


def test_lists_are_read(folder):
    assert is_ijb(folder)
    ijb = read_ijb(folder)
    assert ijb.name == "ijbb"
    assert len(ijb.pictures) == 12
    assert ijb.templates.tolist() == [10] * 3 + [20] * 3 + [30] * 3 + [40] * 3
    assert ijb.media.tolist() == [7, 8, 8] * 4
    assert ijb.points.shape == (12, 5, 2)
    assert ijb.pairs[0].tolist() == [10, 30]
    assert ijb.same.tolist() == [True, False, False, False, False, False, True]


@pytest.mark.parametrize("detector", [True, False])
@pytest.mark.parametrize("norm", [True, False])
def test_the_whole_is_that_of_the_loop(folder, detector, norm, monkeypatch):
    ijb = read_ijb(folder)
    found = evaluate_ijb(ijb, colour, use_detector_score=detector, use_norm_score=norm)
    assert list(found) == list(RATES)
    assert all(value == 1.0 for value in found.values())  # persons 10 and 30 look alike

    pooled = {}
    for template in COLOURS:
        total = 0
        for medium in (7, 8):
            rows = [i for i in range(12) if ijb.templates[i] == template and ijb.media[i] == medium]
            features = []
            for i in rows:
                picture = cv2.imread(str(ijb.pictures[i]))[..., ::-1]
                crop = picture[10:122, 20:132]  # the points lie where the template has them
                feature = colour(crop[None])[0] + colour(crop[None, :, ::-1])[0]
                feature = feature if norm else feature / np.linalg.norm(feature)
                features.append(feature * (ijb.scores[i] if detector else 1))
            total = total + sum(features) / len(features)
        pooled[template] = total / np.linalg.norm(total)
    wanted = [pooled[a] @ pooled[b] for a, b in ijb.pairs]

    seen = {}
    monkeypatch.setattr(
        ijb_module, "tar_at_far", lambda d, *_: seen.update(pair_cosines=-d) or np.ones(len(RATES))
    )
    evaluate_ijb(ijb, colour, use_detector_score=detector, use_norm_score=norm)
    np.testing.assert_allclose(seen["pair_cosines"], wanted, atol=1e-4)


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_pooling_is_that_of_the_loop(pictures, templates, media, seed):
    draw = np.random.default_rng(seed)
    features = draw.standard_normal((pictures, 5))
    template, medium = draw.integers(0, templates, pictures), draw.integers(0, media, pictures)
    names, found = pool(features, template, medium)
    assert names.tolist() == sorted(set(template.tolist()))
    for name, row in zip(names, found, strict=True):
        total = sum(
            features[(template == name) & (medium == m)].mean(0)
            for m in set(medium[template == name].tolist())
        )
        np.testing.assert_allclose(row, total / np.linalg.norm(total), atol=1e-9)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_change_nothing(block):
    draw = np.random.default_rng(0)
    names = np.array([3, 5, 8, 13])
    features = draw.standard_normal((4, 6))
    pairs = names[draw.integers(0, 4, (50, 2))]
    places = {name: i for i, name in enumerate(names)}
    wanted = [features[places[a]] @ features[places[b]] for a, b in pairs]
    np.testing.assert_allclose(pair_cosines(names, features, pairs, block=block), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("face_tid_mid", lambda t: t.replace("0.jpg", "99.jpg", 1), "other names than"),
        ("face_tid_mid", lambda t: t.replace(" 10 ", " x ", 1), "face_tid_mid.txt: .*3 values"),
        ("name_5pts_score", lambda t: t.replace(" ", " 1.0 ", 1), "name_5pts_score.txt: .*12 val"),
        ("template_pair_label", lambda t: t.replace("10 30 1", "10 31 1"), "line 1: expected two"),
        ("template_pair_label", lambda t: t.replace("10 20 0", "10 20 2"), "line 2: expected two"),
    ],
)
def test_lists_that_are_wrong_are_named(folder, file, change, said):
    path = folder / f"meta/ijbb_{file}.txt"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=said):
        read_ijb(folder)


def test_missing_files_are_named(folder):
    (folder / "loose_crop/3.jpg").unlink()
    with pytest.raises(InputError, match=r"3\.jpg: missing \(1 pictures are\)"):
        read_ijb(folder)
    (folder / "meta/ijbb_template_pair_label.txt").unlink()
    with pytest.raises(InputError, match=r"template_pair_label\.txt: missing"):
        read_ijb(folder)
    with pytest.raises(InputError, match="0 lists"):
        read_ijb(folder / "meta")


def test_a_picture_may_count_without_its_mirror_image(folder):
    ijb = read_ijb(folder)
    plain = picture_features(ijb, colour, flip=False)
    mirrored = picture_features(ijb, lambda x: colour(x[:, :, ::-1]), flip=False)
    assert not np.allclose(plain, mirrored)
    np.testing.assert_allclose(picture_features(ijb, colour), plain + mirrored, rtol=1e-6)


def test_a_broken_picture_is_named(folder):
    (folder / "loose_crop/3.jpg").write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"3\.jpg"):
        evaluate_ijb(read_ijb(folder), colour)


def test_the_curve_may_be_read_as_insightface_does(folder):
    ijb = replace(read_ijb(folder), same=np.array([0, 1, 1, 0, 0, 1, 0], bool))
    features = picture_features(ijb, colour) * ijb.scores[:, None]
    scores = pair_cosines(*pool(features, ijb.templates, ijb.media), ijb.pairs)
    false, true, _ = roc_curve(ijb.same, scores)
    rates = (0.1, 0.3, 0.6, 0.9)
    wanted = {rate: true[::-1][np.abs(false[::-1] - rate).argmin()] for rate in rates}
    assert evaluate_ijb(ijb, colour, nearest=True, rates=rates) == wanted
    at_most = {rate: true[false <= rate].max() for rate in rates}
    assert evaluate_ijb(ijb, colour, rates=rates) == at_most != wanted
