"""One typed, validated view of ``params.yaml``: what an experiment may change, within what bounds.

The generator, the recognizers and the augmentation take their sections as they are. No field has a
default: every value that decides a result stands in the file.
Hardware (devices, workers, threads) is not here: it comes from the environment.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vec2face.runtime.files import InputError

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Portion = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Precision = Literal["float32", "bfloat16", "float16"]

OWN_SETS = ("generated", "real")
"""The training sets of every run (``evaluation.roles`` says what their recognizers are)."""

RESERVED = ("untrained", "estimator", "second")
"""Recognizers of every run that no training set may be named after."""


class Section(BaseModel):
    """A part of the file: unknown keys and wrong types are errors, values are read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Paths(Section):
    """Inputs; another world is other paths."""

    faces: str  # training faces, in any form of docs/formats.md
    pca_faces: str  # faces of other people for the PCA (the paper: MS1MV2)
    benchmarks: str  # a .bin file or a folder of them
    recognizer: str  # ONNX: features and identity loss (the paper: ArcFace-R100)
    second_recognizer: str  # ONNX or .safetensors that no loss sees: judges the images
    generator: str  # what draws the faces: the pipeline's own, or another in its place


class Subset(Section):
    """Which identities and images train the generator."""

    rule: Literal["paper", "released"]  # released: all images of the chosen identities
    corrupt: Literal["stop", "skip"]  # at an unreadable entry of any source of faces
    identities: Count
    images_per_identity: Count
    minimum_images: Count  # identities with fewer images are not chosen
    held_out: Count  # identities kept apart, for reconstructions


class GeneratorConfig(Section):
    """Sizes of the generator, and how its weights are initialised.

    The authors' code differs from their paper: in the image decoder, a shortcut that changes the
    number of channels sees its block's output instead of the input; in training, the adversarial
    loss has weight 1 instead of the adaptive one, and the images of a batch share one mask ratio.
    ``released`` follows the code. The authors' weights need it; reading them switches it on.
    """

    width: Count  # of the encoder
    decoder_width: Count
    encoder_blocks: Count
    encoder_heads: Count
    decoder_blocks: Count
    decoder_heads: Count
    mlp_ratio: Positive  # width of a block's hidden layer, in widths of the block
    dropout: Share
    front_channels: Count  # of the 7 x 7 map that the image decoder starts from
    channels: tuple[Count, ...]  # of the image decoder's levels, fine to coarse; each doubles 7 x 7
    residual_blocks: Count  # of each level
    groups: Count  # of GroupNorm; the largest common divisor with the channels is used
    position_std: Positive  # initial standard deviation of the position embeddings
    expansion_std: Positive  # initial standard deviation of the 1 -> 49 expansion's weights
    residual_gain: Positive  # initial gain of the blocks' branches, over sqrt(2 * blocks)
    released: bool


class Masks(Section):
    """Truncated normal of the mask ratio (std 0.25)."""

    minimum: Share
    maximum: Share
    mean: Share


class Discriminator(Section):
    """The patch discriminator."""

    width: Count  # channels of the stem (the authors' code: 64)
    kernels: tuple[Count, ...]  # of the stem's parallel convolutions (the authors: 3, 7, 15)
    start: Share  # share of the training after which it counts
    lr: Positive


class LossWeights(Section):
    """Weights of the generator's losses (``generator.losses``); 0 switches one off."""

    mse: Weight
    gradient: Weight  # L1 of the images' finite differences
    lpips: Weight  # needs LPIPS backbone weights on disk
    perceptual: Weight  # inner layers of the frozen recognizer, where LPIPS cannot be had
    ssim: Weight
    token: Weight
    identity: Weight
    identity_start: Share  # share of the training at which the identity loss begins to rise
    identity_full: Share  # ... and at which it has its full weight
    recognizer_share: Share  # part of each batch that the recognizer's losses see
    adversarial: Weight


class Training(Section):
    """Optimisation of the generator."""

    steps: Count
    batch: Count  # images in a step, of all processes together
    micro_batch: Count | None  # images computed at a time (null: all); what processes share
    precision: Precision  # of generator and discriminator
    compile: bool  # by torch.compile
    optimizer: Literal["adamw", "muon"]  # muon: for the matrices of the blocks; AdamW for the rest
    lr: Positive
    warmup: Annotated[int, Field(ge=0)]
    weight_decay: Weight
    betas: tuple[Share, Share]
    clip: Positive
    ema: Share  # decay of the averaged weights; 0 keeps the raw ones
    masks: Masks
    losses: LossWeights
    discriminator: Discriminator
    lpips_weights: str  # path of LPIPS backbone weights, "" for none


class Sampling(Section):
    """How images are drawn from vectors."""

    masks: Masks
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]


