"""Every path that only a card takes, once; each beside the CPU or the plain float32 path.

A row says ``passed`` with the figures that were compared, and their limits. Float32 on the card is
compared twice: with TF32 switched off, where it has to agree with the CPU to rounding, and as
PyTorch has it by default (TF32 in convolutions), where it has to agree loosely.
"""

from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.learning import (
    generator_learns,
    generator_like_cpu,
    group_of_one,
    recognizer_learns,
    recognizer_like_cpu,
    resumed,
    trained_generator,
)
from benchmarks.gpu.runner import Row
from benchmarks.gpu.subjects import RENDERED
from benchmarks.gpu.using import (
    arrangement,
    dataset,
    exported,
    features_like_cpu,
    file_like_onnxruntime,
    generation_like_cpu,
    identities_like_float64,
    untrained,
    verification,
)


def rows(place: Path, tiny: bool) -> dict[str, Row]:
    """Return the rows of the piece ``paths``."""
    place.mkdir(parents=True, exist_ok=True)

    def row(function: Any, *arguments: Any, **named: Any) -> Row:
        return partial(function, place, tiny, *arguments, **named)

    generator = {
        "generator like the CPU's": row(generator_like_cpu),
        "generator in float32": row(generator_learns),
        "generator in bfloat16": row(generator_learns, precision="bfloat16"),
        "generator in float16": row(generator_learns, precision="float16"),
        "generator by Muon, micro-batches": row(generator_learns, optimizer="muon", micro_batch=2),
        "generator with the released slips": row(generator_learns, released=True),
        "generator trained, saved, used": row(trained_generator),
    }
    half = {"bfloat16": "bfloat16", "float16": "float16"}
    recognizer = {
        "recognizer like the CPU's": row(recognizer_like_cpu),
        "recognizer like the CPU's, share 0.3": row(recognizer_like_cpu, sample_rate=0.3),
        "recognizer in float32": row(recognizer_learns),
        **{f"recognizer in {k}": row(recognizer_learns, precision=p) for k, p in half.items()},
        "recognizer in float16, share 0.3, micro-batches": row(
            recognizer_learns, precision="float16", sample_rate=0.3, micro_batch=6
        ),
        "recognizer with MagFace": row(recognizer_learns, head="magface", margin=0.45),
        "recognizer with CosFace": row(recognizer_learns, head="cosface"),
        "recognizer vit_s in bfloat16": row(
            recognizer_learns, backbone="vit_s", widths=(), precision="bfloat16", lr=0.005
        ),
    }
    using = {
        "features like the CPU's": row(features_like_cpu),
        **{
            f"{path.name} like onnxruntime": partial(file_like_onnxruntime, path)
            for path in sorted(RENDERED.glob("*.onnx"))
        },
        "network on the card as ONNX": row(exported),
        "generation like the CPU's": row(generation_like_cpu),
        "identities as in float64": partial(identities_like_float64, tiny),
        "dataset stage": row(dataset),
        "arranged for inference": row(arrangement),
        "untrained network": row(untrained),
        "verification like the CPU's": row(verification),
    }
    long = {
        "NCCL in a group of one": row(group_of_one),
        "generator killed and continued": row(resumed, "generator", 10),
        "recognizer killed and continued": row(resumed, "recognizer", 2),
        "recognizer compiled": row(recognizer_learns, compile=True),
        "recognizer compiled in bfloat16": row(
            recognizer_learns, compile=True, precision="bfloat16"
        ),
        "generator compiled": row(generator_learns, compile=True),
        "generator compiled in bfloat16": row(generator_learns, compile=True, precision="bfloat16"),
    }
    return generator | recognizer | using | long
