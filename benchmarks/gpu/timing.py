"""What the card is and what it can do: its name, and the two ceilings that others are held against.

A rate is the median of several laps, each of one or more calls between two synchronisations.
"""

import platform
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.runner import Figures, Row
from vec2face.runtime.processes import cores, processes

LAPS = 7
SECONDS = 1.2  # of all laps together, about


def synchronise() -> None:
    """Wait until the card has done all it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def lap_seconds(call: Callable[[], Any], warm: int = 3) -> dict[str, float]:
    """Return the median seconds of a call, their spread, and the seconds of the very first one.

    The spread is that of the middle half of the laps, as a share of the median.
    """
    began = time.perf_counter()
    call()
    synchronise()
    first = time.perf_counter() - began
    for _ in range(warm - 1):
        began = time.perf_counter()
        call()
        synchronise()
    once = time.perf_counter() - began
    calls = max(1, int(SECONDS / LAPS / max(once, 1e-6)))
    laps = []
    for _ in range(LAPS if once < 2 * SECONDS else 3):
        synchronise()
        began = time.perf_counter()
        for _ in range(calls):
            call()
        synchronise()
        laps.append((time.perf_counter() - began) / calls)
    low, middle, high = np.percentile(laps, [25, 50, 75])
    return {"lap": float(middle), "spread": float((high - low) / middle), "first": first}


def rate(
    call: Callable[[], Any], images: int, flop: float = 0.0, ceiling: float | None = None
) -> Figures:
    """Return the images a second of a call of so many, beside their bound.

    Args:
        call: what is timed.
        images: of one call.
        flop: of one image.
        ceiling: FLOP a second that the bound assumes; None if it is not known.
    """
    found = lap_seconds(call)
    figures = {
        "images_per_second": images / found["lap"],
        "milliseconds": 1e3 * found["lap"],
        "spread": found["spread"],
        "first_call_seconds": found["first"],
    }
    if flop and ceiling:
        bound = ceiling / flop
        figures |= {
            "gflop_per_image": flop / 1e9,
            "bound_images_per_second": bound,
            "share_of_bound": figures["images_per_second"] / bound,
        }
    return figures


def machine() -> Figures:
    """Return the names and versions of what is measured."""
    figures: Figures = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "cores": cores(),
        "processor": _processor(),
    }
    if torch.cuda.is_available():
        about = torch.cuda.get_device_properties(0)
        figures |= {
            "card": about.name,
            "memory_gib": about.total_memory / 2**30,
            "multiprocessors": about.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
            "driver": _driver(),
        }
    else:
        figures["card"] = "none"
    return figures


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            names = [
                text.split(":", 1)[1].strip() for text in file if text.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor()


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()  # noqa: PLW1510
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"


def copy_rate(mebibytes: int) -> Figures:
    """Return the GB/s of a copy within the device's memory, reading and writing counted."""
    source = torch.rand(mebibytes << 18, device=processes().device)
    target = torch.empty_like(source)
    found = lap_seconds(lambda: target.copy_(source))
    return {"gb_per_second": 2 * source.nbytes / found["lap"] / 1e9, "spread": found["spread"]}


def product_rate(side: int, kind: str) -> Figures:
    """Return the TFLOP/s of a square matrix product of random numbers; ``tf32`` is a kind, too."""
    dtype = torch.float32 if kind == "tf32" else getattr(torch, kind)
    a, b = (torch.randn(side, side, device=processes().device).to(dtype) for _ in range(2))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if kind == "tf32" else "highest")
    try:
        found = lap_seconds(lambda: a @ b)
    finally:
        torch.set_float32_matmul_precision(before)
    return {"tflop_per_second": 2 * side**3 / found["lap"] / 1e12, "spread": found["spread"]}


def rows(tiny: bool) -> dict[str, Row]:
    """Return the rows of the piece ``card``."""
    side = 256 if tiny else 8192
    kinds = ("bfloat16", "float16", "tf32", "float32")
    products: dict[str, Row] = {
        f"matrix product {side}, {kind}": partial(product_rate, side, kind) for kind in kinds
    }
    copies: dict[str, Row] = {"copy": partial(copy_rate, 16 if tiny else 4096)}
    return {"machine": machine} | copies | products


def ceiling(card: Figures | None) -> float | None:
    """Return the FLOP a second of the product in bfloat16, out of the piece ``card``."""
    found = [
        figures.get("tflop_per_second")
        for name, figures in (card or {"rows": {}})["rows"].items()
        if "bfloat16" in name
    ]
    return found[0] * 1e12 if found and found[0] else None
