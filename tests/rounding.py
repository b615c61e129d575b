"""What tests need that compare results of training between processors or numbers of processes.

Training amplifies rounding. A gradient that is zero but for rounding becomes a step of full length
in AdamW and Muon, so that after ten steps in float32 a loss may differ by a tenth. In float64 the
same tests differ by 1e-12 between processors with SSE, AVX2 and AVX-512; they allow 1e-9.
"""

import contextlib
from collections.abc import Iterator

import torch

TOLERANCE = 1e-9  # relative
UNSEEN = 2 / 255 / 100  # of images in [-1, 1]: a hundredth of a grey level


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Make float64 PyTorch's default type within."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
