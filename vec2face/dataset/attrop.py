"""AttrOP: move a vector until its image has the wanted attributes (paper, section 3.3).

The loss of a sample is that of equation 5: one minus the cosine of the image's feature to the
identity vector, and what each attribute lacks. Each sample is optimised by itself, under masks of
its own. It goes down its gradient, as in Algorithm 1, by the step at which its attributes would be
met if they were linear (Polyak, 1969). The vector keeps its length and a least cosine to its
identity's. A sample has converged when the attributes of its *stored* image, the decoded JPEG, are
within tolerance of their targets; it then stops. One that has not after the last step follows a
policy.

Samples are computed ``slots`` at a time, and a sample always in the slot of its place modulo
``slots``: each slot works off its own queue, and a free slot computes the sample of another one. So
the bytes of a sample depend on its number only, not on those beside it. Another number of slots may
round otherwise, and optimisation magnifies that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vec2face.faces.images import decode, encode, to_tensor, to_uint8

REACH = 0.2  # of a vector's length: the furthest step, as gradients tell little of what is far off


@dataclass(frozen=True)
class Attribute:
    """How one attribute is aimed at.

    Attributes:
        name: of the estimator's output.
        scale: what its error is divided by in the loss, in its unit.
        tolerance: largest error of a converged sample.
        kind: the error is |value - target|, | |value| - target |, or what value lacks of target.
        estimator: the name of the one that is asked; others may have an output of that name, too.
    """

    name: str
    scale: float
    tolerance: float
    kind: Literal["signed", "absolute", "least"]
    estimator: str

    def error(self, values: Tensor, targets: Tensor) -> Tensor:
        """Return errors >= 0 (B,), 0 where a target is nan."""
        wanted = targets.nan_to_num()
        if self.kind == "least":
            error = (wanted - values).relu()
        else:
            error = ((values.abs() if self.kind == "absolute" else values) - wanted).abs()
        return torch.where(targets.isnan(), torch.zeros_like(error), error)


@dataclass(frozen=True)
class Settings:
    """How samples are optimised.

    Attributes:
        attributes: what is aimed at; the columns of targets.
        steps: at most, of each attempt.
        rate: of the step that would end all errors, were they linear.
        identity: weight of the identity loss.
        min_similarity: least cosine of a vector to its identity vector.
        slots: samples computed at a time.
        quality: of the JPEGs.
    """

    attributes: Sequence[Attribute]
    steps: int
    rate: float
    identity: float
    min_similarity: float
    slots: int
    quality: int


@dataclass(frozen=True)
class Networks:
    """What is asked of images (B, 3, S, S) in [-1, 1]; all frozen.

    Attributes:
        generator: ``generator(vectors, drop, mask)`` -> images, differentiable.
        recognizer: images -> features (B, D).
        estimators: by name: images -> {output: (B,)}.
    """

    generator: nn.Module
    recognizer: Callable[[Tensor], Tensor]
    estimators: Mapping[str, Callable[[Tensor], Mapping[str, Tensor]]]
    device: torch.device


@dataclass
class Sample:
    """One image to be.

    Attributes:
        number: which it is.
        place: decides its slot; a function of the number.
        vector: (D,) float32, where it starts.
        identity: (D,) float32, the identity vector.
        targets: (attributes,) float32, nan for those that are left alone.
        drop: (49,) bool, see ``generator.masks``.
        mask: (49,) bool.
    """

    number: int
    place: int
    vector: Tensor
    identity: Tensor
    targets: Tensor
    drop: Tensor
    mask: Tensor


@dataclass
class Result:
    """The image of a sample, as it is stored.

    Attributes:
        number: the sample's.
        jpeg: the image.
        vector: (D,) float32, what the image was drawn from.
        steps: taken until then.
        converged: whether all errors are within tolerance.
        errors: (attributes,) float32, of this very image.
        cosine: of the image's feature to the identity vector.
        ended: whether its loop ended by itself; that of the released code may reach its bound.
    """

    number: int
    jpeg: bytes
    vector: np.ndarray
    steps: int
    converged: bool
    errors: np.ndarray
    cosine: float
    ended: bool = True

    def better_than(self, other: "Result | None", scales: np.ndarray) -> bool:
        """Whether its errors, over their scales, are together less than another's."""
        if other is None:
            return True
        mine, others = ((r.errors / scales).sum() for r in (self, other))
        return bool(mine < others) or not np.isfinite(others)


def optimise(networks: Networks, samples: Sequence[Sample], settings: Settings) -> Iterator[Result]:
    """Optimise samples; yield a result for each, in the order in which they end.

    That of a sample which does not converge is the best image on its way. A sample whose loss is
    not finite ends there.
    """
    slots = [_Slot(samples, number, settings) for number in range(settings.slots)]
    while any(not slot.done for slot in slots):
        gradients, seen = _step(networks, _stack(slots), settings)
        for number, slot in enumerate(slots):
            if not slot.done:
                result = slot.take(seen, gradients, number)
                if result is not None:
                    yield result


@dataclass
class _Seen:
    """What a pass has shown, of each slot."""

    jpegs: list[bytes]
    errors: Tensor  # (slots, attributes)
    cosines: Tensor  # (slots,)
    losses: Tensor  # (slots,)


@dataclass
class _State:
    vectors: Tensor
    identities: Tensor
    targets: Tensor
    drop: Tensor
    mask: Tensor


