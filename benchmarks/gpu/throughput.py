"""Images a second of every stage, beside what the card's matrix products would allow.

The bound is the rate of the 8192 x 8192 product in bfloat16 over the operations of one image as
``vec2face.planning.cost`` counts them; it is the same for every precision. *Alone* means that the
inputs lie on the card; *as the stage does it* takes them from memory as decoded pictures and
includes what the processor has to do. Rows named *what if* are not what the project does: they say
what a change would be worth.
"""

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.rates import (
    dataset,
    evaluation,
    features,
    generator_step,
    painting,
    pictures_rate,
    recognizer_step,
)
from benchmarks.gpu.runner import Row
from vec2face.runtime.processes import cores


def rows(place: Path, tiny: bool, ceiling: float | None) -> dict[str, Row]:
    """Return the rows of the piece ``throughput``, the most telling first."""
    place.mkdir(parents=True, exist_ok=True)

    def row(function: Any, *arguments: Any, **named: Any) -> Row:
        return partial(function, place, tiny, ceiling, *arguments, **named)

    def of(full: int) -> int:
        return max(4, full // 32) if tiny else full

    def heads(full: int) -> int:
        return full // 100 if tiny else full

    step, fr = partial(row, generator_step), partial(row, recognizer_step)
    ten, hundred, all_ = heads(10_000), heads(100_000), heads(300_000)
    found: dict[str, Row] = {
        "generator step, bfloat16, 128": step(of(128)),
        "generator step, bfloat16, 128, as the stage does it": step(of(128), loop=True),
        "SE-IR50 step, bfloat16, 256, 10k": fr(of(256), ten),
        "SE-IR50 step, bfloat16, 256, 10k, as the stage does it": fr(of(256), ten, loop=True),
        "generate, float32, 128, as the stage does it": row(painting, of(128), whole=True),
        "dataset stage whole": row(dataset),
        "IResNet-100 features, float32, 512, as the stage does it": row(
            features, of(512), whole=True
        ),
        "generator step, bfloat16, 64": step(of(64)),
        "generator step, bfloat16, 256": step(of(256)),
        "generator step, float16, 128": step(of(128), precision="float16"),
        "generator step, float32, 64": step(of(64), precision="float32"),
        "generator step, bfloat16, 128, with the adversary": step(of(128), adversary=True),
        "SE-IR50 step, bfloat16, 128, 10k": fr(of(128), ten),
        "SE-IR50 step, bfloat16, 512, 10k": fr(of(512), ten),
        "SE-IR50 step, float16, 256, 10k": fr(of(256), ten, precision="float16"),
        "SE-IR50 step, float32, 256, 10k": fr(of(256), ten, precision="float32"),
        "SE-IR50 step, bfloat16, 256, 100k": fr(of(256), hundred),
        "SE-IR50 step, bfloat16, 256, 300k": fr(of(256), all_),
        "SE-IR50 step, bfloat16, 256, 300k, share 0.1": fr(of(256), all_, sample_rate=0.1),
        "SE-IR50 step, bfloat16, 128 as 8 x 16, 10k": fr(
            of(128), ten, micro_batch=max(2, of(128) // 8)
        ),
    }
    for batch in (32, 64, 128, 256):
        for kind in ("float32", "bfloat16"):
            found[f"generate alone, {kind}, {batch}"] = row(painting, of(batch), kind)
    for kind in ("float32", "bfloat16"):
        found[f"IResNet-100 alone, {kind}, 256"] = row(features, of(256), kind)
    found["evaluation of SE-IR50, 256 pairs"] = row(evaluation, of(256))
    for threads in (1, cores()):
        for what in ("encode", "decode", "augment", "decode and augment"):
            name = f"JPEG 112 pixels: {what}, {threads} threads"
            found[name] = partial(pictures_rate, place, tiny, what, threads)
    none = {"lpips": 0.0, "identity": 0.0, "adversarial": 0.0}
    found |= {
        "generator step, only the pixel loss, 128": step(of(128), losses=none),
        "generator step, without LPIPS, 128": step(of(128), losses={"lpips": 0.0}),
        "generator step, without identity, 128": step(of(128), losses={"identity": 0.0}),
        "what if attention ran in bfloat16: generator step, 128": step(
            of(128), change="attention in bfloat16"
        ),
        "what if frozen networks ran in bfloat16: generator step, 128": step(
            of(128), change="frozen networks in bfloat16"
        ),
        "what if channels were first: generator step, 128": step(of(128), change="channels first"),
        "what if channels were first: SE-IR50 step, 256, 10k": fr(
            of(256), ten, change="channels first"
        ),
        "what if channels were last: generate alone, bfloat16, 128": row(
            painting, of(128), "bfloat16", channels_last=True
        ),
        "SE-IR50 step, bfloat16, 256, 10k, compiled": fr(of(256), ten, compile=True),
        "generator step, bfloat16, 128, compiled": step(of(128), compile=True),
        "what if it were compiled: generate alone, bfloat16, 128": row(
            painting, of(128), "bfloat16", channels_last=True, compiled=True
        ),
    }
    return found
