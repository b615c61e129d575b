"""One typed, validated view of ``params.yaml``: what an experiment may change, within what bounds.

The generator, the recognizers and the augmentation take their sections as they are. No field has a
default: every value that decides a result stands in the file.
Hardware (devices, workers, threads) is not here: it comes from the environment.

Numbers are finite. Their upper bounds lie far above all that is published; they are there so that a
slip of the keyboard ends with the key's name and not with the memory.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from vec2face.runtime.files import InputError

LARGEST = 10**9
"""Of all counts and numbers without a bound of their own."""

WEIGHTS = 10**10
"""Of a generator, about; the paper's has 2 10^8."""


def _number(value: Any) -> Any:
    if value is True or value is False:
        raise ValueError("a number, not true or false")
    return value


def _place(value: str) -> str:
    names = [name for name in value.split("/") if name not in ("", ".", "..")]
    if not names:
        raise ValueError(f"name a file or a folder, not {value!r}")
    if not value.isprintable() or value != value.strip() or "$" in value:
        raise ValueError(f"a path of printable characters without $, not {value!r}")
    if len(value) > 1000 or any(len(name.encode()) > 255 for name in names):
        raise ValueError("a path is shorter: at most 255 bytes a name, 1000 characters in all")
    system = names[0] in ("proc", "sys") or (names[0] == "dev" and names[1:2] != ["shm"])
    if value.startswith("/") and system:
        raise ValueError(f"{value} is the system's, and no data")
    return value


def _place_or_none(value: str) -> str:
    return _place(value) if value else value


