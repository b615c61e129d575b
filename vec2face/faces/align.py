"""Alignment: photographs turned, scaled and cropped so that five points lie where ArcFace has them.

The points are the eyes, the tip of the nose and the corners of the mouth, left before right as the
picture shows them, in pixels from the centre of the top left one.
"""

import csv
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from vec2face.faces.headers import kind
from vec2face.faces.images import decode
from vec2face.faces.listing import start_of
from vec2face.faces.named import Images, is_hidden
from vec2face.faces.reading import reading, regular
from vec2face.runtime.files import InputError, inside, whole_folder
from vec2face.runtime.progress import Progress

TEMPLATE = np.array(
    [
        (38.2946, 51.6963),
        (73.5318, 51.5014),
        (56.0252, 71.7366),
        (41.5493, 92.3655),
        (70.7299, 92.2041),
    ]
)
"""(5, 2) points of a face in a crop of 112 x 112 pixels."""

Landmarks = Callable[[np.ndarray], np.ndarray | None]
"""From a picture uint8 (H, W, 3), RGB, to the (5, 2) points of its main face, None without one."""

_AS_NAMED = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
_BY_KIND = {"jpeg": ".jpg", "bmp": ".bmp", "webp": ".webp", "tiff": ".tiff", "pnm": ".ppm"}
_SMALLEST, _LARGEST = 16, 1024  # pixels of a crop's side
_HEADER = ["path", *(f"{axis}{i}" for i in range(1, 6) for axis in "xy")]


def similarity(points: np.ndarray, size: int = 112, template: np.ndarray = TEMPLATE) -> np.ndarray:
    """Return the rotation, scale and shift that take ``points`` closest to the template.

    Least squares over all similarities without reflection (Umeyama, PAMI 1991).

    Args:
        points: (5, 2) x and y.
        size: side of the crop in pixels; the template is scaled to it.
        template: (5, 2) where the points belong in a crop of 112 x 112 pixels.

    Returns:
        (2, 3) float64, from the picture's to the crop's coordinates.

    Raises:
        InputError: if the points are not finite, or all the same.
    """
    points = np.asarray(points)
    if points.shape != TEMPLATE.shape or not np.isfinite(points).all():
        raise InputError(f"landmarks {points.tolist()}; expected five of x and y")
    target = template * (size / 112)
    centre, target_centre = points.mean(0), target.mean(0)
    centred = points - centre
    spread = (centred**2).sum()
    if spread < 1e-9:
        raise InputError(f"all five landmarks lie at {points[0].tolist()}")
    u, s, vt = np.linalg.svd((target - target_centre).T @ centred)
    sign = np.array([1.0, np.sign(np.linalg.det(u @ vt))])  # -1 where a reflection would fit better
    turn = (u * sign) @ vt
    scale = (s * sign).sum() / spread
    return np.column_stack([scale * turn, target_centre - scale * turn @ centre])


def align(image: np.ndarray, points: np.ndarray, size: int = 112) -> np.ndarray:
    """Return the (size, size, 3) crop of a picture (H, W, 3) with five points (5, 2).

    Bilinear, black outside of the picture, as insightface crops.

    Raises:
        InputError: as ``similarity``; if a point is outside by more than the picture's side.
    """
    points = np.asarray(points, np.float64)
    sides = np.array(image.shape[1::-1])
    if (points < -sides).any() or (points > 2 * sides).any():
        raise InputError(
            f"landmarks {points.tolist()} lie far outside of the {sides[0]} x {sides[1]} pixels"
        )
    matrix = similarity(points, size)
    return cv2.warpAffine(image, matrix, (size, size), borderValue=0.0)


def align_folder(
    source: Path | str, target: Path | str, landmarks: Path | str | Landmarks, *, size: int = 112
) -> tuple[list[str], int]:
    """Align the pictures of a folder into another, under their names.

    Pixels are taken as they are stored: an orientation in EXIF is ignored. Pictures are told by
    their ending or their content, and written in their own format. Text files and CSVs come along,
    so that a benchmark keeps its list of pairs; hidden files do not.

    Args:
        source: the folder, with folders in it or without.
        target: a new folder, written whole or not at all.
        landmarks: a CSV with the header ``path,x1,y1,...,x5,y5`` and paths relative to ``source``,
            or a detector such as ``FaceDetector(path).landmarks``.
        size: side of the crops in pixels, 16 to 1024.

    Returns:
        The pictures left out because they have no row or no face, sorted, and the number of files
        left out because they are no pictures of a known kind.

    Raises:
        InputError: if the CSV or a picture is broken, a row has no picture or points far outside of
            it, there is nothing to align, or the target exists or lies in the source.
    """
    source, target = Path(source), Path(target)
    if not _SMALLEST <= size <= _LARGEST:
        raise InputError(f"size {size}: expected {_SMALLEST} to {_LARGEST} pixels")
    if target.exists() or target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{target}: exists or lies in {source}; choose a new place")
    files = sorted(
        file
        for file in source.rglob("*")
        if not file.is_dir() and not is_hidden(str(file.relative_to(source)))
    )
    lists = [file for file in files if file.suffix.lower() in (".txt", ".csv") and file.is_file()]
    images = Images(source)
    pictures = [
        file
        for file in files
        if file not in lists and images.take(str(file.relative_to(source)), partial(start_of, file))
    ]
    images.report()
    if not pictures:
        raise InputError(f"{source}: no pictures there; expected JPEG, PNG, BMP, WebP or TIFF")
    points = None if callable(landmarks) else _read_landmarks(Path(landmarks), source)
    left_out = []
    with whole_folder(target) as temporary:
        for file in Progress(pictures, "align", unit="picture"):
            name = str(file.relative_to(source))
            with reading(file):
                data = regular(file).read_bytes()
            picture = decode(data, str(file))
            found = landmarks(picture) if callable(landmarks) else (points or {}).get(file)
            if found is None:
                left_out.append(name)
                continue
            try:
                crop = align(picture, found, size)
            except InputError as error:
                raise InputError(f"{file}: {error}; correct or remove its landmarks") from None
            _write(temporary / name, crop, kind(data))
        if len(left_out) == len(pictures):
            raise InputError(f"{source}: no picture has landmarks; do the CSV's paths start there?")
        for file in lists:
            copy = temporary / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return left_out, images.others


def _write(path: Path, crop: np.ndarray, form: str | None) -> None:
    """Write in the format of the name, else of the picture's kind; JPEG as ``images.encode``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lower()
    if ending not in _AS_NAMED:
        ending = _BY_KIND.get(form or "", ".png")
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if ending in (".jpg", ".jpeg") else []
    bgr = cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(ending, bgr, quality)[1].tobytes())


def _read_landmarks(path: Path, source: Path) -> dict[Path, np.ndarray]:
    points = {}
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        try:
            file = inside(source, row[0])
            points[file] = np.array([float(value) for value in row[1:]]).reshape(5, 2)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        except ValueError as error:
            raise InputError(f"{where}: {error}; expected a path and ten numbers") from None
        with reading(where):
            there = file.is_file()
        if not there:
            raise InputError(f"{where}: {file} is missing; put it there or remove the line")
    return points


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    with reading(path, "expected a CSV of landmarks"):
        rows = csv.reader(regular(path).read_text(encoding="utf-8-sig").splitlines())
        if next(rows, []) != _HEADER:
            raise InputError(f"{path}, line 1: expected the header {','.join(_HEADER)}")
        yield from ((rows.line_num, row) for row in rows if row)
