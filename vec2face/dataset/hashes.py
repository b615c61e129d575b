"""A set as a file of hashes, which says how to make its images again, and checks them.

    {"files": {"generator": "9f86d0...", ...}, "images": 6400, "parameters": {"seed": 0, ...}}
    2c26b46b68ffc68ff99b453c1d304134
    fcde2b2edba56bf408601fb721fe9b5c
    ...

The first line, JSON, has the SHA-256 of the files and the parameters that decide the images; each
further one is the first half of the SHA-256 of an image, as it is stored. A million images take
33 MB. The same set gives the same file.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vec2face.config.params import Params
from vec2face.dataset.origin import KEYS, Origin
from vec2face.faces.reading import reading
from vec2face.faces.source import Source
from vec2face.runtime.files import InputError, sha256, whole_file
from vec2face.runtime.progress import Progress

DIGITS = 32  # of each hash
_LONGEST = 2**20  # bytes of the first line


def hash_of(image: bytes) -> str:
    """Return the hash of an encoded image."""
    return hashlib.sha256(image).hexdigest()[:DIGITS]


def write_hashes(path: Path | str, images: Source, origin: Origin) -> None:
    """Write the hashes of a set, and what it is made from.

    Raises:
        InputError: the set has another number of images than follows from that.
    """
    if len(images) != origin.images:
        raise InputError(
            f"{images.name}: {len(images)} images, but identities x images_per_identity are "
            f"{origin.images}; give the set and the parameters of one run"
        )
    about = {
        "images": origin.images,
        "files": {role: sha256(file) for role, file in origin.inputs.items()},
        "parameters": origin.parameters,
    }
    with whole_file(path) as temporary, temporary.open("w") as file:
        file.write(json.dumps(about, sort_keys=True) + "\n")
        for row in Progress(range(len(images)), f"hashing {images.name}", unit="img"):
            file.write(hash_of(images.encoded(int(row))) + "\n")


class Hashes:
    """A file of hashes; only the lines asked for are read.

    Raises:
        InputError: it is no such file, or not whole.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        with reading(self.path, "give a file that `hashes` wrote"), self.path.open("rb") as file:
            first = file.readline(_LONGEST)
            about = json.loads(first)
            self.images = int(about["images"])
            self.files: dict[str, str] = dict(about["files"])
            self.parameters: dict[str, Any] = dict(about["parameters"])
            self._start = len(first)
            if not self.parameters.keys() <= {*KEYS, "estimators"}:
                raise ValueError("it states other parameters than an image has")
            size = os.fstat(file.fileno()).st_size
        if size != self._start + self.images * (DIGITS + 1):
            raise InputError(f"{self.path}: {size} bytes for {self.images} images; copy it again")

    def origin(self, p: Params, identities: Path, pca: Path) -> Origin:
        """Return what the set is made from; only where its files lie is taken from ``p``.

        Raises:
            InputError: a parameter of the file is none, or a file is not the one of the set.
        """
        own = p.model_dump(mode="json") | self.parameters
        for name, description in self.parameters.get("estimators", {}).items():
            place = p.estimators.get(name)
            if place is None:
                raise InputError(f"estimators.{name}: missing; name its file, as {self.path} asks")
            own["estimators"][name] = {**description, "file": place.file}
        with reading(self.path, "it is of another version"):
            params = Params.model_validate(own)
        origin = Origin(params, identities, pca)
        for role, file in origin.inputs.items():
            if sha256(file) != self.files.get(role):
                raise InputError(f"{file}: is not the {role} that {self.path} was made with")
        if origin.images != self.images:
            raise InputError(
                f"{self.path}: {self.images} images, but its files make {origin.images}"
            )
        return origin

    def __getitem__(self, number: int) -> str:
        """Return the hash of an image."""
        with self.path.open("rb") as file:
            file.seek(self._start + number * (DIGITS + 1))
            return file.read(DIGITS).decode("ascii", "replace")

    def make(self, origin: Origin, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Make images again and compare them; yield number and JPEG, in ascending order.

        Raises:
            InputError: an image came out otherwise.
        """
        for number, jpeg in origin.make(numbers):
            if hash_of(jpeg) != self[number]:
                raise InputError(
                    f"{self.path}, image {number}: came out otherwise; it was made on another "
                    "kind of processor, or with another number of threads"
                )
            yield number, jpeg
