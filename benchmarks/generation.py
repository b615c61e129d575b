"""Speed and memory of generating images with the paper's ViT-Base, against the released behaviour.

    python -m benchmarks.generation                 # one thread, batches of 8; two minutes
    python -m benchmarks.generation --threads 2

The peer is the straightforward form: autograd on, attention as softmax(q k^T) v, maps with channels
first, the whole batch through the image decoder. Both run in this process in turn; the figure is
the median ratio of a round, in processor time, which other programs disturb less than the clock.
Peak memory is of a process of its own each. Prints one JSON record; exits with 1 if the ratio is
below the limit of this kind of processor or the images differ by more than 1e-4. A processor with
AVX-512 plays one with AVX2 under
``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2``.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from timm.models.vision_transformer import Attention
from torch import Tensor

from vec2face.config.params import Params
from vec2face.generator.inference import arrange_for_inference
from vec2face.generator.masks import masks
from vec2face.generator.network import Vec2Face

# Times faster, by kind of processor; others are only measured. MKL, which the peer's products go
# through, is slow on AMD's (with AVX-512 and bfloat16) and fast on Intel's.
LIMITS = {"AVX512 with bfloat16": 1.8, "AVX512": 1.15, "AVX2": 1.2}
TOLERANCE = 1e-4
GENERATION = (0.1, 1.0, 0.15)  # mask ratios: minimum, maximum, mean


def trained() -> Vec2Face:
    """Build the ViT-Base with random weights; its images fill about [-1, 1]."""
    torch.manual_seed(0)
    return Vec2Face(Params.load("params/paper.yaml").generator, 512)


def straightforward() -> Vec2Face:
    """Build the form that the released code runs."""
    generator = trained().eval()
    for module in generator.modules():
        if isinstance(module, Attention):
            module.__class__, module.fused_attn = Attention, False  # timm's, by the formula
    return generator


def arranged() -> Vec2Face:
    """Build the same network, arranged for inference."""
    return arrange_for_inference(trained())


def timed(generator: Vec2Face, inputs: list[Tensor], *, gradients: bool) -> tuple[float, Tensor]:
    """Return (seconds of processor time, images) of one batch."""
    begin = time.process_time()
    with torch.inference_mode(not gradients):
        images = generator(*inputs)
    return time.process_time() - begin, images.detach()


def batch_of(size: int) -> list[Tensor]:
    """Return the features (of the norm that ArcFace gives) and masks of ``size`` samples."""
    features = torch.randn(size, 512, generator=torch.Generator().manual_seed(1))
    return [features, *masks(0, 0, size, *GENERATION)]


def peak_gib(which: str, batch: int, threads: int) -> float:
    """Return the most memory that a process takes for two batches of ``which``."""
    command = [sys.executable, "-m", "benchmarks.generation", "--only", which]
    command += ["--batch", str(batch), "--threads", str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> int:
    """Measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8, help="images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=("straightforward", "arranged"), help="its peak memory")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    inputs = batch_of(arguments.batch)
    if arguments.only:
        plain = arguments.only == "straightforward"
        generator = straightforward() if plain else arranged()
        for _ in range(2):
            timed(generator, inputs, gradients=plain)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        return 0

    memory = {
        which: peak_gib(which, arguments.batch, arguments.threads)
        for which in ("straightforward", "arranged")
    }
    peer, ours = straightforward(), arranged()
    seconds: dict[str, list[float]] = {"straightforward": [], "arranged": []}
    for number in range(1 + arguments.rounds):
        slow, wanted = timed(peer, inputs, gradients=True)
        fast, found = timed(ours, inputs, gradients=False)
        if number:  # the first round warms up
            seconds["straightforward"].append(slow)
            seconds["arranged"].append(fast)
    pairs = zip(seconds["straightforward"], seconds["arranged"], strict=True)
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    difference = float((found - wanted).abs().max())
    kind = torch.backends.cpu.get_cpu_capability()
    if kind == "AVX512" and torch.cpu.get_capabilities().get("avx512_bf16"):
        kind += " with bfloat16"
    limit = LIMITS.get(kind, 0.0)
    record = {
        "kind": kind,
        "batch": arguments.batch,
        "threads": arguments.threads,
        "images_per_core_second": {
            k: arguments.batch / statistics.median(v) for k, v in seconds.items()
        },
        "peak_gib": memory,
        "times_faster": ratio,
        "must_reach": limit,
        "largest_difference": difference,
        "may_differ": TOLERANCE,
    }
    print(json.dumps(record, indent=2))
    return 0 if ratio >= limit and difference <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
