"""How a run draws images from vectors: its generator, its masks and how pixels are stored.

Examples:
    recipe = Recipe.load("params.yaml")
    vectors = PCA.load("models/pca.npz").sample(seed=1, purpose="identity", first=0, count=8)
    images = recipe.images(vectors)  # of eight people who do not exist
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np

from vec2face.config.params import Params
from vec2face.dataset.generate import Masks, generate_images
from vec2face.generator.inference import arrange_for_inference
from vec2face.generator.masks import masks
from vec2face.generator.network import Vec2Face
from vec2face.generator.released import open_generator
from vec2face.runtime.processes import processes

# The authors' generation: images that share a mask ratio, and the default quality of imageio.
RELEASED_BATCH, RELEASED_QUALITY = 64, 75


@dataclass(frozen=True)
class Recipe:
    """What makes stored images of vectors.

    Attributes:
        generator: arranged for inference.
        masks: of each image, by its number.
        quality: of the JPEGs, 1 to 100.
        truncated: whether fractions of pixel values are cut off, not rounded.
        batch: images at a time.
    """

    generator: Vec2Face
    masks: Masks
    quality: int
    truncated: bool
    batch: int = 32

    @classmethod
    def of(cls, p: Params) -> Self:
        """Open the generator at ``paths.generator`` and return what the parameters ask for.

        Raises:
            InputError: as ``open_generator``.
        """
        s, ratios = p.sampling, p.sampling.masks.model_dump()
        generator = open_generator(p.paths.generator).to(processes().device)
        shared = RELEASED_BATCH if s.released or generator.config.released else 1
        return cls(
            arrange_for_inference(generator),
            partial(
                masks, p.sampling_seed, purpose="generation mask", ratio_shared_by=shared, **ratios
            ),
            RELEASED_QUALITY if s.released else s.jpeg_quality,
            s.released,
        )

    @classmethod
    def load(cls, params: Path | str = "params.yaml") -> Self:
        """Return the recipe of a parameter file.

        Raises:
            InputError: it or its generator is missing or not what it should be.
        """
        return cls.of(Params.load(params))

    def images(self, vectors: np.ndarray, first: int = 0) -> np.ndarray:
        """Draw vectors (N, D), features as the recognizer gives them: (N, S, S, 3) uint8, RGB.

        Image i has the masks of sample ``first + i``.
        """
        features = np.asarray(vectors, np.float32)
        return generate_images(
            self.generator, features, self.masks, first, self.batch, self.truncated
        )
