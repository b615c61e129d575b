"""Faces from any form into another, row by row: records, LMDB, folders, FaceStores, WebDatasets.

    convert(open_source("data/generated"), "out/train.rec")
    merge([open_source("data/subset"), open_source("data/generated")], "both.lmdb")

Labels are renumbered 0..n-1 over the whole set, in the order of the old ones, as trainers of the
field expect; equal input gives equal content. The result appears under its name only when complete.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from vec2face.faces.database import DatabaseWriter
from vec2face.faces.images import decode
from vec2face.faces.record_writer import RecordWriter
from vec2face.faces.source import Corrupt, Source, readable
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.faces.webdataset import SHARD, ShardWriter, digits, ending
from vec2face.runtime.files import (
    InputError,
    check_writable,
    whole_file,
    whole_folder,
    write_json,
)
from vec2face.runtime.progress import Progress

Form = Literal["rec", "lmdb", "folder", "store", "webdataset"]
FORMS: tuple[Form, ...] = get_args(Form)
_LARGEST_RECORD_FILE = 2**24  # its header counts in float32


Append = Callable[[bytes, int, np.ndarray | None], None]
"""Adds one encoded image with its label, and its feature if the source has them."""


def form_of(destination: Path | str) -> Form:
    """Return the form that a name asks for: ``.rec``, ``.lmdb``, or else a folder of images."""
    forms: dict[str, Form] = {".rec": "rec", ".lmdb": "lmdb"}
    return forms.get(Path(destination).suffix, "folder")


def convert(
    source: Source,
    destination: Path | str,
    *,
    form: Form | None = None,
    corrupt: Corrupt = "stop",
    features: np.ndarray | None = None,
    made_by: str = "convert",
    shard: int = SHARD,
) -> list[str]:
    """Write a source in another form, images byte by byte.

    Every image is decoded once first, so that what is written can be read. Features go along into
    an LMDB and a FaceStore; the others hold none.

    Args:
        source: the faces.
        destination: where to; must not exist. A ``.rec`` gets its ``.idx`` and insightface's
            ``property`` (``identities,height,width``) beside it.
        form: see ``form_of`` for the default.
        corrupt: stop at an unreadable entry, or leave it out. What was left out is counted in a
            FaceStore's manifest, or in ``<destination>.skipped.json``.
        features: (rows of the source, D), in place of the source's own.
        made_by: the program, for a FaceStore's manifest.
        shard: images in each ``.tar`` of a WebDataset, 1 or more.

    Returns:
        Messages that name what was left out.

    Raises:
        InputError: if something is in the way, an entry cannot be read, only some rows have
            features or one is not finite, or the form cannot hold so much.
    """
    destination = Path(destination)
    form = form or form_of(destination)
    _free(destination, form)
    if features is not None and form in ("rec", "folder", "webdataset"):
        raise InputError(
            f"{destination}: such a file holds no features; write .lmdb or a FaceStore"
        )
    if features is not None and (features.ndim != 2 or len(features) != len(source)):
        raise InputError(
            f"features {features.shape} for the {len(source)} images; one row an image"
        )
    rows, skipped = readable(source, corrupt=corrupt)
    if form == "rec" and len(rows) > _LARGEST_RECORD_FILE:
        raise InputError(
            f"{destination}: a .rec counts up to {_LARGEST_RECORD_FILE} images, not {len(rows)}; "
            "write an LMDB or a FaceStore"
        )
    people, labels = np.unique(source.labels[rows], return_inverse=True)
    first = int(rows[0])
    shape = decode(source.encoded(first), source.where(first)).shape
    give = _feature_of(source, features, needed=form in ("lmdb", "store"))
    with contextlib.ExitStack() as stack:
        append: Append
        if form == "store":
            store = FaceStoreWriter(
                destination, image_size=shape[0], seed=0, made_by=made_by, skipped=skipped
            )
            append = stack.enter_context(store).append
        elif form == "rec":
            about = f"{len(people)},{shape[0]},{shape[1]}\n"
            append = stack.enter_context(_records(destination, about))
        elif form == "lmdb":
            file = stack.enter_context(whole_file(destination))
            append = stack.enter_context(DatabaseWriter(file)).append
        elif form == "webdataset":
            aside = stack.enter_context(whole_folder(destination))
            shards = ShardWriter(aside, images=len(rows), people=len(people), shard=shard)
            append = stack.enter_context(shards).append
        else:
            append = stack.enter_context(_folders(destination, len(people), len(rows)))
        progress = Progress(rows, f"to {destination.name}", unit="img")
        for row, label in zip(map(int, progress), map(int, labels), strict=True):
            append(source.encoded(row), label, give(row))
    if skipped and form != "store":
        report = {"count": len(skipped), "entries": skipped[:1000]}
        write_json(destination.with_name(f"{destination.name}.skipped.json"), report)
    return skipped


def merge(
    sources: Sequence[Source],
    destination: Path | str,
    *,
    form: Form | None = None,
    corrupt: Corrupt = "stop",
    made_by: str = "merge",
    shard: int = SHARD,
) -> list[str]:
    """Write several sources as one, one after the other; no two share an identity.

    Arguments, result and errors are those of ``convert``. Features go along if all have them.
    """
    merged = Merged(sources)
    return convert(merged, destination, form=form, corrupt=corrupt, made_by=made_by, shard=shard)


class Merged:
    """Sources one after the other, as a source; the labels of each follow those of the one before.

    Raises:
        InputError: if one of them is empty.
    """

    def __init__(self, sources: Sequence[Source]):
        self.name = "+".join(source.name for source in sources)
        for source in sources:
            if not len(source):
                raise InputError(f"{source.name}: no images to merge")
        self._sources = list(sources)
        self._ends = np.cumsum([len(source) for source in sources])
        self._features = all(source.feature(0) is not None for source in sources)
        self.skipped = [name for x in sources for name in getattr(x, "skipped", ())]
        labels, used = [], 0
        for source in sources:
            people, own = np.unique(source.labels, return_inverse=True)
            labels.append(own + used)
            used += len(people)
        self.labels: np.ndarray = np.concatenate(labels)

    def __len__(self) -> int:
        return len(self.labels)

    def _locate(self, i: int) -> tuple[Source, int]:
        s = int(np.searchsorted(self._ends, i, side="right"))
        return self._sources[s], i - (int(self._ends[s - 1]) if s else 0)

    def encoded(self, i: int) -> bytes:
        """Return row i's image as it is stored."""
        source, row = self._locate(i)
        return source.encoded(row)

    def feature(self, i: int) -> np.ndarray | None:
        """Return row i's feature, or None unless all sources have features."""
        source, row = self._locate(i)
        return source.feature(row) if self._features else None

    def where(self, i: int) -> str:
        """Name row i for an error message."""
        source, row = self._locate(i)
        return source.where(row)