Count = Annotated[int, Field(ge=1, le=LARGEST), BeforeValidator(_number)]
Several = Annotated[int, Field(ge=2, le=LARGEST), BeforeValidator(_number)]
Size = Annotated[int, Field(ge=1, le=16384), BeforeValidator(_number)]  # channels, pixels
Depth = Annotated[int, Field(ge=1, le=1000), BeforeValidator(_number)]  # blocks one after another
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(_number)]
Part = Annotated[float, Field(ge=0, lt=1), BeforeValidator(_number)]
Portion = Annotated[float, Field(gt=0, le=1), BeforeValidator(_number)]
Positive = Annotated[float, Field(gt=0, le=LARGEST), BeforeValidator(_number)]
Weight = Annotated[float, Field(ge=0, le=LARGEST), BeforeValidator(_number)]
Place = Annotated[str, AfterValidator(_place)]
Name = Annotated[str, StringConstraints(pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\z", max_length=64)]
"""Names become file names, prefixes of metrics and arguments in ``dvc.yaml``."""

Precision = Literal["float32", "bfloat16", "float16"]

Backbone = Literal[
    "iresnet10", "iresnet18", "iresnet34", "iresnet50", "iresnet100", "iresnet200",
    "se_iresnet10", "se_iresnet18", "se_iresnet34", "se_iresnet50", "se_iresnet100",
    "se_iresnet200", "vit_s", "vit_b",
]  # fmt: skip
Benchmark = Literal[
    "lfw", "cfp_fp", "cplfw", "agedb_30", "calfw", "hadrian", "eclipse", "sllfw", "doppelver"
]

OWN_SETS = ("generated", "real")
"""The training sets of every run (``evaluation.roles`` says what their recognizers are)."""

RESERVED = ("untrained", "estimator", "second")
"""Recognizers of every run that no training set may be named after."""


class Section(BaseModel):
    """A part of the file: unknown keys and wrong types are errors, values are read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)


class Paths(Section):
    """Inputs; another world is other paths."""

    faces: Place  # training faces, in any form of docs/formats.md
    pca_faces: Place  # faces of other people for the PCA (the paper: MS1MV2)
    benchmarks: Place  # a .bin file or a folder of them
    recognizer: Place  # ONNX: features and identity loss (the paper: ArcFace-R100)
    second_recognizer: Place  # ONNX or .safetensors that no loss sees: judges the images
    generator: Place  # what draws the faces: the pipeline's own, or another in its place


class Subset(Section):
    """Which identities and images train the generator."""

    rule: Literal["paper", "released"]  # released: all images of the chosen identities
    corrupt: Literal["stop", "skip"]  # at an unreadable entry of any source of faces
    identities: Several
    images_per_identity: Count
    minimum_images: Count  # identities with fewer images are not chosen
    held_out: Several  # identities kept apart, for reconstructions and as a measure


class GeneratorConfig(Section):
    """Sizes of the generator, and how its weights are initialised.

    The authors' code differs from their paper: in the image decoder, a shortcut that changes the
    number of channels sees its block's output instead of the input; in training, the adversarial
    loss has weight 1 instead of the adaptive one, and the images of a batch share one mask ratio.
    ``released`` follows the code. The authors' weights need it; reading them switches it on.
    """

    width: Size  # of the encoder
    decoder_width: Size
    encoder_blocks: Depth
    encoder_heads: Size
    decoder_blocks: Depth
    decoder_heads: Size
    mlp_ratio: Positive  # width of a block's hidden layer, in widths of the block
    dropout: Part
    front_channels: Size  # of the 7 x 7 map that the image decoder starts from
    channels: tuple[Size, ...]  # of the image decoder's levels, fine to coarse; each doubles 7 x 7
    residual_blocks: Depth  # of each level
    groups: Size  # of GroupNorm; the largest common divisor with the channels is used
    position_std: Positive  # initial standard deviation of the position embeddings
    expansion_std: Positive  # initial standard deviation of the 1 -> 49 expansion's weights
    residual_gain: Positive  # initial gain of the blocks' branches, over sqrt(2 * blocks)
    released: StrictBool


class Masks(Section):
    """Truncated normal of the mask ratio (std 0.25)."""

    minimum: Share
    maximum: Share
    mean: Share


class Discriminator(Section):
    """The patch discriminator."""

    width: Annotated[Size, Field(multiple_of=4, le=1024)]  # of the stem (the authors' code: 64)
    kernels: tuple[Size, ...]  # of the stem's parallel convolutions (the authors: 3, 7, 15)
    start: Share  # share of the training after which it counts
    lr: Positive

    @field_validator("kernels")
    @classmethod
    def _odd(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(value) <= 8 or any(size % 2 == 0 or size > 55 for size in value):
            raise ValueError(f"one to eight odd sizes up to 55, not {list(value)}")
        return value


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
    compile: StrictBool  # by torch.compile
    optimizer: Literal["adamw", "muon"]  # muon: for the matrices of the blocks; AdamW for the rest
    lr: Positive
    warmup: Annotated[int, Field(ge=0), BeforeValidator(_number)]
    weight_decay: Weight
    betas: tuple[Part, Part]
    clip: Positive
    ema: Part  # decay of the averaged weights; 0 keeps the raw ones
    masks: Masks
    losses: LossWeights
    discriminator: Discriminator
    lpips_weights: Annotated[str, AfterValidator(_place_or_none)]  # "" for none


class Sampling(Section):
    """How images are drawn from vectors."""

    masks: Masks
    jpeg_quality: Annotated[int, Field(ge=1, le=100), BeforeValidator(_number)]


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

    backbone: Backbone
    widths: tuple[Size, ...]  # channels of an IResNet's four stages; empty for the backbone's own
    embedding: Size  # length of the embedding
    head: Literal["arcface", "cosface", "magface"]
    scale: Positive  # factor on the cosines
    margin: Weight  # radians of arcface and magface (its lowest), a cosine of cosface
    epochs: Count  # passes over the images
    batch: Several  # images in a step, of all processes together; an epoch's rest is left out
    # Images in a forward pass of one process; null for the whole batch. Batch norms see one
    # micro-batch at a time, so this number, unlike that of the processes, counts; they need two.
    micro_batch: Several | None
    lr: Positive  # highest learning rate
    schedule: Literal["milestones", "cosine"]  # cosine: half a cosine to zero
    milestones: tuple[Positive, ...]  # epochs, or shares of the run if < 1: lr falls to a tenth
    warmup: Weight  # epochs over which the rate rises from 0; may be a fraction
    momentum: Part  # of SGD
    weight_decay: Weight  # of matrices, filters and the head; none of norms, slopes and biases
    dropout: Part  # before the last linear layer
    clip: Positive  # largest norm of the gradient
    sample_rate: Portion  # share of the other identities that a step compares with (PartialFC)
    precision: Precision  # of the backbone's products and convolutions; the head keeps float32
    compile: StrictBool  # the backbone, by torch.compile; its dropout then draws otherwise
    augment: Augmentation


class RenderedStore(Section):
    """One rendered store of faces."""

    people: Count
    images: Count  # of each person
    regime: Literal["mild", "wide"]  # how much pose, light, age and degradation vary


class RenderedBenchmarks(Section):
    """The rendered verification benchmarks."""

    names: Annotated[list[Benchmark], Field(min_length=1)]
    pairs: Annotated[Count, Field(multiple_of=40)]  # of each


class RenderedEstimators(Section):
    """Training of the stand-in estimators (a frozen stage: the results are shipped)."""

    epochs: Count
    pose_epochs: Count


class Rendered(Section):
    """The rendered world."""

    image_size: Annotated[Size, Field(le=4096)]
    stores: dict[Name, RenderedStore]
    benchmarks: RenderedBenchmarks
    estimators: RenderedEstimators


class Params(Section):
    """The whole file."""

    seed: Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(_number)]
    world: Literal["rendered", "photos", "paper"]
    image_size: Count
    paths: Paths
    subset: Subset
    generator: GeneratorConfig
    training: Training
    tau: Annotated[float, Field(gt=-1, le=1), BeforeValidator(_number)]
    identities: Several
    images_per_identity: Count
    sigma: list[Positive]
    sigma_share: list[Share]
    min_similarity: Annotated[float, Field(ge=-1, lt=1), BeforeValidator(_number)]
    sampling: Sampling
    training_sets: dict[Name, Place]  # name -> store that a recognizer is trained on
    fr: RecognizerConfig
    rendered: Rendered

    @field_validator("sigma", "sigma_share", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @field_validator("training_sets")
    @classmethod
    def _named_apart(cls, value: dict[str, str]) -> dict[str, str]:
        if taken := value.keys() & set(RESERVED):
            raise ValueError(f"{sorted(taken)[0]!r} is the name of another recognizer; choose one")
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
        if isinstance(values, dict) and isinstance(values.get("sigma"), int | float | str):
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
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: is not YAML: {error}") from error
        try:
            params = cls.model_validate(content)
        except ValidationError as error:
            lines = [
                _key(e["loc"]) + e["msg"].removeprefix("Value error, ") for e in error.errors()
            ]
        else:
            lines = list(_conflicts(params))
        if lines:
            raise InputError(f"{path}: change these keys:\n" + "\n".join(f"  {x}" for x in lines))
        return params

    def doubts(self) -> Iterator[str]:
        """Say what is allowed, and most likely not meant."""
        if self.paths.pca_faces == self.paths.faces:
            yield (
                "paths.pca_faces: the same as paths.faces; the identities will resemble those that "
                "train the generator. Other people are better"
            )
        if self.paths.second_recognizer == self.paths.recognizer:
            yield (
                "paths.second_recognizer: the same as paths.recognizer, so the images are judged "
                "by what they were trained on. Another recognizer is better"
            )


def _key(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:80] for part in place) + ": " if place else ""


def _conflicts(p: Params) -> Iterator[str]:
    """Name values that are possible by themselves, and not together."""
    for key, masks in (("training", p.training.masks), ("sampling", p.sampling.masks)):
        if not masks.minimum <= masks.mean <= masks.maximum:
            numbers = f"{masks.minimum:g}, {masks.mean:g}, {masks.maximum:g}"
            yield f"{key}.masks: minimum <= mean <= maximum, not {numbers}"
    for key, batch, micro in (
        ("training", p.training.batch, p.training.micro_batch),
        ("fr", p.fr.batch, p.fr.micro_batch),
    ):
        if micro and batch % micro:
            yield f"{key}.micro_batch: {micro} does not divide {key}.batch = {batch}"
    yield from _generator_conflicts(p)
    yield from _recognizer_conflicts(p)
    if p.subset.rule == "released" and p.seed >= 2**32:
        yield f"seed: below 2^32 for subset.rule: released, whose generator takes no {p.seed}"
    benchmarks = p.rendered.benchmarks.names
    if len(set(benchmarks)) < len(benchmarks):
        yield "rendered.benchmarks.names: a name occurs twice"
    if missing := {"faces", "pca", "estimators"} - p.rendered.stores.keys():
        yield f"rendered.stores: {sorted(missing)[0]} is missing"


def _generator_conflicts(p: Params) -> Iterator[str]:
    g, t, w = p.generator, p.training, p.training.losses
    block = 4 + 2 * g.mlp_ratio  # weights, in widths squared
    blocks = g.encoder_blocks * g.width**2 + g.decoder_blocks * g.decoder_width**2
    levels = 18 * g.residual_blocks * sum(c**2 for c in (*g.channels, g.front_channels))
    weights = block * blocks + levels
    if weights > WEIGHTS:
        yield (
            f"generator: width, decoder_width, blocks, mlp_ratio, channels, front_channels and "
            f"residual_blocks make about {weights:.0e} weights, above {WEIGHTS:.0e}"
        )
    if int(g.mlp_ratio * min(g.width, g.decoder_width)) < 1:
        yield f"generator.mlp_ratio: {g.mlp_ratio:g} leaves nothing of the width"
    if len(t.discriminator.kernels) - 1 > t.discriminator.width // 2:
        yield "training.discriminator.kernels: more than half of its width"
    if t.warmup > t.steps:
        yield f"training.warmup: {t.warmup} is above training.steps = {t.steps}"
    most = p.subset.identities * p.subset.images_per_identity
    if p.subset.rule == "paper" and t.batch > most:
        yield f"training.batch: {t.batch} is above the {most} images that subset asks for"
    kinds = (w.mse, w.gradient, w.lpips, w.perceptual, w.ssim, w.token, w.identity, w.adversarial)
    if not any(kinds):
        yield "training.losses: all weights are 0, so nothing would be learnt"
    if w.identity_full < w.identity_start:
        yield f"training.losses.identity_full: at least identity_start = {w.identity_start:g}"
    if w.lpips and not t.lpips_weights:
        yield "training.lpips_weights: names no file; training.losses.lpips needs one"


def _recognizer_conflicts(p: Params) -> Iterator[str]:
    fr = p.fr
    if fr.widths and fr.backbone.startswith("vit"):
        yield f"fr.widths: [] for {fr.backbone}, which has its own"
    elif len(fr.widths) not in (0, 4):
        yield f"fr.widths: four numbers or none, not {len(fr.widths)}"
    if fr.warmup > fr.epochs:
        yield f"fr.warmup: {fr.warmup:g} is above fr.epochs = {fr.epochs}"
    if fr.margin > math.pi / 2:
        yield f"fr.margin: at most half of pi, not {fr.margin:g}"
    most = p.identities * p.images_per_identity
    if fr.batch > most and fr.micro_batch and most % fr.micro_batch:
        yield (
            f"fr.batch: {fr.batch} is above the {most} images of identities x "
            f"images_per_identity, which fr.micro_batch = {fr.micro_batch} does not divide"
        )