class Augmentation(Section):
    """Augmentation of a recognizer's training images: how often each change is made, how far."""

    flip: Share  # probability of mirroring left and right
    crop: Share  # ... that only a window of the face stays visible, in its place, on black
    low_resolution: Share  # ... of shrinking and enlarging again
    photometric: Share  # ... of changing brightness, contrast and saturation
    erasing: Share  # ... of blanking a rectangle with random grey
    least_window: Portion  # smallest share of the image's area that a window shows
    least_resolution: Portion  # smallest side after shrinking, as a share of the side
    photometric_change: Share  # the three factors are drawn from 1 - change to 1 + change
    erased: tuple[Portion, Portion]  # smallest and largest share of the area that is blanked

    @field_validator("erased")
    @classmethod
    def _rises(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError(f"the smallest share comes first, not {list(value)}")
        return value


class RecognizerConfig(Section):
    """What a face recognition model is, and how it is trained."""

    backbone: str  # a name of recognizers.backbones.NAMES
    widths: tuple[Count, ...]  # channels of the four stages; empty for the backbone's own
    embedding: Count  # length of the embedding
    head: Literal["arcface", "cosface", "magface"]
    scale: Positive  # factor on the cosines
    margin: Weight  # radians of arcface and magface (its lowest), a cosine of cosface
    epochs: Count  # passes over the images
    batch: Count  # images in a step, of all processes together; an epoch's rest is left out
    # Images in a forward pass of one process; null for the whole batch. Batch norms see one
    # micro-batch at a time, so this number, unlike that of the processes, counts.
    micro_batch: Count | None
    lr: Positive  # highest learning rate
    schedule: Literal["milestones", "cosine"]  # cosine: half a cosine to zero
    milestones: tuple[Positive, ...]  # epochs, or shares of the run if < 1: lr falls to a tenth
    warmup: Weight  # epochs over which the rate rises from 0; may be a fraction
    momentum: Share  # of SGD
    weight_decay: Weight  # of matrices, filters and the head; none of norms, slopes and biases
    dropout: Share  # before the last linear layer
    clip: Positive  # largest norm of the gradient
    sample_rate: Portion  # share of the other identities that a step compares with (PartialFC)
    precision: Precision  # of the backbone's products and convolutions; the head keeps float32
    compile: bool  # the backbone, by torch.compile; its dropout then draws otherwise
    augment: Augmentation


class RenderedStore(Section):
    """One rendered store of faces."""

    people: Count
    images: Count  # of each person
    regime: Literal["mild", "wide"]  # how much pose, light, age and degradation vary


class RenderedBenchmarks(Section):
    """The rendered verification benchmarks."""

    names: list[str]
    pairs: Count  # of each; a multiple of 40


class RenderedEstimators(Section):
    """Training of the stand-in estimators (a frozen stage: the results are shipped)."""

    epochs: Count
    pose_epochs: Count


class Rendered(Section):
    """The rendered world."""

    image_size: Count
    stores: dict[str, RenderedStore]
    benchmarks: RenderedBenchmarks
    estimators: RenderedEstimators


class Params(Section):
    """The whole file."""

    seed: Annotated[int, Field(ge=0)]
    world: Literal["rendered", "photos", "paper"]
    image_size: Count
    paths: Paths
    subset: Subset
    generator: GeneratorConfig
    training: Training
    tau: Annotated[float, Field(gt=-1, le=1)]
    identities: Count
    images_per_identity: Count
    sigma: list[Positive]
    sigma_share: list[Share]
    min_similarity: Annotated[float, Field(ge=-1, lt=1)]
    sampling: Sampling
    training_sets: dict[str, str]  # name -> store that a recognizer is trained on
    fr: RecognizerConfig
    rendered: Rendered

    @field_validator("sigma", "sigma_share", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @field_validator("training_sets")
    @classmethod
    def _named_apart(cls, value: dict[str, str]) -> dict[str, str]:
        # Names become file names and prefixes of metrics.
        bad = [name for name in value if not name.isidentifier() or name in RESERVED]
        if bad:
            raise ValueError(f"{bad[0]!r} cannot name a set: letters, digits, _, and not taken")
        if missing := set(OWN_SETS) - value.keys():
            raise ValueError(f"{sorted(missing)[0]} is missing; the comparison needs it")
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
        if isinstance(values, dict) and isinstance(values.get("sigma"), int | float):
            values = {**values, "sigma_share": [1.0]}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> "Params":
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
            InputError: the file is missing or no YAML, or a key is unknown, missing or out of
                bounds; the message names file and key.
        """
        try:
            content = yaml.safe_load(Path(path).read_text())
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except yaml.YAMLError as error:
            raise InputError(f"{path}: is not YAML: {error}") from error
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            lines = [f"  {_key(e['loc'])}{e['msg']}" for e in error.errors()]
            raise InputError(f"{path}: change these keys:\n" + "\n".join(lines)) from None


def _key(place: tuple[int | str, ...]) -> str:
    return ".".join(map(str, place)) + ": " if place else ""
