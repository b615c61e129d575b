"""Figures: what is drawn, pixel for pixel where it matters, and the same bytes twice."""

from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from vec2face.evaluation.roles import ROLES
from vec2face.report import figures


def rows(*lengths: int, side: int = 8) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    shape = (side, side, 3)
    return [[rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(n)] for n in lengths]


def saved(figure: Figure, path: Path) -> np.ndarray:
    figures.save(figure, path)
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_tiles_are_shown_pixel_for_pixel(tmp_path: Path) -> None:
    images = rows(3, 2, side=112)
    picture = saved(figures.contact_sheet(images, tile=112, gap=2), tmp_path / "a.png")
    assert picture.shape == (226, 340, 3)
    np.testing.assert_array_equal(picture[:112, 114:226], images[0][1])
    np.testing.assert_array_equal(picture[114:, :112], images[1][0])
    assert (picture[114:, 228:] == 255).all()  # the short row's empty place


def test_labels_lie_beside_the_tiles(tmp_path: Path) -> None:
    images = rows(2, 2, side=40)
    labels = {"row_labels": ["first", "second"], "column_labels": ["a", "b"]}
    picture = saved(figures.contact_sheet(images, tile=40, gap=0, **labels), tmp_path / "a.png")
    np.testing.assert_array_equal(picture[-40:, -40:], images[1][1])
    left, top = picture.shape[1] - 80, picture.shape[0] - 80
    for y in (0, 40):
        assert picture[top + y : top + y + 40, :left].min() < 128, "no row label"
        assert picture[:top, left + y : left + y + 40].min() < 128, "no column label"
    assert (picture[:, 0] == 255).all(), "a row label is cut off"


def test_small_images_are_enlarged(tmp_path: Path) -> None:
    flat = [[np.full((56, 56, 3), 90, np.uint8)]]
    assert (saved(figures.contact_sheet(flat), tmp_path / "a.png") == 90).all()


def test_a_sheet_needs_images_and_fitting_labels() -> None:
    with pytest.raises(ValueError, match="at least one"):
        figures.contact_sheet([[], []])
    with pytest.raises(ValueError, match="label"):
        figures.contact_sheet(rows(2), column_labels=["only one"])


def test_accuracies_draws_every_recognizer_where_it_was_measured() -> None:
    evaluation = {
        "generated": {"cplfw": {"accuracy": 70.0, "std": 2.0}, "lfw": {"accuracy": 80.0}},
        "real": {"lfw": {"accuracy": 90.0}},
    }
    (ax,) = figures.accuracies(evaluation).axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["CPLFW", "LFW"]  # upwards
    points = {c.get_label(): c.lines[0].get_xydata() for c in ax.containers}
    made, real = (points[ROLES[name].label] for name in ("generated", "real"))
    assert made[:, 0].tolist() == [80, 70]
    assert real[:, 0].tolist() == [90]
    assert made[:, 1].round().tolist() == [1, 0]
    assert real[:, 1].round().tolist() == [1]


def test_no_marker_hides_another(tmp_path: Path) -> None:
    names = ["generated", "real", "untrained", "estimator", "second", "zoo"]
    figure = figures.accuracies({n: {b: {"accuracy": 60.0} for b in ("lfw", "me")} for n in names})
    figures.save(figure, tmp_path / "a.png")  # settles the layout
    (ax,) = figure.axes
    lines = [c.lines[0] for c in ax.containers]
    points = np.concatenate([ax.transData.transform(line.get_xydata()) for line in lines])
    apart = np.diff(np.sort(points[:, 1])).min()  # pixels
    assert apart > lines[0].get_markersize() * figures.DPI / 72


def test_roc_has_a_panel_a_benchmark_and_survives_zero() -> None:
    curves = pd.DataFrame(
        [("real", b, f, f) for b in ("mine", "lfw") for f in (1.0, 0.0, 0.01)],
        columns=["recognizer", "benchmark", "far", "tar"],
    )
    axes = figures.roc(curves).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["LFW", "mine"]
    assert axes[0].lines[0].get_xdata().tolist() == [0.01, 0.01, 1.0]


def test_training_curves_skip_missing_values() -> None:
    curves = pd.DataFrame({"step": range(4), "loss": [4.0, 3, 2, 1], "test": [None, 5, None, 6]})
    axes = figures.training_curves(curves).axes
    assert [ax.get_title(loc="left") for ax in axes] == ["loss", "test"]
    assert axes[1].lines[0].get_xydata().tolist() == [[1, 5], [3, 6]]


def test_the_same_data_gives_the_same_bytes_whatever_the_users_style(tmp_path: Path) -> None:
    curves = pd.DataFrame({"step": range(9), "loss": range(9)})
    figures.save(figures.training_curves(curves), tmp_path / "a.png")
    with mpl.rc_context({"font.size": 20, "savefig.dpi": 33, "axes.facecolor": "red"}):
        figures.save(figures.training_curves(curves), tmp_path / "b.png")
    first = (tmp_path / "a.png").read_bytes()
    assert (tmp_path / "b.png").read_bytes() == first
    assert b"Software" not in first
    assert b"tIME" not in first
