"""Some rows of a generated set, to the byte, without the others.

A sample's vector and masks depend on its number alone, but how the generator rounds depends on the
batch. So the whole batches are drawn in which ``generate`` would draw the samples asked for.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vec2face.config.attributes import AttrOP
from vec2face.config.params import Params
from vec2face.dataset.aims import Aims, aims_of
from vec2face.dataset.attrop import Result
from vec2face.dataset.generate import BLOCK, generate_images
from vec2face.dataset.perturbation import Perturbation
from vec2face.dataset.recipe import Recipe
from vec2face.faces.images import encode
from vec2face.faces.source import open_readable
from vec2face.generator.released import open_generator
from vec2face.identities.cosines import cosines
from vec2face.identities.nearest import Crowd, nearest


def open_aims(p: Params, attrop: AttrOP, quality: int) -> Aims:
    """Return what AttrOP aims at; faces are opened only where a percentile of theirs is asked for.

    Args:
        p: the parameters, for paths, estimators and counts.
        attrop: what is asked for.
        quality: of the JPEGs.

    Raises:
        InputError: as ``aims_of``; or there are no such faces.
    """
    faces: Any = None
    if any(isinstance(aim, str) for group in attrop.groups for aim in group.aims.values()):
        faces = open_readable(p.paths.pca_faces, corrupt=p.subset.corrupt)
    generator = open_generator(p.paths.generator)  # the form that has a gradient
    return aims_of(p, attrop, generator, faces, quality)


@dataclass(frozen=True)
class Row:
    """An image of a set.

    Attributes:
        sample: its number: image ``sample % images_per_identity`` of an identity.
        jpeg: the image as it is stored.
        vector: (D,) float32, what it was drawn from.
    """

    sample: int
    jpeg: bytes
    vector: np.ndarray


class Rows:
    """The rows of a set, as ``generate`` would make it.

    Args:
        recipe: how vectors are drawn.
        perturbation: how the images of an identity vary.
        identities: (n, D) float32 identity vectors.
        aims: which images AttrOP makes, and of what; None for none.

    Attributes:
        total: how many samples the set has.
        counts: what AttrOP has done so far, for ``Aims.summary``.

    Raises:
        InputError: if the mixture of sigma cannot keep the similarity asked for.
    """

    def __init__(
        self,
        recipe: Recipe,
        perturbation: Perturbation,
        identities: np.ndarray,
        aims: Aims | None = None,
    ) -> None:
        perturbation.check(identities)
        self._recipe, self._perturbation = recipe, perturbation
        self._identities, self._aims = identities, aims
        self._per_identity = perturbation.images_per_identity
        self.total = len(identities) * self._per_identity
        self.counts: Counter[str] = Counter()
        certain = aims is not None and aims.mode == "ours" and len(identities) > 1
        self._crowd = Crowd.of(identities) if certain else None

    def make(self, samples: Sequence[int] | np.ndarray) -> Iterator[Row]:
        """Yield the rows of samples, by rising number; those that AttrOP drops are left out."""
        wanted = np.unique(np.asarray(samples, np.int64))
        for first in np.unique(wanted // BLOCK) * BLOCK:
            made = self._block(np.arange(first, min(first + BLOCK, self.total)), wanted)
            yield from (made[int(sample)] for sample in wanted if int(sample) in made)

    def _block(self, block: np.ndarray, wanted: np.ndarray) -> dict[int, Row]:
        """Make those of a block's rows that are wanted, and what is drawn together with them."""
        aims, made = self._aims, dict[int, Row]()
        aimed = np.zeros(len(block), bool) if aims is None else aims.groups_of(block) >= 0
        if aims is not None:
            # The other modes move whole batches; only ours moves each sample by itself.
            mine = aimed & np.isin(block, wanted) if aims.mode == "ours" else aimed
            found = self._optimised(aims, block[mine]) if mine.any() else {}
            made = {n: Row(n, result.jpeg, result.vector) for n, result in found.items()}
            if aims.unconverged != "drop":
                for sample in np.setdiff1d(block[mine], list(found)):
                    made |= self._plain(np.array([sample]))
        plain, size = block[~aimed], self._recipe.batch
        for batch in (plain[start : start + size] for start in range(0, len(plain), size)):
            if np.isin(batch, wanted).any():
                made |= self._plain(batch)
        return made

    def _plain(self, samples: np.ndarray) -> dict[int, Row]:
        recipe = self._recipe
        vectors, _ = self._perturbation.vectors(self._identities, samples)
        drop, mask = self._masks(samples)
        images = generate_images(
            recipe.generator,
            vectors,
            lambda first, count: (drop[first : first + count], mask[first : first + count]),
            batch=recipe.batch,
            truncated=recipe.truncated,
        )
        return {
            int(sample): Row(int(sample), encode(image, recipe.quality), vector)
            for sample, image, vector in zip(samples, images, vectors, strict=True)
        }

    def _optimised(self, aims: Aims, samples: np.ndarray) -> dict[int, Result]:
        identities, start = self._identities, aims.starts(self._perturbation)

        def astray(vectors: np.ndarray, labels: np.ndarray) -> np.ndarray:
            if self._crowd is None:
                return np.zeros(len(vectors), bool)
            return nearest(vectors, self._crowd, labels)[0] >= cosines(vectors, identities[labels])

        found, counts = aims.make(
            samples,
            identities[samples // self._per_identity],
            self._masks(samples),
            lambda which, again: start.vectors(identities, which, again)[0],
            astray,
        )
        self.counts.update(counts)
        return found

    def _masks(self, samples: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        first = int(samples.min())
        chosen = torch.from_numpy(samples - first)
        drop, mask = self._recipe.masks(first, int(samples.max()) - first + 1)
        return drop[chosen], mask[chosen]
