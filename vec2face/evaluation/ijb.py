"""IJB-B and IJB-C, 1:1 verification of templates (Whitelam et al., 2017; Maze et al., 2018).

A template is a set of pictures and video frames of one person. Its feature is the sum over its
media of the mean feature of each medium, L2-normalised; two templates are compared by cosine. The
files are those that insightface hands out, in a folder with

    loose_crop/*.jpg                       a face with its surroundings
    meta/ijbb_name_5pts_score.txt          name, x1 y1 ... x5 y5, the detector's score
    meta/ijbb_face_tid_mid.txt             name, template, medium; the same names
    meta/ijbb_template_pair_label.txt      template, template, 1 for one person

(``ijbc_`` for IJB-C). Features and options are those of insightface's evaluation: a picture's
feature is the sum of its own and its mirror image's (without ``flip`` its own), weighted by the
detector's score.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vec2face.evaluation.verification import tar_at_far, tar_nearest_far
from vec2face.faces.align import align
from vec2face.faces.images import decode
from vec2face.faces.reading import reading
from vec2face.runtime.files import InputError
from vec2face.runtime.progress import Progress

RATES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""False accept rates of the protocol's table."""

Embed = Callable[[np.ndarray], np.ndarray]
"""From uint8 (B, S, S, 3), RGB, to (B, D), not normalised."""


@dataclass(frozen=True)
class Ijb:
    """The protocol's lists: N pictures, P pairs of templates.

    Attributes:
        name: ``"ijbb"`` or ``"ijbc"``.
        pictures: N paths.
        points: (N, 5, 2), where the face is in each.
        scores: (N,), how sure the detector was.
        templates: (N,) int64.
        media: (N,) int64.
        pairs: (P, 2) int64, templates.
        same: (P,) bool.
    """

    name: str
    pictures: list[Path]
    points: np.ndarray
    scores: np.ndarray
    templates: np.ndarray
    media: np.ndarray
    pairs: np.ndarray
    same: np.ndarray


def is_ijb(path: Path | str) -> bool:
    """Return whether a folder has the lists of IJB."""
    return any(Path(path).glob("meta/ijb?_face_tid_mid.txt"))


def read_ijb(path: Path | str) -> Ijb:
    """Read the lists of IJB-B or IJB-C.

    Raises:
        InputError: if a list or a picture is missing, a line has another form, the lists' names
            differ, or a pair names a template without pictures.
    """
    path = Path(path)
    found = sorted(path.glob("meta/ijb?_face_tid_mid.txt"))
    if len(found) != 1:
        raise InputError(
            f"{path}: {len(found)} lists meta/ijb?_face_tid_mid.txt; expected one, and a folder "
            "loose_crop beside meta"
        )
    name = found[0].name[:4]
    belongs = _table(found[0], [str, np.int64, np.int64])
    marks_file = path / f"meta/{name}_name_5pts_score.txt"
    marks = _table(marks_file, [str] + [np.float64] * 11)
    if not belongs[0].equals(marks[0]):
        raise InputError(
            f"{marks_file}: other names than {found[0].name}; take both of one release"
        )
    pairs_file = path / f"meta/{name}_template_pair_label.txt"
    pairs = _table(pairs_file, [np.int64] * 3).to_numpy()
    lost = ~np.isin(pairs[:, :2], belongs[1]).all(1)
    if lost.any() or not np.isin(pairs[:, 2], (0, 1)).all():
        line = int(np.flatnonzero(lost | ~np.isin(pairs[:, 2], (0, 1)))[0]) + 1
        raise InputError(
            f"{pairs_file}, line {line}: expected two templates of {found[0].name} and 0 or 1"
        )
    pictures = [path / "loose_crop" / Path(str(picture)).name for picture in belongs[0]]
    missing = [picture for picture in pictures if not picture.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: missing ({len(missing)} pictures are); put them there")
    return Ijb(
        name,
        pictures,
        marks.iloc[:, 1:11].to_numpy().reshape(-1, 5, 2),
        marks[11].to_numpy(),
        belongs[1].to_numpy(),
        belongs[2].to_numpy(),
        pairs[:, :2],
        pairs[:, 2] == 1,
    )


def _table(path: Path, kinds: list[type]) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path}: missing; IJB's lists belong in its folder meta")
    with reading(path, f"expected {len(kinds)} values a line"):
        table = pd.read_csv(
            path, sep=r"\s+", header=None, dtype=dict(enumerate(kinds)), na_filter=False
        )
    if table.shape[1] != len(kinds):
        raise InputError(f"{path}: {table.shape[1]} values a line; expected {len(kinds)} values")
    return table


