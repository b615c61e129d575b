"""The sections of ``params.yaml``, which the code takes as they are.

No field has a default: every value that decides a result stands in the file.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, field_validator

from vec2face.config.bounds import (
    Backbone,
    Benchmark,
    Count,
    Depth,
    Name,
    Part,
    Place,
    PlaceOrNone,
    Portion,
    Positive,
    Precision,
    Seed,
    Several,
    Share,
    Size,
    Weight,
    number,
)


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

    In the image decoder of the authors' code, a shortcut that changes the number of channels sees
    its block's output instead of the input. ``released`` follows it. The authors' weights need it;
    reading them switches it on.
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
    sampled: Weight  # identity loss of vectors that have no picture, see generator.batches
    sampled_share: Share  # how many of them are drawn beside a batch, over its images
    adversarial: Weight
    adversarial_adaptive: StrictBool  # multiplied by the ratio of the gradients' norms (VQGAN)


class Training(Section):
    """Optimisation of the generator.

    ``released`` follows the authors' code where no other key says so: features enter as they are,
    the images of a step share one mask ratio, all parameters decay, by 0.01 whatever
    ``weight_decay`` says, and the discriminator has shorter residual blocks and gets the gradient
    of the generator's adversarial loss as well.
    """

    steps: Count
    batch: Count  # images in a step, of all processes together
    micro_batch: Count | None  # images computed at a time (null: all); what processes share
    precision: Precision  # of generator and discriminator
    compile: StrictBool  # by torch.compile
    optimizer: Literal["adamw", "muon"]  # muon: for the matrices of the blocks; AdamW for the rest
    lr: Positive
    warmup: Annotated[int, Field(ge=0), BeforeValidator(number)]
    weight_decay: Weight
    betas: tuple[Part, Part]
    clip: Positive
    ema: Part  # decay of the averaged weights; 0 keeps the raw ones
    masks: Masks
    losses: LossWeights
    discriminator: Discriminator
    lpips_weights: PlaceOrNone  # "" for none
    released: StrictBool


class Sampling(Section):
    """How images are drawn from vectors.

    ``released`` follows the authors' code: sigma_share holds over all images and not in each
    identity; no vector is drawn again, so ``min_similarity`` is not used; 64 images share a mask
    ratio; fractions of pixel values are cut off; JPEGs have quality 75 whatever ``jpeg_quality``
    says. To read sigma as that code does takes ``sigma_is: std`` and ``sigma_unit: absolute`` as
    well, and it rescales.
    """

    masks: Masks
    seed: Seed | None  # of identities, perturbation and masks; null: the experiment's
    rescale: StrictBool  # whether v_im gets the length of v_id; equation 4 does not say so
    jpeg_quality: Annotated[int, Field(ge=1, le=100), BeforeValidator(number)]
    released: StrictBool


class Certificates(Section):
    """What is proved of the generated set, and how far it may fall short."""

    mislabelled_features: Share  # largest share of images nearer to another identity
    false_alarm_rate: Portion  # share of strangers that a leak's threshold may let through


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
    """What a face recognition model is, and how it is trained.

    ``released`` follows the authors' code where no other key says so: ArcFace's margin has no part
    in the gradient, the head's gradient is not clipped, the rate falls an epoch before each of the
    milestones, all parameters decay, squeeze and excitation gates shortcuts, and the network of
    depth 200 is that of 100. Erasing has probability 0.5 and covers up to 0.33 of the area with the
    middle grey, whatever ``augment`` says.
    """

    backbone: Backbone
    widths: tuple[Size, ...]  # channels of an IResNet's four stages; empty for the backbone's own
    embedding: Size  # length of the embedding
    head: Literal["arcface", "cosface", "magface", "adaface", "curricularface", "sphereface"]
    scale: Positive  # factor on the cosines
    # Radians of arcface, curricularface and magface (its lowest), a cosine of cosface, both of
    # adaface; of sphereface the factor of the angle, at least 1.
    margin: Weight
    epochs: Count  # passes over the images
    batch: Several  # images in a step, of all processes together; an epoch's rest is left out
    # Images that batch norms see together; null for the whole batch. Processes share the
    # micro-batches, or each of them; so this number, unlike that of the processes, counts.
    micro_batch: Several | None
    lr: Positive  # highest learning rate
    schedule: Literal["milestones", "cosine"]  # cosine: half a cosine to zero
    milestones: tuple[Positive, ...]  # epochs, or shares of the run if < 1: lr falls to a tenth
    warmup: Weight  # epochs over which the rate rises from 0; may be a fraction
    momentum: Part  # of SGD
    weight_decay: Weight  # of matrices, filters and the head; none of norms, slopes and biases
    dropout: Part  # before the last linear layer
    seed: Seed | None  # of start weights, order, augmentation and dropout; null: the experiment's
    clip: Positive  # largest norm of the gradient
    sample_rate: Portion  # share of the other identities that a step compares with (PartialFC)
    precision: Precision  # of the backbone's products and convolutions; the head keeps float32
    compile: StrictBool  # the backbone, by torch.compile; its dropout then draws otherwise
    augment: Augmentation
    released: StrictBool


class Evaluation(Section):
    """How recognizers are compared on the benchmarks."""

    flip: StrictBool  # whether a picture's embedding is added to its mirror image's


class MaskedSet(Section):
    """A training set of which some rows count."""

    path: Place  # faces, in any form of docs/formats.md
    rows: Place  # an .npy of row positions, each once, in any order


class RenderedStore(Section):
    """One rendered store of faces."""

    people: Count
    images: Count  # of each person
    regime: Literal["ordinary", "wide"]  # how much pose, light, age and degradation vary


class RenderedEstimators(Section):
    """Training of the stand-in estimators (a frozen stage: the results are shipped)."""

    epochs: Count
    attribute_epochs: Count  # of pose and age


class Rendered(Section):
    """The rendered world."""

    image_size: Annotated[Size, Field(le=4096)]
    stores: dict[Name, RenderedStore]
    # Pairs of each, in ten folds of groups of four.
    benchmarks: Annotated[
        dict[Benchmark, Annotated[Count, Field(multiple_of=40)]], Field(min_length=1)
    ]
    estimators: RenderedEstimators
