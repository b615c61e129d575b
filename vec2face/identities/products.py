"""Products of vectors of length 1, in the type and on the device that are fastest; their error.

A processor multiplies bfloat16 where it has units for that, else float32; a GPU takes bfloat16, and
one that has none leaves all to the processor. Mostly the largest product of a row with many others
is wanted. On a GPU one kernel finds it without writing the products (``kernel``).
"""

import importlib.util

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vec2face.runtime.processes import processes

BLOCK, TILE = 1024, 8192  # rows at a time, and rows they meet at a time: some 32 MiB of products
GPU_BLOCK, GPU_TILE = 8192, 131072  # enough work for each call
SLICE = 1024  # rows whose products are looked through at a time
STEP = 256  # rows of a product are a multiple of it: oneDNN keeps a program for every shape


def device() -> torch.device:
    """Return where products run: a GPU that multiplies bfloat16, or the processor."""
    found = processes().device
    able = (
        found.type == "cuda"
        and torch.cuda.get_device_capability(found) >= (8, 0)
        and importlib.util.find_spec("triton") is not None
    )
    return found if able else torch.device("cpu")


def screen() -> torch.dtype:
    """Return the type in which products are fastest here."""
    if device().type == "cuda":
        return torch.bfloat16
    able = torch.cpu.get_capabilities()
    fast = able.get("avx512_bf16") or able.get("amx_bf16")
    return torch.bfloat16 if fast else torch.float32


def block() -> int:
    """Return the rows to take at a time."""
    return GPU_BLOCK if device().type == "cuda" else BLOCK


def tile() -> int:
    """Return the rows that these should meet at a time."""
    return GPU_TILE if device().type == "cuda" else TILE


def margin(dimension: int, kind: torch.dtype) -> float:
    """Bound the error of a product of two vectors of length 1, in either type.

    Rounding the factors to p bits errs by a relative 2^-p each, and summing D products in float32,
    in any order, by at most D * 2^-24, both of a sum of magnitudes that is at most 1. Normalising
    in float32 adds a few 2^-24, and bfloat16 (p = 8) rounds the result once more.
    """
    return (dimension + 8) * 2.0**-24 + (3.02 * 2.0**-8 if kind == torch.bfloat16 else 0)


class Products:
    """Products of rows, in memory that is used again and again."""

    def __init__(self) -> None:
        """Set nothing aside yet."""
        self._room = torch.empty(0)

    def of(self, a: Tensor, b: Tensor) -> Tensor:
        """Return all products of rows, (n, D) and (m, D) -> (n, m), until the next call."""
        height, width = len(a), len(b)
        if a.dtype == torch.float32:  # NumPy's BLAS is the faster one on many processors
            out = self._out(a, height, width)
            np.matmul(a.numpy(), b.numpy().T, out=out.numpy())
            return out
        if a.device.type == "cuda":
            # By default parts of a sum may be added in bfloat16, which the margin does not cover.
            torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
            return torch.mm(a, b.T, out=self._out(a, height, width))
        a, b = (functional.pad(rows, (0, 0, 0, -len(rows) % STEP)) for rows in (a, b))
        return torch.mm(a, b.T, out=self._out(a, len(a), len(b)))[:height, :width]

    def _out(self, a: Tensor, height: int, width: int) -> Tensor:
        wanted = height * width
        if self._room.dtype != a.dtype or self._room.device != a.device or len(self._room) < wanted:
            self._room = torch.empty(wanted, dtype=a.dtype, device=a.device)
        return self._room[:wanted].view(height, width)

    def largest(self, a: Tensor, b: Tensor, apart: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return the largest product of each row of a with the rows of b: (n,) float32.

        Args:
            a: (n, D).
            b: (m, D), m >= 1.
            apart: (n,) int64 each; row i passes over the rows apart[0][i] .. apart[1][i] - 1 of b.

        Returns:
            -inf where no row is left.
        """
        if a.device.type == "cuda":
            from vec2face.identities.kernel import row_maxima  # noqa: PLC0415 - needs Triton

            return row_maxima(a, b, apart)
        return passed_over(self.of(a, b), apart).amax(1).float()

    def near(
        self, a: Tensor, b: Tensor, line: np.ndarray, apart: tuple[Tensor, Tensor] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the pairs (i, j) with a product of at least line[i], (n,) float32, by rising i.

        See ``largest``; they are sought in rows that are few or short.
        """
        limits = torch.from_numpy(np.asarray(line, np.float32)).to(a.device)
        found = [torch.zeros((0, 2), dtype=torch.int64, device=a.device)]
        for first in range(0, len(a), SLICE):
            part = slice(first, first + SLICE)
            mine = apart and (apart[0][part], apart[1][part])
            product = passed_over(self.of(a[part], b), mine).float()
            pairs = ((product >= limits[part, None]) & (product > -torch.inf)).nonzero()
            found.append(pairs + torch.tensor([first, 0], device=a.device))
        one, other = torch.cat(found).cpu().numpy().T
        return one, other


def passed_over(product: Tensor, apart: tuple[Tensor, Tensor] | None) -> Tensor:
    """Set what each row passes over (see ``Products.largest``) to -inf, in place; return it."""
    if apart is not None:
        low, high = apart
        mine = (high > low).nonzero()[:, 0]
        place = torch.arange(product.shape[1], device=product.device)
        within = (place >= low[mine, None]) & (place < high[mine, None])
        product[mine] = product[mine].masked_fill(within, -torch.inf)
    return product
