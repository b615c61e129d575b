"""Training that several processes share: who computes what, and what they must agree upon.

A step's batch is cut into micro-batches. They are the unit of computation: whatever is not linear
in the images (dropout, batch norms, adaptive weights) is a function of a micro-batch and of its
number, and the step's gradient is the mean over all of them. How many processes share them, or
share each of them, therefore changes nothing but the order in which numbers are added up.

    network = synchronised(network, processes(), compiled=False)
    parts = rounds(batch, micro_batch, processes())
    for number, part in parts:
        torch.manual_seed(torch_seed(seed, "dropout", step, number))
        with last_round(network, is_last=number == parts[-1][0]):
            (loss(network(images[part])) / len(parts)).backward()
    norm = clip(network.parameters(), [], 2.0, processes())
"""

import contextlib
import logging
import math
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vec2face.runtime.files import InputError
from vec2face.runtime.processes import Group, processes

log = logging.getLogger(__name__)


def rounds(
    batch: int,
    micro_batch: int | None,
    group: Group,
    section: str = "training",
    *,
    divisible: bool = False,
) -> list[tuple[int, slice]]:
    """Return (number, part of the batch) of each micro-batch that this process computes, in order.

    Micro-batch m is computed by rank m mod size, in round m // size. If their number is no multiple
    of the processes', every process may compute a part of each, in the order of the ranks.

    Args:
        batch: images in a step, of all processes together.
        micro_batch: images in a micro-batch; None for all of the batch.
        group: this process among the others.
        section: of params.yaml that the sizes come from, for messages.
        divisible: whether processes may share one micro-batch.

    Raises:
        InputError: the batch cannot be cut so, or the processes cannot share it evenly.
    """
    size = micro_batch or batch
    if batch % size:
        raise InputError(
            f"{section}.micro_batch: {size} does not divide {section}.batch = {batch}; "
            "choose a divisor"
        )
    count = batch // size
    if divisible and count % group.size and size % group.size == 0:
        own = group.share(size)
        return [(m, slice(m * size + own.start, m * size + own.stop)) for m in range(count)]
    if count % group.size:
        fitting = [m for m in range(1, batch + 1) if batch % (m * group.size) == 0]
        remedy = (
            f"set it to {fitting[-1]} or a divisor of that"
            if fitting
            else f"set {section}.batch to a multiple of {group.size} and micro_batch to a share"
        )
        raise InputError(
            f"{section}.micro_batch: {group.size} processes cannot share {count} micro-batch"
            f"{'es' * (count > 1)} of {size} images evenly; {remedy}, or start another number of "
            "processes (VEC2FACE_PROCESSES)"
        )
    numbers = range(group.rank, count, group.size)
    return [(m, slice(m * size, (m + 1) * size)) for m in numbers]


def synchronised(module: nn.Module, group: Group, compiled: bool) -> nn.Module:
    """Return ``module`` so that a backward pass averages its gradients over all processes.

    It starts with the weights of rank 0 everywhere. Buffers stay each process's own. With
    ``compiled`` it runs through ``torch.compile``; ``module`` itself stays as it is.
    """
    if compiled:
        module = torch.compile(module)  # type: ignore[assignment]
    if group.size == 1:
        return module
    return DistributedDataParallel(
        module,
        device_ids=[group.device] if group.device.type == "cuda" else None,
        forward_sync_buffers=False,
        gradient_as_bucket_view=True,
    )


def last_round(module: nn.Module, is_last: bool) -> AbstractContextManager[None]:
    """Return the context of one micro-batch's forward and backward pass.

    Gradients add up on each process and are averaged over the processes in the last round alone.
    """
    if is_last or not isinstance(module, DistributedDataParallel):
        return contextlib.nullcontext()
    return module.no_sync()


@torch.no_grad()
def clip(
    replicated: Iterable[Tensor], sharded: Iterable[Tensor], largest: float, group: Group
) -> float:
    """Scale gradients down, in place, to a norm of at most ``largest``.

    Args:
        replicated: parameters that every process has, with the same gradients.
        sharded: parameters of which each process has its own part.
        largest: norm of all gradients together, each part counted once.
        group: this process among the others.

    Returns:
        The norm before, the same on every process. If it is not finite, no gradient is touched.
    """
    replicated, sharded = list(replicated), list(sharded)
    common = [p.grad for p in replicated if p.grad is not None]
    parts = [p.grad for p in sharded if p.grad is not None]
    if group.size == 1:
        norm = nn.utils.get_total_norm(common + parts)
    else:  # not every process need have a part
        squares = group.sum(nn.utils.get_total_norm(parts).to(group.device) ** 2)
        norm = (nn.utils.get_total_norm(common).to(group.device) ** 2 + squares).sqrt()
    found = norm.item()
    if math.isfinite(found):
        nn.utils.clip_grads_with_norm_([*replicated, *sharded], largest, norm)
    return found


def agree(group: Group, fine: bool) -> bool:
    """Return whether all processes are ``fine``, the same on each; they all have to ask."""
    wrong = torch.tensor(float(not fine), device=group.device)
    return group.sum(wrong).item() == 0


class Patience:
    """What becomes of steps whose loss or gradient is not finite.

    Such a step updates nothing: no weight, moment, average or running statistic. The state before
    it is the last good one (a replay from the checkpoint before would give the same bits), so the
    training goes on from there with the offending batch left out. All processes decide alike
    (``agree``). When that happens repeatedly, something is wrong with the run, and it stops.

    Args:
        section: of params.yaml, which the error names: "training", "fr".
        limit: the training stops at this many left-out steps ...
        window: ... within this many steps.

    Attributes:
        skipped: the steps left out so far; part of the checkpoint.
    """

    def __init__(self, section: str, limit: int = 3, window: int = 100) -> None:
        self.section, self.limit, self.window = section, limit, window
        self.skipped: list[int] = []

    def skip(self, step: int, indices: Iterable[int], values: Mapping[str, float]) -> None:
        """Report that ``step`` is left out, and remember it.

        Args:
            step: its number.
            indices: the images of its batch that are to blame; all if that is not known.
            values: its losses and gradient norms.

        Raises:
            InputError: too many steps were left out of late.
        """
        self.skipped.append(step)
        found = ", ".join(f"{name} {value:g}" for name, value in values.items())
        what = f"step {step} is left out: {found}; on images {[int(i) for i in indices]}"
        recent = [s for s in self.skipped if step - self.window < s <= step]
        if len(recent) >= self.limit:
            raise InputError(
                f"{what}; so were steps {recent[:-1]}. Lower the learning rate ({self.section}.lr) "
                f"or raise {self.section}.warmup, choose a wider {self.section}.precision "
                "(float32), or remove those images"
            )
        if processes().main:
            log.warning("%s", what)

    def state_dict(self) -> dict[str, Any]:
        """Return what a continued run needs."""
        return {"skipped": list(self.skipped)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned."""
        self.skipped = list(state["skipped"])
