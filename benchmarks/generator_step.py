"""Speed of a step of the generator's training, against a plain loop over the same losses.

    python -m benchmarks.generator_step       # minutes

The generator is ViT-Base at 112 pixels, the recognizer an IResNet-100, LPIPS a VGG16, all of real
size with random weights, which cost what trained ones cost. The step is one before the adversary
counts, as four in five are. The peer does what the released training does (docs/method.md), on the
same networks, masks and dropout: its recognizer collects gradients of its weights, its
discriminator is evaluated from the first step on, with weight 0, and trained, and its attention is
the formula. Both use the same AdamW and clipping. Their losses are compared first.

The two alternate on one thread; printed are medians of the processor's time, which other programs
disturb less than the clock, and the median of the ratios of neighbours. Exits with 1 below 1.3 or
if the losses differ.
"""

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from vec2face.config.params import Params
from vec2face.generator import losses
from vec2face.generator.batches import Batch, masked_batches
from vec2face.generator.discriminator import PatchDiscriminator
from vec2face.generator.network import Vec2Face
from vec2face.generator.step import GeneratorRun
from vec2face.randomness import torch_seed
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.network import load_recognizer, save_recognizer
from vec2face.runtime.processes import processes

MUST_REACH = 1.3
WEIGHTS = {"mse": 1.0, "lpips": 0.2, "ssim": 0.1, "token": 1.0, "identity": 1.0}  # the released


def parameters(folder: Path, batch: int) -> Params:
    """Return the paper's parameters for one process on a CPU, with random frozen networks."""
    torch.manual_seed(0)
    network = {"name": "iresnet100", "image_size": 112}
    recognizer = build_backbone(**network)
    for module in recognizer.modules():  # running statistics that keep a hundred layers in range
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        recognizer(2 * torch.rand(4, 3, 112, 112) - 1)
    save_recognizer(folder / "recognizer.safetensors", recognizer.eval(), network)
    vgg = {f"features.{n}": v for n, v in torchvision.models.vgg16().features.state_dict().items()}
    torch.save(vgg, folder / "vgg16.pth")
    paper = Params.load("params/paper.yaml").model_dump()
    paper["paths"]["recognizer"] = str(folder / "recognizer.safetensors")
    paper["training"] |= {"batch": batch, "micro_batch": None, "precision": "float32"}
    paper["training"]["lpips_weights"] = str(folder / "vgg16.pth")
    paper["training"]["losses"] |= WEIGHTS | {"adversarial": 1.0}
    return Params.model_validate(paper)


class Plain:
    """The released step, written down."""

    def __init__(self, params: Params, start: Vec2Face, folder: Path) -> None:
        hyper, d = params.training, params.training.discriminator
        self.seed, self.hyper = params.seed, hyper
        self.generator = Vec2Face(start.config, start.dimension)
        self.generator.load_state_dict(start.state_dict())
        for block in [*self.generator.encoder, *self.generator.decoder]:
            block.attn.__class__, block.attn.fused_attn = Attention, False  # by the formula
        self.discriminator = PatchDiscriminator(d.width, d.kernels)
        self.recognizer = load_recognizer(folder / "recognizer.safetensors")
        self.recognizer.to(memory_format=torch.contiguous_format)  # PyTorch's usual layout
        self.lpips = losses.load_lpips(hyper.lpips_weights)
        self.optimizers = [
            torch.optim.AdamW(net.parameters(), 1e-9, betas=hyper.betas)
            for net in (self.generator, self.discriminator)
        ]

    def step(self, batch: Batch) -> dict[str, float]:
        """Take one step; return each loss, unweighted."""
        (piece,) = batch.pieces
        torch.manual_seed(torch_seed(self.seed, "dropout", batch.step))
        real, features = piece.real.contiguous(), piece.features
        decoded = self.generator.rows(features, piece.drop, piece.mask)
        fake = self.generator.paint(decoded)
        found = {
            "mse": losses.mse(fake, real),
            "lpips": self.lpips(fake, real).mean(),
            "ssim": losses.ssim(fake, real),
            "token": losses.token(decoded, self.generator.feature_map(features)[1]),
            "identity": losses.identity(self.recognizer(fake), features),
        }
        total = torch.stack([WEIGHTS[name] * value for name, value in found.items()]).sum()
        total = total + 0.0 * losses.adversarial(self.discriminator(fake))
        self._take(self.optimizers[0], self.generator, total)
        logits = self.discriminator(real), self.discriminator(fake.detach())
        self._take(self.optimizers[1], self.discriminator, 0.0 * losses.discriminator(*logits))
        return {name: value.item() for name, value in found.items()}

    def _take(self, optimizer: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), self.hyper.clip)
        optimizer.step()


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=2, help="images in a step")
    parser.add_argument("--rounds", type=int, default=5, help="steps of each")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    count = arguments.batch * (arguments.rounds + 1)
    images = rng.integers(0, 256, (count, 112, 112, 3), np.uint8)
    features = rng.standard_normal((count, 512), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        params = parameters(Path(folder), arguments.batch)
        ours = GeneratorRun(params, features, processes())
        plain = Plain(params, ours.generator, Path(folder))
    steps = range(arguments.rounds + 1)
    drawn = masked_batches(images.__getitem__, features, params, processes(), steps)
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    same = False
    for batch in drawn:
        found = {}
        for name, run in (("ours", ours), ("plain", plain)):
            begin = time.process_time()
            found[name] = run.step(batch)
            seconds[name].append(time.process_time() - begin)
        if batch.step == 0:  # equal weights; it also warms up
            pairs = [(found["ours"][name], found["plain"][name]) for name in WEIGHTS]
            same = all(np.isclose(one, other, rtol=1e-3) for one, other in pairs)
            seconds = {"ours": [], "plain": []}
    ratios = [p / o for p, o in zip(seconds["plain"], seconds["ours"], strict=True)]
    record = {
        "batch": arguments.batch,
        "seconds_an_image": statistics.median(seconds["ours"]) / arguments.batch,
        "plain_seconds_an_image": statistics.median(seconds["plain"]) / arguments.batch,
        "times_faster": statistics.median(ratios),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "must_reach": MUST_REACH,
        "same_losses": same,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(record, indent=2))
    return 0 if same and record["times_faster"] >= MUST_REACH else 1


if __name__ == "__main__":
    sys.exit(main())
