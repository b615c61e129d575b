"""What commands open: the run of a parameter file, and faces of any form or single pictures."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vec2face.config.params import Params
from vec2face.faces.convert import Merged
from vec2face.faces.headers import START, is_read
from vec2face.faces.source import Source, load_images
from vec2face.faces.webdataset import open_faces
from vec2face.recognizers.features import BLOCK, NotFiniteError, Recognizer, extract_rows
from vec2face.runtime.blocks import cut
from vec2face.runtime.files import InputError
from vec2face.runtime.progress import Progress


def open_run(given: argparse.Namespace) -> Params:
    """Return the parameters, with the paths and the seed of sampling that were given instead."""
    p = Params.load(given.params)
    asked = {name: getattr(given, name, None) for name in ("generator", "recognizer")}
    paths = p.paths.model_copy(update={name: path for name, path in asked.items() if path})
    seed = getattr(given, "seed", None)
    sampling = p.sampling.model_copy(update={"seed": p.sampling.seed if seed is None else seed})
    return p.model_copy(update={"paths": paths, "sampling": sampling})


def open_given(paths: list[str]) -> Source:
    """Open faces: a source of any form or a picture, or several, whose people are all different.

    Raises:
        InputError: as ``open_faces``.
    """
    sources = [
        _Picture(Path(path)) if _is_picture(Path(path)) else open_faces(path) for path in paths
    ]
    return sources[0] if len(sources) == 1 else Merged(sources)


def _is_picture(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return is_read(file.read(START))


class _Picture:
    """A file that holds one face, as a source."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.labels = np.zeros(1, np.int64)
        self._path = path

    def __len__(self) -> int:
        return 1

    def encoded(self, i: int) -> bytes:
        del i
        return self._path.read_bytes()

    def feature(self, i: int) -> None:
        del i

    def where(self, i: int) -> str:
        del i
        return str(self._path)


def feature_blocks(
    recognizer: Recognizer, source: Source, *, flip: bool = False
) -> Iterator[np.ndarray]:
    """Yield the features of all images, (n, D) float32 a block, as the pipeline extracts them.

    Args:
        recognizer: what looks at them.
        source: the faces.
        flip: add those of the mirror images.

    Raises:
        InputError: as ``extract_rows``.
    """
    for rows in Progress(cut(0, len(source), BLOCK), f"features of {source.name}", unit="block"):
        if not flip:
            yield extract_rows(recognizer, source, rows)
            continue
        images = load_images(source, recognizer.input_size, rows)
        mirrored = np.ascontiguousarray(images[:, :, ::-1])
        try:
            yield recognizer.features(images) + recognizer.features(mirrored)
        except NotFiniteError as error:
            raise InputError(error.of(source.where(rows[error.row]))) from error


def features_of(recognizer: Recognizer, source: Source) -> np.ndarray:
    """Return the features of all images, (N, D) float32."""
    return np.concatenate(list(feature_blocks(recognizer, source)))
