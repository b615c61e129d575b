"""``params.yaml`` as a whole: what an experiment may change, read and checked.

Hardware (devices, workers, threads) is not here: it comes from the environment.
"""

import os.path
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from vec2face.config import conflicts
from vec2face.config.attributes import AttrOP, EstimatorConfig
from vec2face.config.bounds import Count, Name, Place, Positive, Seed, Several, Share, number
from vec2face.config.document import read_yaml
from vec2face.config.sections import (
    Certificates,
    Evaluation,
    GeneratorConfig,
    MaskedSet,
    Paths,
    RecognizerConfig,
    Rendered,
    Sampling,
    Section,
    Subset,
    Training,
)
from vec2face.runtime.files import InputError

OWN_SETS = ("generated", "real")
"""The training sets of every run (``evaluation.roles`` says what their recognizers are)."""

RESERVED = ("untrained", "estimator", "second")
"""Recognizers of every run that no training set may be named after."""


class Params(Section):
    """The whole file."""

    seed: Seed
    world: Literal["rendered", "photos", "paper"]
    image_size: Count
    paths: Paths
    subset: Subset
    generator: GeneratorConfig
    training: Training
    tau: Annotated[float, Field(gt=-1, le=1), BeforeValidator(number)]
    identities: Several
    images_per_identity: Count
    # gaussian: noise equal in all directions, as in the paper. within: of the shape in which
    # images of one person vary among paths.pca_faces, at the same mean variance. angular: vectors
    # turned by up to max_angle, without noise.
    perturbation: Literal["gaussian", "within", "angular"]
    sigma: list[Positive]
    sigma_share: list[Share]
    # What sigma says of the noise of a dimension (equation 4). The paper calls it the variance, and
    # the smallest cosines of its Table 5 agree; the released code takes it as standard deviation.
    sigma_is: Literal["std", "variance"]
    # Of the noise in units of the features' standard deviation, or as it is (paper, released).
    sigma_unit: Literal["features", "absolute"]
    # Degrees. A hundredth still is far more than float32 vectors are rounded by.
    max_angle: Annotated[float, Field(ge=0.01, le=180), BeforeValidator(number)]
    min_similarity: Annotated[float, Field(ge=-1, lt=1), BeforeValidator(number)]
    # Sets of real people; identity vectors keep away from the mean feature of each of them.
    away_from: list[Place]
    away_cosine: Annotated[float, Field(gt=-1, le=1), BeforeValidator(number)]
    sampling: Sampling
    attrop: AttrOP | None  # which images get attributes, and which; null for none
    certificates: Certificates
    training_sets: dict[Name, Place]  # name -> store that a recognizer is trained on
    masked_sets: dict[Name, MaskedSet]  # more of them, by name: those that a mask goes with
    fr: RecognizerConfig
    evaluation: Evaluation
    estimators: dict[Name, EstimatorConfig]  # of attributes, by name
    rendered: Rendered

    @field_validator("sigma", "sigma_share", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @field_validator("training_sets", "masked_sets")
    @classmethod
    def _named_apart(cls, value: dict[str, Any]) -> dict[str, Any]:
        if taken := value.keys() & set(RESERVED):
            raise ValueError(f"{sorted(taken)[0]!r} is the name of another recognizer; choose one")
        return value

    @field_validator("image_size")
    @classmethod
    def _doubles_up_from_seven(cls, value: int) -> int:
        if value not in (56, 112, 224):
            raise ValueError("must be 56, 112 or 224: the decoder doubles up from 7 x 7")
        return value

    @model_validator(mode="before")
    @classmethod
    def _one_sigma_has_share_one(cls, values: Any) -> Any:
        # `-S sigma=0.3` alone means: all images at that sigma.
        if isinstance(values, dict) and isinstance(values.get("sigma"), int | float | str):
            values = {**values, "sigma_share": [1.0]}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
        if missing := set(OWN_SETS) - self.sets.keys():
            raise ValueError(
                f"training_sets: {sorted(missing)[0]} is missing; the comparison needs it"
            )
        if twice := self.training_sets.keys() & self.masked_sets.keys():
            raise ValueError(
                f"masked_sets: {sorted(twice)[0]} is in training_sets, too; leave it in one"
            )
        if len(self.sigma) != len(self.sigma_share):
            raise ValueError(
                f"sigma_share: {len(self.sigma_share)} shares for {len(self.sigma)} values of sigma"
            )
        if abs(sum(self.sigma_share) - 1) > 1e-6:
            raise ValueError(f"sigma_share: shares sum to {sum(self.sigma_share):g}, not to 1")
        levels = self.image_size.bit_length() - (7).bit_length() + 1
        if len(self.generator.channels) != levels:
            raise ValueError(
                f"generator.channels: image_size {self.image_size} needs {levels} levels, "
                f"not {len(self.generator.channels)}"
            )
        for name in ("encoder", "decoder"):
            width = self.generator.width if name == "encoder" else self.generator.decoder_width
            heads = getattr(self.generator, f"{name}_heads")
            if width % heads:
                raise ValueError(f"generator.{name}_heads: {heads} does not divide width {width}")
        return self

    @classmethod
    def load(cls, path: Path | str = "params.yaml") -> "Params":
        """Read and check a parameter file.

        Raises:
            InputError: the file is missing or no YAML, or a key is unknown, missing, twice
                there or out of bounds; the message names file and key.
        """
        content = read_yaml(path)
        try:
            params = cls.model_validate(content)
        except ValidationError as error:
            lines = [
                _key(e["loc"]) + e["msg"].removeprefix("Value error, ") for e in error.errors()
            ]
        else:
            lines = list(params.conflicts())
        if lines:
            raise InputError(f"{path}: change these keys:\n" + "\n".join(f"  {x}" for x in lines))
        return params

    @property
    def sets(self) -> dict[str, tuple[str, str | None]]:
        """Path and mask, if there is one, of every training set, by name."""
        found: dict[str, tuple[str, str | None]]
        found = {name: (path, None) for name, path in self.training_sets.items()}
        return found | {name: (each.path, each.rows) for name, each in self.masked_sets.items()}

    @property
    def fr_seed(self) -> int:
        """The seed of the recognizers' training."""
        return self.seed if self.fr.seed is None else self.fr.seed

    @property
    def sampling_seed(self) -> int:
        """The seed of identities and of their images."""
        return self.seed if self.sampling.seed is None else self.sampling.seed

    def conflicts(self) -> Iterator[str]:
        """Name values that are possible by themselves, and not together."""
        yield from conflicts.in_subset(self.subset, self.seed)
        yield from conflicts.in_generator(self.generator, self.training, self.subset)
        yield from conflicts.in_masks("sampling", self.sampling.masks)
        yield from conflicts.in_recognizer(self.fr, self.identities, self.images_per_identity)
        yield from conflicts.in_attrop(self.attrop, self.estimators, self.images_per_identity)
        yield from conflicts.in_rendered(self.rendered)

    def doubts(self) -> Iterator[str]:
        """Say what is allowed, and most likely not meant."""
        if _same(self.paths.pca_faces, self.paths.faces):
            yield (
                "paths.pca_faces: the same as paths.faces; the identities will resemble those that "
                "train the generator. Other people are better"
            )
        if self.sampling.released:
            yield "sampling.released: min_similarity and sampling.jpeg_quality are not used"
        if self.perturbation == "angular":
            yield "perturbation: angular, so sigma, sigma_... and sampling.rescale are not used"
        if self.training.released:
            yield "training.released: training.weight_decay is not used, it is 0.01"
        if self.fr.released:
            yield "fr.released: fr.augment.erasing and erased are not used; 0.5 and up to 0.33 are"
        if _same(self.paths.second_recognizer, self.paths.recognizer):
            yield (
                "paths.second_recognizer: the same as paths.recognizer, so the images are judged "
                "by what they were trained on. Another recognizer is better"
            )
        for (one, (path, rows)), (other, (again, mask)) in combinations(self.sets.items(), 2):
            if _same(path, again) and rows == mask:
                yield f"training_sets.{other}: the same as training_sets.{one}"
        most = self.identities * self.images_per_identity
        if self.fr.batch > most:
            yield (
                f"fr.batch: {self.fr.batch} is above the {most} images of identities x "
                "images_per_identity; a step takes all there are, so an epoch is one step"
            )


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _key(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:80] for part in place) + ": " if place else ""
