"""One step of a recognizer's training: backbone, margin head, SGD, on any number of processes."""

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vec2face.config.sections import RecognizerConfig
from vec2face.randomness import torch_seed
from vec2face.recognizers.backbones import architecture, build_backbone
from vec2face.recognizers.batches import Batch
from vec2face.recognizers.exchange import exchange
from vec2face.recognizers.heads import build_head
from vec2face.recognizers.partial_fc import PartialFC
from vec2face.runtime.loop import Line, Sums
from vec2face.runtime.parallel import Patience, clip, last_round, rounds, synchronised
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
    return config.lr * 0.1 ** sum(epoch + config.released >= point for point in points)


class RecognizerRun:
    """Backbone, head and optimiser, and one step of their training.

    Args:
        config: of the training.
        image_size: side of the input in pixels.
        labels: (N,) integers 0 .. identities - 1, of the training images.
        seed: of dropout and of the choice of negatives; start weights are drawn from PyTorch's
            global generator.
        group: this process among the others.

    Attributes:
        backbone: the network that is trained, without what wraps it.
        batch: images in a step, of all processes together.
        per_epoch: steps in an epoch.
        rounds: (number, part of the batch) of this process's micro-batches, or of its parts of
            them.
    """

    def __init__(
        self,
        config: RecognizerConfig,
        image_size: int,
        labels: np.ndarray,
        seed: int,
        group: Group,
    ) -> None:
        self.config = config
        self.seed = seed
        self.group = group
        self.batch = min(config.batch, len(labels))
        self.per_epoch = len(labels) // self.batch
        self.rounds = rounds(self.batch, config.micro_batch, group, "fr", divisible=True)
        backbone = build_backbone(**architecture(config, image_size)).to(group.device)
        self.backbone = backbone.to(memory_format=torch.channels_last)
        own = self.rounds[0][1]
        if own.stop - own.start < (config.micro_batch or self.batch):
            exchange(self.backbone, group)
        self.backbone.train()
        self.network = synchronised(self.backbone, group, config.compile)
        with torch.device("meta"):
            shape = config.embedding, int(labels.max()) + 1
            rule: dict[str, Any] = {"scale": config.scale, "margin": config.margin}
            head = build_head(config.head, *shape, **rule, released=config.released)
        sgd: dict[str, Any] = {"momentum": config.momentum, "weight_decay": config.weight_decay}
        self.head = PartialFC(
            head,
            group,
            seed=seed,
            sample_rate=config.sample_rate,
            micro_batch=config.micro_batch,
            **sgd,
        )
        self.parameters = [p for p in self.backbone.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters if p.ndim > 1]},
            {"params": [p for p in self.parameters if p.ndim <= 1]},
        ]
        if not config.released:
            groups[1]["weight_decay"] = 0.0
        self.optimizer = torch.optim.SGD(groups, lr=config.lr, **sgd)
        self.precision = getattr(torch, config.precision)
        kind = group.device.type
        self.scaler = torch.amp.GradScaler(kind, enabled=self.precision == torch.float16)
        self.autocast = torch.autocast(
            kind, self.precision, enabled=self.precision != torch.float32
        )
        self.statistics = RunningStatistics(self.backbone, head)
        self.patience = Patience("fr")

    def step(self, batch: Batch) -> dict[str, float] | None:
        """Take one step, unless loss or gradient are not finite: then all stays as it was.

        With float16 a gradient may overflow only because of the factor that keeps small ones alive;
        then it is computed again with half the factor.

        Returns:
            ``loss``, the mean over the batch, and ``right``, the images nearest to their own
            identity, margin applied; the same on every process. None if the step was left out
            (``parallel.Patience``).

        Raises:
            InputError: that happened repeatedly.
        """
        lr = rate(batch.step, self.per_epoch, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.statistics.begin()
        while True:
            loss, right = self._gradients(batch)
            norm = self._clip()
            if math.isfinite(loss) and math.isfinite(norm):
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.head.update(lr)
                return {"loss": loss, "right": right}
            self.statistics.restore()
            factor = self.scaler.get_scale()
            again = math.isfinite(loss) and factor > 1
            self.scaler.update(factor / 2 if again else factor)
            if not again:
                values = {"loss": loss, "gradient norm": norm}
                self.patience.skip(batch.step, batch.chosen, values)
                return None

    def _gradients(self, batch: Batch) -> tuple[float, float]:
        """Compute the mean gradient over all micro-batches; return the loss and the right ones."""
        self.optimizer.zero_grad()
        self.head.begin(batch.step, batch.labels)
        found = torch.zeros(2, device=self.group.device)
        moved = torch.zeros_like(self.statistics.flat())
        for (number, part), images in zip(self.rounds, batch.pieces, strict=True):
            torch.manual_seed(torch_seed(self.seed, "dropout", batch.step, number))
            self.statistics.restore()
            with last_round(self.network, is_last=number == self.rounds[-1][0]):
                with self.autocast:
                    embeddings = self.network(images.to(self.group.device))
                labels = batch.labels[part].to(self.group.device)
                loss, value, right = self.head.loss(embeddings, labels)
                self.scaler.scale(loss / len(self.rounds)).backward()
            found += torch.stack([value, right])
            moved += self.statistics.flat()
        self.statistics.end(self.group.sum(moved) / (len(self.rounds) * self.group.size))
        self.scaler.unscale_(self.optimizer)
        assert self.head.rows.grad is not None
        self.head.rows.grad.div_(self.scaler.get_scale())
        loss, right = found.tolist()
        return loss / len(self.rounds), right

    def _clip(self) -> float:
        """Clip backbone and head together, or the backbone alone; return the norm of both."""
        largest, group = self.config.clip, self.group
        if not self.config.released:
            return clip(self.parameters, [self.head.rows], largest, group)
        head = clip([], [self.head.rows], math.inf, group)
        return math.hypot(clip(self.parameters, [], largest, group), head)

    def line(self, step: int, sums: Sums) -> Line:
        """Return an epoch's line of the curve, of the steps that were taken."""
        loss, taken = sums.get("loss", (math.nan, 1))
        right, _ = sums.get("right", (math.nan, 1))
        return {
            "step": step,
            "epoch": step // self.per_epoch,
            "loss": loss / taken,
            "accuracy": right / (taken * self.batch),
            "lr": rate(step - 1, self.per_epoch, self.config),
        }

    def state(self) -> dict[str, Any]:
        """Return all that a continued run needs, on the first process; all call this together."""
        return {
            "backbone": self.backbone.state_dict(),
            "head": self.head.state(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "patience": self.patience.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned, maybe to another number of processes."""
        self.backbone.load_state_dict(state["backbone"])
        self.head.load(state["head"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # it keeps the tensors
        self.scaler.load_state_dict(state["scaler"])
        self.patience.load_state_dict(state["patience"])


class RunningStatistics:
    """The buffers of batch norms, and of a head, through a step of several micro-batches.

    A batch norm moves its statistics with every forward pass, so that they would depend on how many
    passes a process makes. Here all micro-batches start from those of the step's beginning, and the
    step ends with the mean of what they made of them.
    """

    def __init__(self, *modules: nn.Module) -> None:
        self.buffers = [buffer for module in modules for buffer in module.buffers()]
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