def _free(destination: Path, form: Form) -> None:
    """Refuse a destination where something is already, or nothing can be made."""
    files = [destination]
    if form == "rec":
        files += [destination.with_suffix(".idx"), destination.with_name("property")]
        if destination.suffix != ".rec":
            raise InputError(f"{destination}: a record file's name ends in .rec")
    elif form == "lmdb" and destination.suffix == ".rec":
        raise InputError(f"{destination}: an LMDB of this name would be read as a record file")
    for file in files:
        if file.exists():
            raise InputError(f"{file}: exists already; remove it or choose another name or folder")
    check_writable(destination.parent)


def _feature_of(
    source: Source, features: np.ndarray | None, *, needed: bool
) -> Callable[[int], np.ndarray | None]:
    """Return what gives a row's feature: those given, the source's own (all alike), or none."""

    def finite(feature: np.ndarray, where: str) -> np.ndarray:
        with np.errstate(over="ignore"):
            feature = np.asarray(feature, np.float32)
        if not np.isfinite(feature).all():
            raise InputError(f"{where}: its feature is not finite; make the features again")
        return feature

    if features is not None and needed:
        named = getattr(features, "filename", "features")  # read_array's has one
        return lambda row: finite(features[row], f"{named}, row {row}")
    if not needed or (first := source.feature(0)) is None:
        return lambda row: None

    def own(row: int) -> np.ndarray:
        feature = source.feature(row)
        if feature is None or feature.shape != first.shape:
            raise InputError(
                f"{source.where(row)}: its feature is not as long as the first entry's"
            )
        return finite(feature, source.where(row))

    return own


@contextlib.contextmanager
def _records(destination: Path, about: str) -> Iterator[Append]:
    """Write a ``.rec`` aside, then give it, its index and its ``property`` their names."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=".partial-") as aside:
        folder = Path(aside)
        with RecordWriter(folder / destination.name) as writer:
            yield lambda data, label, feature: writer.append(data, label)
        (folder / "property").write_text(about)
        # The .rec comes last: an index without it is no record file.
        for name in ("property", destination.with_suffix(".idx").name, destination.name):
            (folder / name).replace(destination.with_name(name))


@contextlib.contextmanager
def _folders(destination: Path, people: int, images: int) -> Iterator[Append]:
    """Write ``identity/image.jpg``; names are numbers of equal length, so they sort as rows do."""
    wide, long = digits(people, images)
    made: set[int] = set()
    written = 0
    with whole_folder(destination) as folder:

        def append(data: bytes, label: int, feature: np.ndarray | None) -> None:
            nonlocal written
            identity = folder / f"{label:0{wide}d}"
            if label not in made:
                identity.mkdir()
                made.add(label)
            (identity / f"{written:0{long}d}.{ending(data)}").write_bytes(data)
            written += 1

        yield append
