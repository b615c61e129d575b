"""Figures of a run: accuracies, ROC, training curves, similarity histograms, contact sheets.

Every function takes data and returns a matplotlib ``Figure``, without pyplot's global state.
``save`` writes a PNG whose bytes depend on the data and the pinned libraries alone: no date, no
version, no user's matplotlibrc.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vec2face.evaluation.roles import ROLES, Evaluation, in_order
from vec2face.evaluation.separability import Similarities
from vec2face.report.tables import ordered, title
from vec2face.runtime.files import whole_file

INK, FAINT, GRID = "#1d2433", "#6b7385", "#e3e7ee"
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": FAINT,
    "axes.edgecolor": "#c3c9d4",
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
}
DPI = 150


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """Matplotlib's defaults plus ``STYLE``, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE)  # type: ignore[arg-type]
        yield


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG, whole or not at all, with the same bytes for the same data."""
    with whole_file(path) as temporary, _style():
        FigureCanvasAgg(figure)
        figure.savefig(temporary, format="png", metadata={"Software": None})


@_style()
def accuracies(evaluation: Evaluation) -> Figure:
    """Accuracy of every recognizer on every benchmark, with +- one std over the folds.

    A benchmark is a row, in which each recognizer has a height of its own: none hides another.
    """
    names = ordered([*{b: None for results in evaluation.values() for b in results}])
    row = 0.16 + 0.085 * len(evaluation)  # inches
    figure, axes = _panels(1, 1, width=8.4, height=1.1 + row * len(names))
    ax = axes[0]
    step = 0.8 / max(len(evaluation), 1)  # of a row
    for place, role in enumerate(in_order(evaluation)):
        results = evaluation[role.name]
        present = [b for b in names if b in results]
        lift = step * ((len(evaluation) - 1) / 2 - place)
        rows = [len(names) - 1 - names.index(b) + lift for b in present]
        ax.errorbar(
            [results[b]["accuracy"] for b in present],
            rows,
            xerr=[results[b].get("std", 0.0) for b in present],
            fmt="o",
            ms=5,
            lw=1,
            color=role.colour,
            label=role.label,
        )
    ax.axvline(50, color=FAINT, lw=0.8, ls=":")
    ax.set_yticks(range(len(names)), [title(b) for b in reversed(names)])
    ax.set_ylim(-0.5, len(names) - 0.5)
    for border in range(1, len(names)):
        ax.axhline(border - 0.5, color=GRID, lw=0.8)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(left=min(49.0, ax.get_xlim()[0]), right=101)
    ax.set_xlabel("10-fold verification accuracy, % (50 = chance; bars: one std over folds)")
    ax.grid(visible=False, axis="y")
    _legend(figure, ax)
    return figure


@_style()
def roc(curves: pd.DataFrame) -> Figure:
    """ROC curves, one panel a benchmark.

    Args:
        curves: columns recognizer, benchmark, far, tar (shares in 0..1).
    """
    names = ordered([*curves["benchmark"].drop_duplicates()])
    figure, axes = _panels(len(names), min(5, max(len(names), 1)), width=2.3 * 5, height=2.5)
    positive = curves.loc[curves["far"] > 0, "far"]
    floor = float(positive.min()) if len(positive) else 1e-3
    for ax, name in zip(axes, names, strict=True):
        for role in in_order(curves["recognizer"].unique()):
            line = curves[(curves["benchmark"] == name) & (curves["recognizer"] == role.name)]
            if len(line):
                line = line.sort_values(["far", "tar"])
                far = line["far"].clip(lower=floor)  # a logarithmic axis has no zero
                ax.plot(far, line["tar"], color=role.colour, lw=1.5, label=role.label)
        ax.set_xscale("log")
        ax.set(title=title(name), xlim=(floor, 1), ylim=(0, 1.02), xlabel="false accept rate")
    if axes:
        axes[0].set_ylabel("true accept rate")
        _legend(figure, *axes)
    return figure


@_style()
def training_curves(curves: pd.DataFrame, step: str = "step") -> Figure:
    """One small panel per column against ``step``; a column's missing values are skipped.

    A thick line is the running mean over 1/50 of the run, the faint one the values themselves.
    """
    columns = [c for c in curves.select_dtypes("number").columns if c not in (step, "epoch")]
    figure, axes = _panels(len(columns), min(4, max(len(columns), 1)), width=11.5, height=2.2)
    for ax, column in zip(axes, columns, strict=True):
        line = curves[[step, column]].dropna()
        smooth = line[column].rolling(max(1, len(line) // 50), min_periods=1).mean()
        ax.plot(line[step], line[column], color=ROLES["real"].colour, lw=0.7, alpha=0.3)
        ax.plot(line[step], smooth, color=ROLES["real"].colour, lw=1.5)
        ax.set_title(column.replace("_", " "))
    for ax in axes[-4:]:
        ax.set_xlabel(step)
    return figure


@_style()
def similarity_histograms(similarities: Mapping[str, Similarities]) -> Figure:
    """Cosines of all pairs of images, one person's against two people's (paper Fig. 11).

    Args:
        similarities: panel title -> counted pairs.
    """
    figure, axes = _panels(len(similarities), min(3, max(len(similarities), 1)), 11.5, 2.7)
    for ax, (name, counted) in zip(axes, similarities.items(), strict=True):
        edges, *counts = counted.coarse().T
        for pairs, colour, label in zip(
            counts,
            (ROLES["generated"].colour, ROLES["untrained"].colour),
            ("same person", "different people"),
            strict=True,
        ):
            share = pairs / max(pairs.sum(), 1)
            ax.fill_between(edges, share, step="post", color=colour, alpha=0.6, lw=0, label=label)
        ax.set(title=name, xlabel="cosine similarity", xlim=(-0.6, 1), yticks=[])
        ax.set_ylim(bottom=0)
    if axes:
        axes[0].set_ylabel("share of pairs")
        _legend(figure, axes[0])
    return figure


@_style()
def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    *,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    tile: int = 112,
    gap: int = 3,
) -> Figure:
    """Images in rows, pixel for pixel, on white.

    Args:
        rows: rows of uint8 (H, W, 3) RGB images of any size; rows may differ in length.
        row_labels: text left of the rows, as many as rows, or none.
        column_labels: text above the columns, as many as the longest row, or none.
        tile: side of one image on the sheet, in pixels; smaller images are enlarged (bicubic).
        gap: pixels between images.

    Raises:
        ValueError: no image at all, or a number of labels that does not fit.
    """
    columns = max((len(row) for row in rows), default=0)
    if not columns:
        raise ValueError("a contact sheet needs at least one image")
    if len(row_labels) not in (0, len(rows)) or len(column_labels) not in (0, columns):
        raise ValueError(
            f"a sheet of {len(rows)} x {columns} images needs a label for each, or none"
        )
    left = 11 * max(map(len, row_labels)) + 16 if row_labels else 0
    top = 30 if column_labels else 0
    pitch = tile + gap
    height, width = top + pitch * len(rows) - gap, left + pitch * columns - gap
    sheet = np.full((height, width, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            y, x = top + r * pitch, left + c * pitch
            sheet[y : y + tile, x : x + tile] = _fit(image, tile)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    figure.figimage(sheet, origin="upper")
    text: dict[str, Any] = {"fontsize": 18 * 72 / DPI, "color": INK, "va": "center"}  # 18 pixels
    for r, label in enumerate(row_labels):
        middle = top + r * pitch + tile / 2
        figure.text((left - 10) / width, 1 - middle / height, label, ha="right", **text)
    for c, label in enumerate(column_labels):
        middle = left + c * pitch + tile / 2
        figure.text(middle / width, 1 - top / 2 / height, label, ha="center", **text)
    return figure


def _fit(image: np.ndarray, tile: int) -> np.ndarray:
    if image.shape[:2] == (tile, tile):
        return image
    method = cv2.INTER_AREA if image.shape[0] > tile else cv2.INTER_CUBIC
    return cv2.resize(image, (tile, tile), interpolation=method)


def _panels(count: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``count`` panels; ``height`` (inches) is that of one row of panels."""
    rows = -(-count // columns)
    figure = Figure(figsize=(width, height * rows + 0.3), dpi=DPI, layout="constrained")
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def _legend(figure: Figure, *axes: Axes) -> None:
    """One legend above all panels, each label once."""
    entries: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    if entries:
        figure.legend(
            entries.values(), entries.keys(), loc="outside upper left", ncols=3, frameon=False
        )
