"""AttrOP as it is printed (paper, Algorithm 1) and as the released code does it, to compare with.

Both move a batch at once, look at the images as drawn, and bound neither length nor angle of the
vectors. What their results tell is of the stored images, as in ``attrop.optimise``.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from vec2face.dataset.attrop import (
    Attribute,
    Networks,
    Result,
    Sample,
    Settings,
    look,
    optimise,
    store,
)
from vec2face.generator.masks import masks

# The released code's seed, mask ratios (minimum, maximum, mean), largest mean identity loss with
# which its loop ends, and degrees to which it clips yaws.
SEED, RATIOS, IDENTITY, YAW = 18, (0.1, 1.0, 0.15), 0.3, 90.0

Mode = Literal["ours", "printed", "released"]


def optimise_as(
    mode: Mode, networks: Networks, samples: Sequence[Sample], settings: Settings
) -> Iterator[Result]:
    """Make the images of samples in one of the three ways.

    The batches of printed and released are ``slots`` samples in a row that have the same targets.
    """
    if mode == "ours":
        yield from optimise(networks, samples, settings)
        return
    loop = printed if mode == "printed" else released
    for _, alike in groupby(sorted(samples, key=_wanted), _wanted):
        batch = list(alike)
        for first in range(0, len(batch), settings.slots):
            yield from loop(networks, batch[first : first + settings.slots], settings)


def _wanted(sample: Sample) -> list[str]:
    return [str(target) for target in sample.targets.tolist()]  # nan is not nan, but "nan" is


def printed(networks: Networks, samples: Sequence[Sample], settings: Settings) -> list[Result]:
    """Take ``steps`` steps of plain descent, v' <- v' - rate * gradient of equation 5.

    The terms have no weights, and that of a least value goes on below zero: more quality is always
    better. There is no condition; the last image is kept.
    """
    vectors, identities, targets = _stack(networks, samples, "vector", "identity", "targets")
    covered = _stack(networks, samples, "drop", "mask")
    for _ in range(settings.steps):
        vectors.requires_grad_()
        images = networks.generator(vectors, *covered)
        cosines, values = look(networks, settings.attributes, images, identities)
        losses = 1 - cosines
        for k, attribute in enumerate(settings.attributes):
            losses = losses + _term(attribute, values[attribute.name], targets[:, k])
        (gradients,) = torch.autograd.grad(losses.sum(), vectors)
        vectors = (vectors - settings.rate * gradients).detach()
    with torch.no_grad():
        images = networks.generator(vectors, *covered)
    return _results(networks, samples, settings, vectors, images, settings.steps)


def _term(attribute: Attribute, values: Tensor, targets: Tensor) -> Tensor:
    if attribute.kind == "least":
        return torch.where(targets.isnan(), torch.zeros_like(values), targets - values)
    return attribute.error(values, targets)


def released(
    networks: Networks,
    samples: Sequence[Sample],
    settings: Settings,
    identity_loss: float = IDENTITY,
) -> list[Result]:
    """Move a batch by one Adam until its *mean* errors are within tolerance.

    The step is taken even then. Masks are drawn anew for each image, also for the last one, at
    which the loop does not look. One target out of reach, or a mean held up by one image, keeps it
    from ending; here it stops after ``steps``, and its results are not ``ended``.

    Args:
        networks: see ``Networks``.
        samples: a batch, whose ``drop`` and ``mask`` are not used.
        settings: ``rate`` is Adam's, in the unit of the vectors.
        identity_loss: largest mean of 1 - cosine with which the loop ends.
    """
    vectors, identities, targets = _stack(networks, samples, "vector", "identity", "targets")
    optimizer = torch.optim.Adam([vectors.requires_grad_()], settings.rate)
    tolerances = torch.tensor([a.tolerance for a in settings.attributes]).to(vectors)
    scales = torch.tensor([a.scale for a in settings.attributes]).to(vectors)

    def draw(iteration: int) -> Tensor:
        purpose = f"attrop {samples[0].number} {iteration}"
        covered = masks(SEED, 0, len(samples), *RATIOS, purpose, ratio_shared_by=len(samples))
        images: Tensor = networks.generator(vectors, *(m.to(networks.device) for m in covered))
        return images.clamp(-1, 1)

    steps, ended = 0, False
    while not ended and steps < settings.steps:
        cosines, values = look(networks, settings.attributes, draw(steps), identities)
        if "yaw" in values:
            values["yaw"] = values["yaw"].clamp(-YAW, YAW)
        identity = (1 - cosines).mean()
        errors = _errors(settings, values, targets).mean(0)
        loss = settings.identity * identity + (errors / scales).sum()
        (vectors.grad,) = torch.autograd.grad(loss, vectors)
        optimizer.step()
        steps += 1
        ended = not ((errors > tolerances).any() or identity > identity_loss)  # nan ends it, too
    with torch.no_grad():
        images = draw(steps)
    return _results(networks, samples, settings, vectors.detach(), images, steps, ended=ended)


def _stack(networks: Networks, samples: Sequence[Sample], *names: str) -> list[Tensor]:
    rows = ([getattr(sample, name) for sample in samples] for name in names)
    return [torch.stack(row).to(networks.device) for row in rows]


def _errors(settings: Settings, values: dict[str, Tensor], targets: Tensor) -> Tensor:
    found = [a.error(values[a.name], targets[:, k]) for k, a in enumerate(settings.attributes)]
    return torch.stack(found, 1)


def _results(
    networks: Networks,
    samples: Sequence[Sample],
    settings: Settings,
    vectors: Tensor,
    images: Tensor,
    steps: int,
    *,
    ended: bool = True,
) -> list[Result]:
    """Store images and look at them as stored."""
    identities, targets = _stack(networks, samples, "identity", "targets")
    jpegs, stored = store(images, settings.quality)
    with torch.no_grad():
        cosines, values = look(networks, settings.attributes, stored, identities)
        errors = _errors(settings, values, targets).cpu()
    tolerances = torch.tensor([a.tolerance for a in settings.attributes])
    return [
        Result(
            sample.number,
            jpeg,
            vector.numpy(),
            steps,
            bool((error <= tolerances).all()),
            error.numpy(),
            float(cosine),
            ended,
        )
        for sample, jpeg, vector, error, cosine in zip(
            samples, jpegs, vectors.cpu(), errors, cosines, strict=True
        )
    ]
