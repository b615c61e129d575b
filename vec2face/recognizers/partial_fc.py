"""PartialFC: a margin head whose identities are spread over the processes.

With hundreds of thousands of identities the head outgrows the backbone: weights, momentum and
logits of 300 000 identities take gigabytes. So each process holds the directions of its share of
the identities, sees the embeddings of all images, and computes its columns of the logits; only
three numbers an image are exchanged for the softmax (An et al., "Partial FC", ICCV workshops 2021).
A step also need not compare with every identity (An et al., "Killing two birds with one stone",
CVPR 2022): a share of the negatives takes part, and the images' own identities always do.
Identities that sit out a step are left as they are, momentum and weight decay included.

Nothing depends on how many processes there are: start weights are cut from one draw, and which
negatives take part is a function of the seed, the step and the identity.

    head = PartialFC(build_head("arcface", 512, 300_000), processes(), seed=0, sample_rate=0.3)
    head.begin(step, labels)                              # of the whole batch
    loss, value, right = head.loss(embeddings, labels)    # of a micro-batch; then loss.backward()
    head.update(rate)
"""

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy

from vec2face.randomness import stream
from vec2face.recognizers.margins import MarginHead
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import Group

BLOCK = 1 << 14
"""Rows drawn, sent or received at once; a multiple of 16 (see ``initial_rows``)."""


