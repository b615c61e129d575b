"""What a generated set is made from: any of its images again, by its number, to the byte.

An image depends on the generator, the identity vectors, the PCA's scale and shape, the parameters
below and its number; with AttrOP also on the networks that look at it. So a set can be kept or sent
as these files and a hash for every image (``hashes``). On the kind of processor, and with as many
threads, as the set was made with, bytes are equal; others round differently.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vec2face.config.attributes import AttrOP
from vec2face.config.params import Params
from vec2face.dataset.aims import Aims, asked_of
from vec2face.dataset.perturbation import Perturbation
from vec2face.dataset.recipe import Recipe
from vec2face.dataset.rows import Rows, open_aims
from vec2face.faces.reading import read_array
from vec2face.identities.pca import PCA
from vec2face.runtime.files import InputError

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
        recipe = Recipe.of(p)
        people = read_array(identities)
        if people.ndim != 2 or people.shape[1] != recipe.generator.dimension:
            raise InputError(
                f"{identities}: {people.shape}; {file} takes {recipe.generator.dimension} numbers"
            )
        self.images_per_identity = p.images_per_identity
        self.image_size, self.seed = int(recipe.generator.image_size), p.sampling_seed
        self.parameters: dict[str, Any] = p.model_dump(mode="json", include={*KEYS})
        aims: Aims | None = None
        if p.attrop is not None:
            attrop = _unjudged(p.attrop)
            asked = {name: p.estimators[name] for name in sorted(asked_of(attrop))}
            self.inputs["recognizer"] = Path(p.paths.recognizer)
            self.inputs |= {f"estimators.{name}": Path(e.file) for name, e in asked.items()}
            self.parameters["estimators"] = {
                name: e.model_dump(mode="json", exclude={"file"}) for name, e in asked.items()
            }
            aims = self._attributes(p, attrop, recipe.quality)
        self._rows = Rows(recipe, Perturbation.of(p, PCA.load(pca)), people, aims)
        self.images = self._rows.total

    def _attributes(self, p: Params, attrop: AttrOP, quality: int) -> Aims:
        """Return what AttrOP aims at; note it as numbers, which ask no faces for percentiles."""
        aims = open_aims(p, attrop, quality)
        groups = [{"share": group.share, "aims": dict(group.aims)} for group in aims.groups]
        self.parameters["attrop"] = attrop.model_dump(mode="json") | {"groups": groups}
        return aims

    def make(self, samples: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield number and JPEG of images, in ascending order.

        Args:
            samples: numbers below ``images``.

        Raises:
            InputError: there is no such image.
        """
        wanted = np.unique(np.asarray(samples, np.int64))
        if len(wanted) and not (wanted[0] >= 0 and wanted[-1] < self.images):
            off = wanted[0] if wanted[0] < 0 else wanted[-1]
            raise InputError(f"image {off}: the set has numbers 0 to {self.images - 1}")
        for row in self._rows.make(wanted):
            yield row.sample, row.jpeg


def _unjudged(attrop: AttrOP) -> AttrOP:
    """Return what is asked of AttrOP without judges, who only look at the images."""
    attributes = {
        name: aim.model_copy(update={"judge": None}) for name, aim in attrop.attributes.items()
    }
    return attrop.model_copy(update={"attributes": attributes})
