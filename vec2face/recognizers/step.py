"""One step of a recognizer's training: backbone, margin head, SGD, on any number of processes."""

import copy
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vec2face.config import RecognizerConfig
from vec2face.randomness import torch_seed
from vec2face.recognizers.backbones import architecture, build_backbone
from vec2face.recognizers.heads import build_head
from vec2face.recognizers.partial_fc import PartialFC
from vec2face.runtime.parallel import clip, last_round, rounds, synchronised
from vec2face.runtime.processes import Group


def rate(step: int, steps_per_epoch: int, config: RecognizerConfig) -> float:
    """Return the learning rate of a step of the whole training."""
    epoch = step / steps_per_epoch
    if epoch < config.warmup:
        return config.lr * (step + 1) / (config.warmup * steps_per_epoch + 1)
    if config.schedule == "cosine":
        done = (epoch - config.warmup) / max(config.epochs - config.warmup, 1e-9)
        return config.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    points = [m if m >= 1 else m * config.epochs for m in config.milestones]
    return config.lr * 0.1 ** sum(epoch >= point for point in points)


class Step(NamedTuple):
    """What a step found; the same on every process.

    Attributes:
        loss: mean over the batch.
        right: images nearest to their own identity, margin applied.
        norm: of the gradient, before clipping.
    """

    loss: float
    right: float
    norm: float

    @property
    def taken(self) -> bool:
        """Whether the step changed anything: only if loss and gradient were finite."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class RecognizerRun:
    """Backbone, head and optimiser, and one step of their training.

    Args:
        config: of the training.
        image_size: side of the input in pixels.
        classes: number of identities.
        batch: images in a step of all processes together.
        seed: of dropout and of the choice of negatives; start weights are drawn from PyTorch's
            global generator.
        group: this process among the others.

    Attributes:
        backbone: the network that is trained, whatever wraps it.
        rounds: (number, part of the batch) of this process's micro-batches.
    """

    def __init__(
        self,
        config: RecognizerConfig,
        image_size: int,
        classes: int,
        batch: int,
        seed: int,
        group: Group,
    ) -> None:
        self.seed = seed
        self.group = group
        self.clip = config.clip
        self.rounds = rounds(batch, config.micro_batch, group, "fr")
        backbone = build_backbone(**architecture(config, image_size)).to(group.device)
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.backbone.train()
        self.network = synchronised(
            torch.compile(self.backbone) if config.compile else self.backbone,  # type: ignore[arg-type]
            group,
        )
        with torch.device("meta"):
            head = build_head(
                config.head, config.embedding, classes, scale=config.scale, margin=config.margin
            )
        sgd: dict[str, Any] = {"momentum": config.momentum, "weight_decay": config.weight_decay}
        self.head = PartialFC(head, group, seed=seed, sample_rate=config.sample_rate, **sgd)
        self.parameters = [p for p in self.backbone.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters if p.ndim > 1]},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(groups, lr=config.lr, **sgd)
        self.precision = getattr(torch, config.precision)
        kind = group.device.type
        self.scaler = torch.amp.GradScaler(kind, enabled=self.precision == torch.float16)
        self.autocast = torch.autocast(
            kind, self.precision, enabled=self.precision != torch.float32
        )
        self.statistics = RunningStatistics(self.backbone)

    def step(self, step: int, pictures: list[Tensor], labels: Tensor, rate: float) -> Step:
        """Take one step, unless loss or gradient are not finite: then all stays as it was.

        With float16 a gradient may overflow only because of the factor that keeps small ones alive;
        then it is computed again with half the factor.

        Args:
            step: its number.
            pictures: of each of this process's micro-batches, (micro-batch, 3, S, S) in [-1, 1].
            labels: (batch,) int64 of all micro-batches of all processes.
            rate: learning rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.statistics.begin()
        while True:
            loss, right = self._gradients(step, pictures, labels)
            norm = clip(self.parameters, [self.head.rows], self.clip, self.group)
            found = Step(loss, right, norm)
            if found.taken:
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.head.update(rate)
                return found
            self.statistics.restore()
            factor = self.scaler.get_scale()
            again = math.isfinite(loss) and factor > 1
            self.scaler.update(factor / 2 if again else factor)
            if not again:
                return found

    def _gradients(self, step: int, pictures: list[Tensor], labels: Tensor) -> tuple[float, float]:
        """Compute the mean gradient over all micro-batches; return the loss and the right ones."""
        self.optimizer.zero_grad()
        self.head.begin(step, labels)
        found = torch.zeros(2, device=self.group.device)
        moved = torch.zeros_like(self.statistics.flat())
        for (number, part), images in zip(self.rounds, pictures, strict=True):
            torch.manual_seed(torch_seed(self.seed, "dropout", step, number))
            self.statistics.restore()
            with last_round(self.network, is_last=number == self.rounds[-1][0]):
                with self.autocast:
                    embeddings = self.network(images.to(self.group.device))
                loss, value, right = self.head.loss(embeddings, labels[part].to(self.group.device))
                self.scaler.scale(loss / len(self.rounds)).backward()
            found += torch.stack([value, right])
            moved += self.statistics.flat()
        self.statistics.end(self.group.sum(moved) / (len(self.rounds) * self.group.size))
        self.scaler.unscale_(self.optimizer)
        assert self.head.rows.grad is not None
        self.head.rows.grad.div_(self.scaler.get_scale())
        loss, right = found.tolist()
        return loss / len(self.rounds), right

    def state(self) -> dict[str, Any]:
        """Return all that a continued run needs, on the first process; all call this together."""
        return {
            "backbone": self.backbone.state_dict(),
            "head": self.head.state(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned, maybe to another number of processes."""
        self.backbone.load_state_dict(state["backbone"])
        self.head.load(state["head"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # it keeps the tensors
        self.scaler.load_state_dict(state["scaler"])


class RunningStatistics:
    """The buffers of batch norms through a step of several micro-batches.

    A batch norm moves its statistics with every forward pass, so that they would depend on how many
    passes a process makes. Here all micro-batches start from those of the step's beginning, and the
    step ends with the mean of what they made of them.
    """

    def __init__(self, network: nn.Module) -> None:
        self.buffers = list(network.buffers())
        self.averaged = [b for b in self.buffers if b.is_floating_point()]  # not the counters

    @torch.no_grad()
    def begin(self) -> None:
        """Begin a step."""
        self.before = [b.clone() for b in self.buffers]

    @torch.no_grad()
    def restore(self) -> None:
        """Go back to the step's beginning, for its first or next micro-batch."""
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(before)

    def flat(self) -> Tensor:
        """Return a copy of what the last micro-batch made of them."""
        parts = [b.flatten() for b in self.averaged]
        return torch.cat(parts) if parts else torch.zeros(0)  # some networks have none

    @torch.no_grad()
    def end(self, mean: Tensor) -> None:
        """Take over the mean of ``flat`` over all micro-batches."""
        for buffer, new in zip(
            self.averaged, mean.split([b.numel() for b in self.averaged]), strict=True
        ):
            buffer.copy_(new.view_as(buffer))