class PartialFC:
    """This process's share of a head, and its SGD.

    Args:
        head: the rule; only the shape of its weight is used, so it may lie on ``meta``.
        group: this process among the others; its identities are ``group.share``.
        seed: of the choice of negatives.
        sample_rate: probability that an identity without an image in a batch takes part.
        momentum: of SGD.
        weight_decay: of SGD.
        micro_batch: images whose running means a head takes together; None for all of a call.
        device: where the weights lie; default the group's.

    The start weights are drawn from PyTorch's global generator, which moves on by the whole head.

    Attributes:
        weight: (share, embedding), the directions of this process's identities.
        momentum: (share, embedding), of SGD.
        rows: (active, embedding), those that take part in this step; they get the gradients.

    Raises:
        ValueError: a sample rate outside (0, 1].
        InputError: more processes than identities.
    """

    def __init__(
        self,
        head: MarginHead,
        group: Group,
        *,
        seed: int,
        sample_rate: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        micro_batch: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if not 0 < sample_rate <= 1:
            raise ValueError(f"sample_rate is in (0, 1], not {sample_rate}")
        if len(head.weight) < group.size:
            raise InputError(
                f"{len(head.weight)} identities cannot be spread over {group.size} processes; "
                "start fewer (VEC2FACE_PROCESSES)"
            )
        self.head = head
        for name, buffer in head.named_buffers():  # running means, of all identities
            setattr(head, name, buffer.to(device or group.device))
        self.group = group
        self.micro_batch = micro_batch
        self.seed = seed
        self.sample_rate = sample_rate
        self.factors = momentum, weight_decay
        self.classes, embedding = head.weight.shape
        self.share = group.share(self.classes)
        self.weight = initial_rows(self.classes, embedding, self.share).to(device or group.device)
        self.momentum = torch.zeros_like(self.weight)
        self.rows = self.weight
        self.active: Tensor | None = None  # numbers of the rows in the share; None for all
        self.place: Tensor | None = None  # of every identity of the share among the rows

    def begin(self, step: int, labels: Tensor) -> None:
        """Choose the identities of a step.

        Args:
            step: its number.
            labels: int64, of all images of the step on all processes; on the CPU.
        """
        rows = self.weight
        if self.sample_rate < 1:
            chosen = negatives(self.seed, step, self.share, self.sample_rate)
            here = labels[(labels >= self.share.start) & (labels < self.share.stop)]
            chosen[here - self.share.start] = True
            self.active = chosen.nonzero()[:, 0].to(rows.device)
            self.place = (chosen.cumsum(0) - 1).to(rows.device)
            rows = rows[self.active]
        self.rows = rows.detach().requires_grad_()

    def loss(self, embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the mean loss of the images of all processes, which call this together.

        Args:
            embeddings: (B, embedding), as many on every process.
            labels: (B,) int64, all of them among the labels that the step began with.

        Returns:
            A scalar for ``backward``, the loss, and how many images were nearest to their identity;
            the last two are the same on every process and have no gradient. Gradients to ``rows``
            are those of the loss; gradients to embeddings are ``group.size`` times those, because
            DistributedDataParallel takes the mean over processes where the sum is due.
        """
        if self.group.size > 1:
            embeddings = _Gather.apply(embeddings.to(_at_least_float32(embeddings)), self.group)
            labels = gather_rows(labels, self.group)
        own = labels - self.share.start
        own = torch.where((own >= 0) & (own < len(self.share)), own, -1)
        if self.place is not None:
            own = torch.where(own >= 0, self.place[own], -1)
        parts = len(embeddings) // (self.micro_batch or len(embeddings))
        logits, penalty = self.head(embeddings, own, self.rows, parts=parts, total=self.group.sum)
        if self.group.size > 1:
            loss, right = _CrossEntropy.apply(logits, own)
        else:
            loss, right = cross_entropy(logits, own), (logits.argmax(1) == own).sum()
        # Every process computes the penalty of all images, and gives its part of the gradient.
        return loss + penalty / self.group.size, (loss + penalty).detach(), right

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """Take SGD's step with the gradients of ``rows``, at this learning rate."""
        gradient, (momentum, weight_decay) = self.rows.grad, self.factors
        assert gradient is not None
        speed = self.momentum if self.active is None else self.momentum[self.active]
        speed.mul_(momentum).add_(gradient.add_(self.rows, alpha=weight_decay))
        self.rows.add_(speed, alpha=-rate)
        if self.active is not None:
            self.momentum[self.active], self.weight[self.active] = speed, self.rows

    def state(self) -> dict[str, Tensor]:
        """Return the whole head's weights, momentum and buffers on the first; all call together.

        The other processes get empty tensors. A state does not say how many processes there were.
        """
        parts = {"weight": self.weight, "momentum": self.momentum}
        whole = {name: _collect(rows, self.classes, self.group) for name, rows in parts.items()}
        return whole | dict(self.head.named_buffers())

    def load(self, state: dict[str, Tensor]) -> None:
        """Take this process's share of what ``state`` gave the first."""
        own = slice(self.share.start, self.share.stop)
        self.weight.copy_(state["weight"][own])
        self.momentum.copy_(state["momentum"][own])
        for name, buffer in self.head.named_buffers():
            buffer.copy_(state[name])


def initial_rows(classes: int, embedding: int, share: range) -> Tensor:
    """Return the start weights of some identities: rows of one N(0, 0.01^2) draw of (classes, .).

    The whole is drawn block by block, and equals ``normal_`` of the whole bit by bit: PyTorch turns
    uniform into normal numbers by sixteens, so blocks are multiples of 16 but for the last, which
    must not be shorter. 10 million identities of 512 numbers take about 20 seconds.
    """
    rows = torch.empty(len(share), embedding)
    starts = range(0, max(classes - BLOCK, 0) + 1, BLOCK)
    for first, end in zip(starts, [*starts[1:], classes], strict=True):
        block = torch.empty(end - first, embedding).normal_(std=0.01)
        low, high = max(first, share.start), min(end, share.stop)
        if low < high:
            rows[low - share.start : high - share.start] = block[low - first : high - first]
    return rows


def negatives(seed: int, step: int, share: range, rate: float) -> Tensor:
    """Return which identities of ``share`` are drawn to take part: bool (share,).

    Identity c is, if number c of the stream of (seed, step) is below ``rate``, wherever it lies.
    """
    numbers = stream(seed, "negatives", step)
    before = share.start % 4  # Philox makes four numbers at a time
    numbers.bit_generator.advance(share.start // 4)  # type: ignore[attr-defined]
    return torch.from_numpy(np.less(numbers.random(before + len(share))[before:], rate))


def memory(
    classes: int, embedding: int, world_size: int, batch: int, sample_rate: float = 1.0
) -> dict[str, int]:
    """Return the bytes that a head takes on each process, by part, at a step's highest point.

    Args:
        classes: identities on all processes together.
        embedding: length of the embeddings.
        world_size: processes.
        batch: images of one round on all processes together (a whole batch, unless it is cut into
            micro-batches).
        sample_rate: of the negatives; images are taken to be of different identities.
    """
    share = -(-classes // world_size)
    taking_part = share
    if sample_rate < 1:
        positives = min(-(-batch // world_size), share)
        taking_part = round(positives + sample_rate * (share - positives))
    number = 4  # bytes of a float32
    rows, logits = taking_part * embedding * number, batch * taking_part * number
    return {
        "weights": share * embedding * number,
        "momentum": share * embedding * number,
        "active rows": rows if sample_rate < 1 else 0,  # copies
        "normalised rows": rows,
        # Probabilities with two gradients; when they are gone, what normalising the rows needs.
        "logits or gradients": max(3 * logits, 4 * rows),
        "embeddings": 3 * batch * embedding * number,  # of all processes; normalised; gradients
    }


class _Gather(torch.autograd.Function):
    """Rows of all processes, in the order of their ranks; the gradient comes back summed."""

    @staticmethod
    def forward(ctx, rows: Tensor, group: Group) -> Tensor:
        ctx.size = group.size
        return gather_rows(rows, group)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        own = gradient.new_empty(len(gradient) // ctx.size, *gradient.shape[1:])
        dist.reduce_scatter_single(own, gradient.contiguous())
        return own.mul_(ctx.size), None


class _CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of (B, .) logits whose columns are spread over the processes.

    Labels are columns, -1 on all processes but the one that has the column. The largest logit is
    taken off before exponentials are, and no probability is formed that could round to zero.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        largest = logits.new_full((len(logits),), -torch.inf)
        if logits.shape[1]:
            largest = logits.amax(1)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        shares = logits - largest[:, None]
        here = (labels >= 0).nonzero()[:, 0]
        sums = logits.new_zeros(2, len(logits))
        sums[0, here] = shares[here, labels[here]]
        sums[1] = shares.exp_().sum(1)
        dist.all_reduce(sums)
        true, total = sums
        ctx.save_for_backward(shares.div_(total[:, None]), labels)
        right = (true == 0).sum()
        ctx.mark_non_differentiable(right)
        return (total.log() - true).mean(), right

    @staticmethod
    def backward(ctx, gradient: Tensor, _: Tensor) -> tuple[Tensor, None]:
        shares, labels = ctx.saved_tensors
        here = (labels >= 0).nonzero()[:, 0]
        result = shares.clone()
        result[here, labels[here]] -= 1
        return result.mul_(gradient / len(labels)), None


def _at_least_float32(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def gather_rows(rows: Tensor, group: Group) -> Tensor:
    """Return the rows (B, ...) of all processes, as many on each, in the order of the ranks."""
    together = rows.new_empty(group.size * len(rows), *rows.shape[1:])
    dist.all_gather_single(together, rows.contiguous())
    return together


def _collect(rows: Tensor, classes: int, group: Group) -> Tensor:
    """Return the rows of all processes on the first, on the CPU; nothing on the others."""
    if group.size == 1:
        return rows
    whole = rows.new_empty(classes if group.main else 0, rows.shape[1], device="cpu")
    for rank in range(group.size):
        share = Group(rank, group.size, group.device).share(classes)
        for first in range(share.start, share.stop, BLOCK):
            end = min(first + BLOCK, share.stop)
            own = rows[first - share.start : end - share.start] if rank == group.rank else None
            if own is not None and group.main:
                whole[first:end] = own
            elif own is not None:
                dist.send(own.cpu(), 0)
            elif group.main:
                dist.recv(whole[first:end], rank)
    return whole
