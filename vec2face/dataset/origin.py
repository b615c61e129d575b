"""What a generated set is made from: any of its images again, by its number, to the byte.

An image depends on the generator, the identity vectors, the PCA's scale and shape, the parameters
below and its number; with AttrOP also on the networks that look at it. So a set can be kept or sent
as these files and a hash for every image (``hashes``). On the kind of processor, and with as many
threads, as the set was made with, bytes are equal; others round differently.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vec2face.config.attributes import AttrOP
from vec2face.config.params import Params
from vec2face.dataset.aims import Aims, aims_of, asked_of
from vec2face.dataset.generate import BLOCK, Masks, generate_images
from vec2face.dataset.perturbation import Perturbation
from vec2face.faces.images import encode
from vec2face.faces.reading import read_array
from vec2face.faces.source import open_readable
from vec2face.generator.inference import arrange_for_inference
from vec2face.generator.masks import masks
from vec2face.generator.released import open_generator
from vec2face.identities.cosines import cosines
from vec2face.identities.nearest import Crowd, nearest
from vec2face.identities.pca import PCA
from vec2face.runtime.blocks import cut
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import processes

BATCH = 32  # images that the generator makes together, as in ``generate``
RELEASED_BATCH, RELEASED_QUALITY = 64, 75  # as in stages/dataset.py
KEYS = (
    *("seed", "images_per_identity", "perturbation", "sigma", "sigma_share", "sigma_is"),
    *("sigma_unit", "max_angle", "min_similarity", "sampling", "attrop"),
)
"""The parameters that decide an image, beside files and the estimators' descriptions."""