def _stack(slots: Sequence["_Slot"]) -> _State:
    """Gather what the slots hold; a free one shows the sample of another."""
    spare = next(slot for slot in slots if not slot.done)
    full = [spare if slot.done else slot for slot in slots]
    samples = [slot.sample for slot in full if slot.sample is not None]
    names = "identity", "targets", "drop", "mask"
    rest = (torch.stack([getattr(sample, name) for sample in samples]) for name in names)
    return _State(torch.stack([slot.vector for slot in full]), *rest)


def store(images: Tensor, quality: int) -> tuple[list[bytes], Tensor]:
    """Return images (B, 3, S, S) as JPEGs, and what these decode to, on the device of images."""
    jpegs = [encode(pixels, quality) for pixels in to_uint8(images.detach().float().cpu())]
    stored = to_tensor(np.stack([decode(jpeg, "an image of AttrOP") for jpeg in jpegs]))
    return jpegs, stored.to(images)


def look(
    networks: Networks, attributes: Sequence[Attribute], images: Tensor, identities: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the cosines (B,) of images to identities (B, D), and their attributes (B,) by name."""
    cosines = functional.cosine_similarity(networks.recognizer(images), identities)
    asked = dict.fromkeys(attribute.estimator for attribute in attributes)
    seen = {name: networks.estimators[name](images) for name in asked}
    return cosines, {a.name: seen[a.estimator][a.name] for a in attributes}


def _step(networks: Networks, state: _State, settings: Settings) -> tuple[Tensor, _Seen]:
    """Draw the images and look at them as they would be stored; return gradients of the losses."""
    device = networks.device
    vectors = state.vectors.to(device).requires_grad_()
    targets, identities = state.targets.to(device), state.identities.to(device)
    images = networks.generator(vectors, state.drop.to(device), state.mask.to(device))
    jpegs, stored = store(images, settings.quality)
    # The estimators see the stored image; its gradient is that of the image it was made of.
    shown = images + (stored - images).detach()
    cosines, values = look(networks, settings.attributes, shown, identities)
    errors = torch.stack(
        [a.error(values[a.name], targets[:, k]) for k, a in enumerate(settings.attributes)], 1
    )
    scales = torch.tensor([a.scale for a in settings.attributes]).to(errors)
    losses = settings.identity * (1 - cosines) + (errors / scales).sum(1)
    (gradients,) = torch.autograd.grad(losses.sum(), vectors)
    seen = _Seen(jpegs, errors.detach().cpu(), cosines.detach().cpu(), losses.detach().cpu())
    return gradients.cpu(), seen


class _Slot:
    """One place in the micro-batch, and the queue of its samples."""

    def __init__(self, samples: Sequence[Sample], number: int, settings: Settings) -> None:
        self.settings = settings
        self.queue = [s for s in samples if s.place % settings.slots == number][::-1]
        self.scales = np.array([a.scale for a in settings.attributes], np.float32)
        self.tolerances = torch.tensor([a.tolerance for a in settings.attributes])
        self.sample: Sample | None = None
        self._next()

    @property
    def done(self) -> bool:
        return self.sample is None

    def _next(self) -> None:
        self.sample = self.queue.pop() if self.queue else None
        self.steps = 0
        self.best: Result | None = None
        if self.sample is not None:
            self.vector = self.sample.vector.clone()

    def take(self, seen: _Seen, gradients: Tensor, number: int) -> Result | None:
        """Take in what was seen of the sample; move its vector, or end it and take the next."""
        assert self.sample is not None
        errors = seen.errors[number]
        result = Result(
            self.sample.number,
            seen.jpegs[number],
            self.vector.numpy().copy(),
            self.steps,
            bool((errors <= self.tolerances).all()),
            errors.numpy().copy(),
            float(seen.cosines[number]),
        )
        if result.better_than(self.best, self.scales):
            self.best = result
        lost = not (seen.losses[number].isfinite() and gradients[number].isfinite().all())
        if result.converged or lost or self.steps >= self.settings.steps:
            # An image within all tolerances may be further off, in scales, than one before it.
            kept = result if result.converged else self.best
            self._next()
            return kept
        self._move(gradients[number], float((result.errors / self.scales).sum()))
        return None

    def _move(self, gradient: Tensor, lacking: float) -> None:
        assert self.sample is not None
        self.steps += 1
        slope = max(float(gradient.norm()), 1e-30)
        size = min(self.settings.rate * lacking / slope, REACH * float(self.vector.norm()))
        moved = self.vector - size / slope * gradient
        self.vector = keep(moved, self.sample, self.settings.min_similarity)


def keep(vector: Tensor, sample: Sample, min_similarity: float) -> Tensor:
    """Return the vector of the sample's length and at least that cosine to its identity's.

    A vector outside of the cone is turned to its surface, in the plane of the two. Sums are in
    float64, and the float32 result keeps the bound.
    """
    length = sample.vector.double().norm()
    axis = sample.identity.double()
    axis = axis / axis.norm()
    x = vector.double()
    along = x @ axis
    across = x - along * axis
    inside = min_similarity + 1e-6
    if min_similarity > -1 and along < inside * x.norm():
        across = across / across.norm().clamp_min(1e-30)
        x = inside * axis + (1 - inside**2) ** 0.5 * across
    return (x * (length / x.norm())).float()
