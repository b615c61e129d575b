"""How a row on the card is compared with what it should give."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.runner import Figures

HALF = 3e-2  # between float32 and a half precision: three times the rounding of bfloat16
TF32 = 2e-2
EXACT = 1e-3  # between two devices in float32
LATER, LATER_TF32 = 1e-2, 5e-2  # the same after steps of training, which amplify rounding


def verdict(**measured: tuple[float, float]) -> Figures:
    """Return figures and their limits, and whether each keeps to its own: name=(value, limit)."""
    figures: Figures = {"passed": all(value <= limit for value, limit in measured.values())}
    for name, (value, limit) in measured.items():
        figures |= {name: value, f"{name}_limit": limit}
    return figures


def apart(found: Any, wanted: Any, least: float = 1e-6) -> float:
    """Return the length of the difference as a share of the wanted array's length."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return float(np.linalg.norm(found - wanted) / max(np.linalg.norm(wanted), least))


@contextmanager
def exactly() -> Iterator[None]:
    """Switch TF32 off within."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