class Origin:
    """What the images of a set are made from.

    Args:
        p: the parameters; of its paths, those of the generator and, for AttrOP, of the recognizer,
            the estimators and, where a percentile is aimed at, the faces for the PCA.
        identities: the identity vectors' ``.npy``.
        pca: the PCA's ``.npz``.

    Attributes:
        images: in the set.
        images_per_identity: of these; image s shows identity s // images_per_identity.
        image_size: their side in pixels.
        seed: of the perturbations and masks.
        inputs: the files that decide them, by their role.

    Raises:
        InputError: a file is missing or does not fit, or AttrOP drops images, so that the rows of a
            store are not the numbers of its images.
    """

    def __init__(self, p: Params, identities: Path, pca: Path):
        if p.attrop is not None and p.attrop.unconverged == "drop":
            raise InputError(
                "attrop.unconverged: drop leaves images out, so a row does not say which image it "
                "is; such a set is kept as images"
            )
        file = Path(p.paths.generator)
        self.inputs = {"generator": file, "identities": identities, "pca": pca}
        generator = open_generator(file).to(processes().device)
        self._people = read_array(identities)
        if self._people.ndim != 2 or self._people.shape[1] != generator.dimension:
            raise InputError(
                f"{identities}: {self._people.shape}; {file} takes {generator.dimension} numbers"
            )
        self.images_per_identity = p.images_per_identity
        self.images = len(self._people) * p.images_per_identity
        self.image_size, self.seed = int(generator.image_size), p.sampling_seed
        self._perturbation = Perturbation.of(p, PCA.load(pca))
        self._released = p.sampling.released
        self._quality = RELEASED_QUALITY if self._released else p.sampling.jpeg_quality
        self._masks: Masks = partial(
            masks,
            p.sampling_seed,
            purpose="generation mask",
            ratio_shared_by=RELEASED_BATCH if self._released or generator.config.released else 1,
            **p.sampling.masks.model_dump(),
        )
        self.parameters: dict[str, Any] = p.model_dump(mode="json", include={*KEYS})
        self._aims: Aims | None = None
        if p.attrop is not None:
            attrop = _unjudged(p.attrop)
            asked = {name: p.estimators[name] for name in sorted(asked_of(attrop))}
            self.inputs["recognizer"] = Path(p.paths.recognizer)
            self.inputs |= {f"estimators.{name}": Path(e.file) for name, e in asked.items()}
            self.parameters["estimators"] = {
                name: e.model_dump(mode="json", exclude={"file"}) for name, e in asked.items()
            }
            self._aims = self._attributes(p, attrop)
        self._generator = arrange_for_inference(generator)

    def _attributes(self, p: Params, attrop: AttrOP) -> Aims:
        """Return what AttrOP aims at; note it as numbers, which ask no faces for percentiles."""
        faces: Any = None
        if any(isinstance(aim, str) for group in attrop.groups for aim in group.aims.values()):
            faces = open_readable(Path(p.paths.pca_faces), corrupt=p.subset.corrupt)
        generator = open_generator(self.inputs["generator"])  # the form that has a gradient
        aims = aims_of(p, attrop, generator, faces, self._quality)
        groups = [{"share": group.share, "aims": dict(group.aims)} for group in aims.groups]
        self.parameters["attrop"] = attrop.model_dump(mode="json") | {"groups": groups}
        return aims

    def make(self, samples: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield number and JPEG of images, in ascending order.

        Batches of the generator are those of the set: its rows of a block that AttrOP does not
        make, ``BATCH`` at a time, of which only those with a wanted image are computed.

        Args:
            samples: numbers below ``images``.

        Raises:
            InputError: there is no such image.
        """
        wanted = np.unique(np.asarray(samples, np.int64))
        if len(wanted) and not (wanted[0] >= 0 and wanted[-1] < self.images):
            off = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise InputError(f"image {off}: the set has numbers 0 to {self.images - 1}")
        for first in np.unique(wanted // BLOCK) * BLOCK:
            block = range(int(first), min(int(first) + BLOCK, self.images))
            yield from sorted(self._block(block, wanted[np.isin(wanted, block)]).items())

    def _block(self, block: range, wanted: np.ndarray) -> dict[int, bytes]:
        samples = np.asarray(block)
        aimed = np.zeros(len(block), bool)
        if self._aims is not None:
            aimed = self._aims.groups_of(samples) >= 0
        plain = samples[~aimed]
        batches = [plain[part.start : part.stop] for part in cut(0, len(plain), BATCH)]
        made: dict[int, bytes] = {}
        if self._aims is not None:
            made, given_up = self._aimed(self._aims, samples[aimed], wanted)
            batches += [np.array([sample]) for sample in given_up]  # one by one, as in ``generate``
        for batch in batches:
            if np.isin(batch, wanted).any():
                made |= zip(batch.tolist(), self._plain(batch), strict=True)
        return {sample: jpeg for sample, jpeg in made.items() if sample in wanted}

    def _plain(self, samples: np.ndarray) -> list[bytes]:
        """Return images that are drawn from a perturbed vector as it is, in one batch."""
        vectors, _ = self._perturbation.vectors(self._people, samples)
        covered = self._masks_of(samples)
        images = generate_images(
            self._generator, vectors, lambda *_: covered, 0, BATCH, self._released
        )
        return [encode(image, self._quality) for image in images]

    def _aimed(
        self, aims: Aims, samples: np.ndarray, wanted: np.ndarray
    ) -> tuple[dict[int, bytes], list[int]]:
        """Return what AttrOP makes of the wanted ones of a block's samples, and what it gives up.

        Ours optimises each by itself; the other ways take batches of all.
        """
        some = samples[np.isin(samples, wanted)] if aims.mode == "ours" else samples
        if not len(np.intersect1d(some, wanted)):
            return {}, []
        start = aims.starts(self._perturbation)
        results, _ = aims.make(
            some,
            self._people[some // self.images_per_identity],
            self._masks_of(some),
            lambda which, again: start.vectors(self._people, which, again)[0],
            self._astray(aims),
        )
        made = {number: result.jpeg for number, result in results.items()}
        return made, [int(sample) for sample in some if int(sample) not in made]

    def _masks_of(self, samples: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        drop, mask = zip(*(self._masks(int(sample), 1) for sample in samples), strict=True)
        return torch.cat(drop), torch.cat(mask)

    def _astray(self, aims: Aims) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Return what tells vectors that came nearer to another identity, as in ``generate``."""
        if aims.mode != "ours" or len(self._people) < 2:
            return lambda vectors, labels: np.zeros(len(vectors), bool)
        crowd = Crowd.of(self._people)
        return lambda vectors, labels: (
            nearest(vectors, crowd, labels)[0] >= cosines(vectors, self._people[labels])
        )


def _unjudged(attrop: AttrOP) -> AttrOP:
    """Return what is asked of AttrOP without judges, who only look at the images."""
    attributes = {
        name: aim.model_copy(update={"judge": None}) for name, aim in attrop.attributes.items()
    }
    return attrop.model_copy(update={"attributes": attributes})
