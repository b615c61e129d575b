"""The sections of ``params.yaml`` about attributes: estimators of them, and what AttrOP aims at."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from vec2face.config.bounds import (
    Count,
    Edge,
    Name,
    Number,
    Percentile,
    Place,
    Portion,
    Positive,
    Size,
    Unit,
    Weight,
    number,
)
from vec2face.config.sections import Section


class Takes(Section):
    """What a network of attributes expects of its input.

    A recognizer's file says all but ``box`` itself, so the rest is null, rgb, [0.5] and [0.5] then.
    """

    box: tuple[Edge, Edge, Edge, Edge]  # left, top, right, bottom, in sides of the face
    side: Size | None  # pixels to which that is scaled; null: as the file says, or as it is
    channels: Literal["rgb", "bgr"]
    mean: Annotated[tuple[Number, ...], Field(min_length=1, max_length=3)]  # off x / 255
    std: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=3)]  # what divides the rest


class Gives(Section):
    """How a network's numbers are read.

    ``plain``: one number is one output. ``length``: of the feature, which is a recognizer's
    estimate of quality (MagFace). ``expectation``: of ``classes``, under the probabilities given.
    ``camera``: yaw, pitch and roll of a 3D morphable model's camera (3DDFA).
    """

    reading: Literal["plain", "length", "expectation", "camera"]
    outputs: Annotated[dict[Name, Unit], Field(min_length=1)]  # in the order of the numbers
    opposite: tuple[Name, ...]  # outputs that have the other sign here
    classes: tuple[Number, ...]


class EstimatorConfig(Section):
    """A differentiable estimator of attributes.

    Yaw is positive where the face turns to the picture's right, pitch where it looks up.
    """

    file: Place
    network: Literal["onnx", "recognizer", "6drepnet"]  # recognizer: see Takes
    takes: Takes
    gives: Gives


class Aim(Section):
    """How AttrOP aims at one output of an estimator.

    The error is |value - target| (``signed``), | |value| - target | (``absolute``), or what value
    lacks of target (``least``).
    """

    estimator: Name
    judge: Name | None  # another estimator, which no loss sees, to measure what was reached
    kind: Literal["signed", "absolute", "least"]
    scale: Positive  # what the error is divided by in the loss, in the output's unit
    tolerance: Positive  # largest error of a converged image


class AimGroup(Section):
    """Images of each identity that AttrOP makes, and what they are to be."""

    share: Portion  # of an identity's images, at random positions
    aims: Annotated[dict[Name, Number | Percentile], Field(min_length=1)]


class AttrOP(Section):
    """Attribute operations (equation 5).

    ``printed``: Algorithm 1 as it stands. ``released``: as the authors' code, but for a bound.
    """

    mode: Literal["ours", "printed", "released"]
    attributes: dict[Name, Aim]  # by the name of the output
    groups: Annotated[list[AimGroup], Field(min_length=1)]
    steps: Annotated[int, Field(ge=0, le=10**6), BeforeValidator(number)]  # at most, of an attempt
    rate: Positive  # ours: of the step that would end all errors, were they linear; else of descent
    identity: Weight  # of 1 - cosine of the image's feature to the identity vector
    slots: Size  # samples computed at a time; the batch but for ours
    unconverged: Literal["best", "again", "drop"]  # keep the best image, try anew first, leave out
    attempts: Count  # of a sample, with again
