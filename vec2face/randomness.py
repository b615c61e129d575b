"""Counter-based randomness: every draw is a function of (seed, purpose, index) and of nothing else.

Batch size, rank, worker and order cannot change a draw, because none of them is an input.
The generator is Philox-4x64 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011):
the key comes from seed and purpose, the counter's upper words are the index.
"""

import hashlib

import numpy as np


def stream(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """Return the random stream of one (seed, purpose, index).

    Args:
        seed: the experiment's seed.
        purpose: what the numbers are for, such as ``"identity"`` or ``"mask"``.
        index: up to three non-negative integers, such as an identity's and an image's number.

    Returns:
        A fresh generator; two calls with equal arguments yield equal numbers.

    Raises:
        ValueError: on more than three indices or a negative one.
    """
    if len(index) > 3 or any(i < 0 for i in index):
        raise ValueError(f"an index is up to three numbers >= 0, not {index}")
    key = int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:16], "little")
    counter = [0, *index, *[0] * (3 - len(index))]
    return np.random.Generator(np.random.Philox(key=key, counter=np.array(counter, np.uint64)))


def normals(seed: int, purpose: str, first: int, count: int, width: int) -> np.ndarray:
    """Draw standard normal rows ``first .. first + count - 1``: (count, width) float64.

    Row i depends only on (seed, purpose, first + i), so blocks of any size join seamlessly.
    """
    rows = [stream(seed, purpose, first + i).standard_normal(width) for i in range(count)]
    return np.stack(rows) if rows else np.empty((0, width))


def torch_seed(seed: int, purpose: str, *index: int) -> int:
    """Return a 63-bit seed for ``torch.Generator.manual_seed``, by the same rule."""
    return int(stream(seed, purpose, *index).integers(2**63))