def picture_features(ijb: Ijb, embed: Embed, *, block: int = 256, flip: bool = True) -> np.ndarray:
    """Return the features (N, D) of the aligned pictures, with ``flip`` plus their mirror images'.

    Raises:
        InputError: naming a picture that is broken.
    """
    parts = []
    for first in Progress(range(0, len(ijb.pictures), block), ijb.name, unit="block"):
        rows = range(first, min(first + block, len(ijb.pictures)))
        crops = np.stack([_crop(ijb.pictures[row], ijb.points[row]) for row in rows])
        parts.append(embed(crops))
        if flip:
            parts[-1] = parts[-1] + embed(np.ascontiguousarray(crops[:, :, ::-1]))
    return np.concatenate(parts)


def _crop(picture: Path, points: np.ndarray) -> np.ndarray:
    try:
        return align(decode(picture.read_bytes(), str(picture)), points)
    except InputError as error:
        raise InputError(f"{picture}: {error}") from None


def pool(
    features: np.ndarray, templates: np.ndarray, media: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pool pictures to templates: the sum over media of their means, L2-normalised.

    Args:
        features: (N, D), weighted already.
        templates: (N,).
        media: (N,); numbers need not be unique across templates.

    Returns:
        The templates (T,), rising, and their features (T, D).
    """
    order = np.lexsort((media, templates))
    template, medium = templates[order], media[order]
    new_template = np.append(True, template[1:] != template[:-1])
    starts = np.flatnonzero(new_template | np.append(True, medium[1:] != medium[:-1]))
    counts = np.diff(np.append(starts, len(order)))
    means = np.add.reduceat(features[order], starts) / counts[:, None]
    sums = np.add.reduceat(means, np.flatnonzero(new_template[starts]))
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return template[new_template], sums / np.where(norms == 0, 1, norms)


def pair_cosines(
    names: np.ndarray, features: np.ndarray, pairs: np.ndarray, *, block: int = 100_000
) -> np.ndarray:
    """Return the cosine (P,) float32 of pairs (P, 2) of templates, a block of pairs at a time.

    Args:
        names: (T,) templates, rising.
        features: (T, D), L2-normalised.
        pairs: each template in ``names``.
        block: pairs; memory grows with it.
    """
    found = np.empty(len(pairs), np.float32)
    for first in range(0, len(pairs), block):
        rows = np.searchsorted(names, pairs[first : first + block])
        found[first : first + block] = np.einsum(
            "pd,pd->p", features[rows[:, 0]], features[rows[:, 1]]
        )
    return found


def evaluate_ijb(
    ijb: Ijb,
    embed: Embed,
    *,
    use_detector_score: bool = True,
    use_norm_score: bool = True,
    nearest: bool = False,
    flip: bool = True,
    rates: Iterable[float] = RATES,
) -> dict[float, float]:
    """Return the true accept rate at each false accept rate.

    A rate is the highest that keeps the false accepts at or below it.

    Args:
        ijb: the protocol.
        embed: the recognizer.
        use_detector_score: weigh pictures by how sure the detector was.
        use_norm_score: weigh them by their features' norm, too, instead of equally.
        nearest: take the corner of the curve that is nearest to a rate, above or below it, as
            insightface does (``tar_nearest_far``).
        flip: whether mirror images' features are added.
        rates: false accept rates.

    Raises:
        InputError: naming a picture that is broken.
    """
    features = picture_features(ijb, embed, flip=flip)
    if not use_norm_score:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    if use_detector_score:
        features = features * ijb.scores[:, None].astype(features.dtype)
    similarity = pair_cosines(*pool(features, ijb.templates, ijb.media), ijb.pairs)
    rates = list(rates)
    read = tar_nearest_far if nearest else tar_at_far
    return dict(zip(rates, read(-similarity, ijb.same, rates).tolist(), strict=True))
