"""What AttrOP has reached, as figures of each group of images.

Counts are sums over images, so that those of shards add up; ``summarise`` makes means of them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from vec2face.dataset.attrop import Attribute, Result
from vec2face.faces.images import decode, to_tensor

BATCH = 64  # images that a judge sees at a time

Look = Callable[[torch.Tensor], Mapping[str, torch.Tensor]]
"""Images (B, 3, S, S) in [-1, 1] -> {output: (B,)}."""
Aims = Sequence[Mapping[str, float]]
"""For each group the targets of its attributes, by their names."""


def count(
    found: Mapping[int, Result],
    groups: Mapping[int, int],
    attempts: Mapping[int, int],
    aims: Aims,
    attributes: Sequence[Attribute],
) -> Counter[str]:
    """Return sums over results, for each group g ``g/images``, ``g/converged``, ``g/steps``, ...

    Args:
        found: results by number.
        groups: the group of each number.
        attempts: how often each was tried.
        aims: of the groups.
        attributes: of the results' errors.
    """
    counts: Counter[str] = Counter()
    for number, result in found.items():
        group = groups[number]
        sums = {
            "images": 1.0,
            "converged": float(result.converged),
            "steps": float(result.steps),
            "attempts": float(attempts[number]),
            "cosine": result.cosine,
            "ended": float(result.ended),
        }
        for k, attribute in enumerate(attributes):
            if attribute.name in aims[group]:
                sums[f"{attribute.name}_error"] = float(result.errors[k])
        for key, value in sums.items():
            counts[f"{group}/{key}"] += value  # type: ignore[assignment]
    return counts


def judge(
    found: Mapping[int, Result],
    groups: Mapping[int, int],
    aims: Aims,
    attribute: Attribute,
    look: Look,
    device: torch.device,
) -> Counter[str]:
    """Return what an estimator that no loss has seen says of the stored images, as sums.

    Its mean error, what values exceed targets by, and the share within twice the tolerance:
    ``g/<name>_second_error``, ``..._bias`` and ``..._within``.
    """
    counts: Counter[str] = Counter()
    numbers = [n for n in sorted(found) if attribute.name in aims[groups[n]]]
    for first in range(0, len(numbers), BATCH):
        some = numbers[first : first + BATCH]
        images = to_tensor(np.stack([decode(found[n].jpeg, f"image {n}") for n in some]))
        with torch.inference_mode():
            values = look(images.to(device))[attribute.name].cpu()
        targets = torch.tensor([aims[groups[n]][attribute.name] for n in some])
        errors = attribute.error(values, targets)
        figures = {
            "error": errors,
            "bias": (values.abs() if attribute.kind == "absolute" else values) - targets,
            "within": errors <= 2 * attribute.tolerance,
        }
        for key, of_images in figures.items():
            for n, value in zip(some, of_images.tolist(), strict=True):
                counts[f"{groups[n]}/{attribute.name}_second_{key}"] += value
    return counts


def summarise(
    counts: Mapping[str, float], aims: Aims, judged: Sequence[str], *, ended: bool, dropped: bool
) -> dict[str, float]:
    """Return the metrics of all images' counts, for each group g under ``attrop_<g>_...``.

    ``images``, those of the data set; ``astray``, how many more were given up because their vectors
    came nearer to another identity; ``converged``, the share of ``images``; ``steps``,
    ``attempts``, ``cosine`` and ``<name>_error``, means.

    Args:
        counts: sums of ``count`` and ``judge``, ``g/astray`` and ``g/dropped``.
        aims: of the groups.
        judged: names of attributes that have a judge: ``<name>_second_...`` of them.
        ended: whether to say ``ended``, the share of images whose loop ended by itself.
        dropped: whether to say ``dropped``, how many images were left out.
    """
    metrics: dict[str, float] = {}
    for group, wanted in enumerate(aims):
        images = counts.get(f"{group}/images", 0)
        metrics[f"attrop_{group}_images"] = int(images)
        metrics[f"attrop_{group}_astray"] = int(counts.get(f"{group}/astray", 0))
        if dropped:
            metrics[f"attrop_{group}_dropped"] = int(counts.get(f"{group}/dropped", 0))
        keys = ["converged", "steps", "attempts", "cosine", *(["ended"] if ended else [])]
        for name in wanted:
            second = ("second_error", "second_bias", "second_within") if name in judged else ()
            keys += [f"{name}_{key}" for key in ("error", *second)]
        if images:
            metrics |= {f"attrop_{group}_{key}": counts[f"{group}/{key}"] / images for key in keys}
    return metrics
