"""Speed of a recognizer's training step, against a plain one as the released FR code takes it.

    python -m benchmarks.recognizer_step                          # the paper's SE-IR50, batch 8
    python -m benchmarks.recognizer_step --params params.yaml --batch 64 --classes 400

The peer is the paper's Table 10 in plain PyTorch: the network of PyTorch's own layers, with images'
channels first in memory, a PartialFC head (normalised features and weights, margin by arc cosine,
softmax as its authors write it), clipping, SGD; it shares no code with ours but the network's plan.
Both start from
the same weights and see the same images in turn, on one thread. Prints one JSON record and exits
with 1 if losses differ or the ratio is below the limit. Seconds are of the processor, not of the
clock, so that other work on the machine counts less.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vec2face.config.params import Params
from vec2face.config.sections import RecognizerConfig
from vec2face.recognizers import iresnet
from vec2face.recognizers.backbones import architecture, build_backbone
from vec2face.recognizers.batches import Batch
from vec2face.recognizers.step import RecognizerRun
from vec2face.runtime.processes import processes

MUST_REACH = {"se_iresnet50": 1.1, "se_iresnet10": 1.4}
RATE = 0.01


class Softmax(torch.autograd.Function):
    """Cross-entropy over shards of classes, as PartialFC's authors write it, for one shard."""

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean."""
        logits = logits - logits.max(1, keepdim=True)[0]
        logits.exp_()
        logits.div_(logits.sum(1, keepdim=True))
        ctx.save_for_backward(logits, labels)
        return -logits.gather(1, labels[:, None]).clamp_min(1e-30).log().mean()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        """Return probabilities without the true class's 1."""
        logits, labels = ctx.saved_tensors
        hot = torch.zeros_like(logits).scatter_(1, labels[:, None], 1)
        return (logits - hot) / len(logits) * gradient, None


def by_pytorch(x: Tensor, norm: nn.Module, activation: nn.Module | None = None) -> Tensor:
    """Return what the layers make of x, one after the other."""
    return norm(x) if activation is None else activation(norm(x))


class Peer:
    """The plain step."""

    def __init__(
        self, config: RecognizerConfig, size: int, start: dict[str, Tensor], rows: Tensor
    ) -> None:
        self.config = config
        self.backbone = build_backbone(**architecture(config, size)).train()
        self.backbone.load_state_dict(start)
        self.weight = nn.Parameter(rows.clone())
        norms = [p for p in self.backbone.parameters() if p.requires_grad and p.ndim <= 1]
        rest = [p for p in self.backbone.parameters() if p.ndim > 1]
        groups = [{"params": [*rest, self.weight]}, {"params": norms, "weight_decay": 0.0}]
        self.optimizer = torch.optim.SGD(groups, RATE, config.momentum, weight_decay=5e-4)

    def step(self, images: Tensor, labels: Tensor) -> float:
        """Return the loss after which the weights moved."""
        with mock.patch.object(iresnet, "normalise", by_pytorch):
            embeddings = functional.normalize(self.backbone(images))
        cosines = functional.linear(embeddings, functional.normalize(self.weight)).clamp(-1, 1)
        own = torch.acos(cosines[torch.arange(len(labels)), labels])
        logits = cosines.clone()
        logits[torch.arange(len(labels)), labels] = torch.cos(own + self.config.margin)
        loss = Softmax.apply(self.config.scale * logits, labels)
        loss.backward()
        every = [p for group in self.optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(every, self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3, help="that count, after one that does not")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--params", default="params/paper.yaml")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    params = Params.load(arguments.params)
    size = params.image_size
    config = params.fr.model_copy(
        update={
            "batch": arguments.batch,
            "micro_batch": None,
            "precision": "float32",
            "dropout": 0.0,
            "lr": RATE,
        }
    )
    people = np.arange(arguments.classes)
    ours = RecognizerRun(config, size, people, 0, processes())
    peer = Peer(config, size, ours.backbone.state_dict(), ours.head.weight)
    shape = arguments.batch, size, size, 3
    must_reach = MUST_REACH[config.backbone]
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    differences = []
    for step in range(arguments.steps + 1):
        images = torch.rand(shape).mul_(2).sub_(1).permute(0, 3, 1, 2)
        labels = torch.randint(arguments.classes, (arguments.batch,))
        first, batch = images.contiguous(), Batch(step, labels.numpy(), labels, [images])
        losses = [
            timed(seconds["peer"], lambda: peer.step(first, labels)),  # noqa: B023
            timed(seconds["ours"], lambda: ours.step(batch)["loss"]),  # noqa: B023
        ]
        differences.append(abs(losses[0] - losses[1]) / losses[0])
    best = {name: min(values[1:]) for name, values in seconds.items()}
    same = differences[0] < 1e-5 and max(differences) < 1e-2
    record = {
        "backbone": config.backbone,
        "image_size": size,
        "batch": arguments.batch,
        "classes": arguments.classes,
        "seconds": best,
        "times_faster": best["peer"] / best["ours"],
        "must_reach": must_reach,
        "loss_differences": differences,
        "same_loss": same,
    }
    print(json.dumps(record, indent=2))
    return 0 if same and record["times_faster"] >= must_reach else 1


def timed(seconds: list[float], step: Callable[[], float]) -> float:
    """Run a step and note its seconds."""
    began = time.process_time()
    loss = step()
    seconds.append(time.process_time() - began)
    return loss


if __name__ == "__main__":
    sys.exit(main())
