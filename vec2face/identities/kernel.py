"""The largest products of rows with many others, on a GPU, without writing the products.

Each program takes some rows and a share of the others, and keeps the largest product in registers.
With TRITON_INTERPRET=1 in the environment it runs on a CPU, slowly, to be tested.
"""

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

ROWS, COLUMNS, DEPTH = 128, 128, 64  # of the products that a program has at a time
PROGRAMS = 1024  # about as many at a time, for a GPU of 132 multiprocessors


@triton.jit
def _largest(
    a, b, low, high, out, height, width, dimension, each,
    apart: tl.constexpr, rows: tl.constexpr, columns: tl.constexpr, depth: tl.constexpr,
):  # fmt: skip
    """Write the largest products of some rows of a with ``each`` blocks of rows of b."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    within = row < height
    share = tl.program_id(1)
    if apart:
        first = tl.load(low + row, mask=within, other=0)
        last = tl.load(high + row, mask=within, other=0)
    best = tl.full((rows,), float("-inf"), tl.float32)
    for number in range(share * each, (share + 1) * each):
        column = number * columns + tl.arange(0, columns)
        product = tl.zeros((rows, columns), tl.float32)
        for start in range(0, dimension, depth):
            k = start + tl.arange(0, depth)
            left = tl.load(
                a + row.to(tl.int64)[:, None] * dimension + k[None, :],
                mask=within[:, None] & (k < dimension)[None, :],
                other=0.0,
            )
            right = tl.load(
                b + column.to(tl.int64)[None, :] * dimension + k[:, None],
                mask=(column < width)[None, :] & (k < dimension)[:, None],
                other=0.0,
            )
            product = tl.dot(left, right, product)
        there = (column < width)[None, :]
        if apart:
            there = there & (
                (column[None, :] < first[:, None]) | (column[None, :] >= last[:, None])
            )
        best = tl.maximum(best, tl.max(tl.where(there, product, float("-inf")), 1))
    tl.store(out + share.to(tl.int64) * height + row, best, mask=within)


def row_maxima(a: Tensor, b: Tensor, apart: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Return the largest product of each row of a (n, D) with rows of b (m, D): (n,) float32.

    See ``products.Products.largest``; a and b are bfloat16, and each sum is in float32.
    """
    height, width = len(a), len(b)
    blocks, tall = triton.cdiv(width, COLUMNS), triton.cdiv(height, ROWS)
    each = triton.cdiv(blocks, min(blocks, max(1, PROGRAMS // tall)))
    shares = triton.cdiv(blocks, each)
    out = torch.empty((shares, height), dtype=torch.float32, device=a.device)
    low, high = apart or (out, out)
    _largest[(tall, shares)](
        a.contiguous(), b.contiguous(), low, high, out, height, width, a.shape[1], each,
        apart is not None, ROWS, COLUMNS, DEPTH,
        num_warps=8, num_stages=3,
    )  # fmt: skip
    return out.amax(0)
