"""Training of a face recognizer: backbone, margin head, SGD (the paper's Table 10).

    config = RecognizerConfig(backbone="se_iresnet10", image_size=56, epochs=20)
    recognizer = train_recognizer(images, labels, config, seed=0, work=Path("work/fr"))
    save_recognizer("models/fr.safetensors", recognizer, config.architecture())

A killed run continues from its last checkpoint and ends in the same weights, bit by bit on a CPU
with the same number of threads: order, augmentation and dropout of every step are functions of
the seed and the step alone.
"""

import hashlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from vec2face.faces.source import Source
from vec2face.files import fingerprint
from vec2face.models.backbones import build_backbone
from vec2face.randomness import torch_seed
from vec2face.training.augment import Augmentation
from vec2face.training.batches import batches, reader
from vec2face.training.checkpoint import Checkpoint
from vec2face.training.heads import build_head

log = logging.getLogger(__name__)

VERSION = 1
"""Part of a work folder's fingerprint: raise it when a step computes something else."""


@dataclass(frozen=True)
class RecognizerConfig:
    """What a recognizer is and how it is trained; the defaults are the paper's Table 10.

    Attributes:
        backbone: a name of ``vec2face.models.backbones.NAMES``.
        widths: channels of the four IResNet stages; None for the usual ones.
        embedding: length of the embedding.
        image_size: side of the input in pixels.
        dropout: before the last linear layer.
        head: ``"arcface"``, ``"cosface"``, ``"magface"`` or ``"softmax"``.
        scale: factor on the cosines.
        margin: None for the head's usual one.
        epochs: passes over the images.
        batch: images per step; the last incomplete batch of an epoch is left out.
        lr: highest learning rate.
        schedule: ``"milestones"`` divides the rate by 10 at each milestone, ``"cosine"`` lowers it
            to zero.
        milestones: in epochs if >= 1, in shares of the run if below.
        warmup: epochs (may be a fraction) over which the rate rises linearly from 0.
        momentum: of SGD.
        weight_decay: on weights of convolutions, linear layers and the head; none on batch norms,
            PReLU slopes and biases.
        clip: largest norm of the gradient; 0 for no limit.
        augmentation: see ``Augmentation``.
    """

    backbone: str = "se_iresnet50"
    widths: tuple[int, ...] | None = None
    embedding: int = 512
    image_size: int = 112
    dropout: float = 0.4
    head: str = "arcface"
    scale: float = 64.0
    margin: float | None = None
    epochs: int = 26
    batch: int = 128
    lr: float = 0.1
    schedule: str = "milestones"
    milestones: tuple[float, ...] = (12, 20, 24)
    warmup: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0
    augmentation: Augmentation = field(default_factory=Augmentation)

    def architecture(self) -> dict[str, Any]:
        """Return the arguments of ``build_backbone`` that rebuild the network."""
        return {
            "name": self.backbone,
            "image_size": self.image_size,
            "embedding": self.embedding,
            "widths": self.widths,
            "dropout": self.dropout,
        }

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate of global ``step``.

        Raises:
            ValueError: on an unknown schedule.
        """
        epoch = step / steps_per_epoch
        if epoch < self.warmup:
            return self.lr * (step + 1) / (self.warmup * steps_per_epoch + 1)
        if self.schedule == "cosine":
            done = (epoch - self.warmup) / max(self.epochs - self.warmup, 1e-9)
            return self.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        if self.schedule != "milestones":
            raise ValueError(f"schedule is milestones or cosine, not {self.schedule!r}")
        points = [m if m >= 1 else m * self.epochs for m in self.milestones]
        return self.lr * 0.1 ** sum(epoch >= point for point in points)


def train_recognizer(
    images: np.ndarray | Source,
    labels: np.ndarray,
    config: RecognizerConfig,
    seed: int,
    work: Path | str,
    *,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    save_seconds: float = 120.0,
    device: str | None = None,
) -> nn.Module:
    """Train a recognizer.

    Args:
        images: uint8 (N, S, S, 3) at ``config.image_size``, or a source of encoded faces.
        labels: (N,) integers 0 .. identities - 1.
        config: network and schedule.
        seed: the experiment's seed; start weights, order, augmentation and dropout follow from it.
        work: folder of this run's checkpoints. States of another config, seed or labels there
            are not continued.
        on_epoch: called after each epoch with ``step``, ``epoch`` (from 1), ``loss``,
            ``accuracy`` (share of
            images nearest to their own identity's direction, margin applied) and ``lr``. When a run
            continues, its finished epochs are reported again first.
        save_seconds: a checkpoint is written at each epoch's end, and within an epoch when this
            many seconds have passed since the last.
        device: a torch device; default CUDA where there is one, else the CPU.

    Returns:
        The trained backbone in evaluation mode, on the CPU.

    Raises:
        ValueError: if images and labels do not match or there are fewer than two images.
        FloatingPointError: if the loss stops being finite, with the step and the images.
    """
    labels = np.asarray(labels, np.int64)
    read = reader(images, labels, config.image_size)
    made_of = fingerprint(asdict(config), seed, hashlib.sha256(labels.tobytes()).hexdigest())
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(seed, "recognizer"))
        run = _Run(config, int(labels.max()) + 1, device)
        checkpoint = Checkpoint(work)
        saved = checkpoint.load()
        history: list[dict[str, float]] = []
        totals, step = [0.0, 0.0], 0
        if saved and saved[1]["made_of"] != made_of:
            log.warning("%s: states of another config, seed or labels; starting afresh", work)
        elif saved:
            step, state = saved
            run.load(state["run"])
            history, totals = state["history"], state["totals"]
        for entry in history if on_epoch else ():
            on_epoch(entry)  # type: ignore[misc]

        batch = min(config.batch, len(labels))
        per_epoch = len(labels) // batch
        last_saved = time.monotonic()
        bar = tqdm(total=config.epochs * per_epoch, initial=step, unit="step", disable=None)
        steps = range(step, config.epochs * per_epoch)
        for indices, pictures in batches(
            read, len(labels), batch, steps, seed, config.augmentation
        ):
            rate = config.rate(step, per_epoch)
            torch.manual_seed(torch_seed(seed, "dropout", step))
            loss, right = run.step(pictures, torch.from_numpy(labels[indices]), rate)
            if not math.isfinite(loss):
                raise FloatingPointError(f"loss {loss} at step {step}, images {indices.tolist()}")
            totals = [totals[0] + loss, totals[1] + right]
            step += 1
            bar.update()
            epoch_ends = step % per_epoch == 0
            if epoch_ends:
                history.append(
                    {
                        "step": step,
                        "epoch": step // per_epoch,
                        "loss": totals[0] / per_epoch,
                        "accuracy": totals[1] / (per_epoch * batch),
                        "lr": rate,
                    }
                )
                totals = [0.0, 0.0]
                bar.set_postfix(loss=history[-1]["loss"])
            if epoch_ends or time.monotonic() - last_saved > save_seconds:
                state = {"run": run.state(), "history": history, "totals": totals}
                checkpoint.save(step, {**state, "made_of": made_of})
                last_saved = time.monotonic()
            if epoch_ends and on_epoch:
                on_epoch(history[-1])
        bar.close()
    return run.backbone.cpu().eval()


class _Run:
    """Backbone, head and optimiser, and one step of their training."""

    def __init__(self, config: RecognizerConfig, classes: int, device: str | None) -> None:
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.clip = config.clip
        backbone = build_backbone(**config.architecture()).to(self.device)
        self.backbone = backbone.to(memory_format=torch.channels_last)
        self.head = build_head(
            config.head, config.embedding, classes, scale=config.scale, margin=config.margin
        ).to(self.device)
        self.parameters = [
            p for m in (self.backbone, self.head) for p in m.parameters() if p.requires_grad
        ]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in self.parameters if p.ndim > 1]},
            {"params": [p for p in self.parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(
            groups,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.backbone.train()

    def step(self, images: Tensor, labels: Tensor, rate: float) -> tuple[float, float]:
        """Take one step; return the loss and how many images were nearest to their identity."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        labels = labels.to(self.device)
        images = images.to(self.device)
        logits, penalty = self.head(self.backbone(images), labels)
        loss = cross_entropy(logits, labels) + penalty
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip:
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.optimizer.step()
        return loss.item(), float((logits.argmax(1) == labels).sum())

    def state(self) -> dict[str, Any]:
        return {
            "backbone": self.backbone.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.backbone.load_state_dict(state["backbone"])
        self.head.load_state_dict(state["head"])
        self.optimizer.load_state_dict(state["optimizer"])
