"""Row masks of the feature masked autoencoder (paper, section 3.1).

A mask ratio is drawn from a truncated normal; a random order of the 49 rows then says which are
*dropped* (never enter the encoder) and which are *masked* (their content is the image feature).
The released code draws one ratio per batch from a global generator, so that an image depends on its
batch. Here the masks of sample i are a pure function of (seed, i), also where ``ratio_shared_by``
samples in a row share a ratio as they did there.
"""

import math

import numpy as np
import torch
from scipy.stats import truncnorm

from vec2face.randomness import stream

ROWS = 49
RATIO_STD = 0.25


def masks(
    seed: int,
    first: int,
    count: int,
    minimum: float,
    maximum: float,
    mean: float,
    purpose: str = "mask",
    ratio_shared_by: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the masks of samples ``first .. first + count - 1``.

    Args:
        seed: the experiment's seed.
        first: index of the first sample.
        count: number of samples B.
        minimum: smallest ratio; ``ceil(49 * minimum)`` rows are dropped from every sample.
        maximum: largest ratio, at most 1.
        mean: mean of the normal before truncation (its std is 0.25).
        purpose: separates the streams of training and generation.
        ratio_shared_by: samples i // n alike share a ratio; their order of rows stays their own.

    Returns:
        (drop, mask), each (B, 49) bool; every dropped row is also masked.

    Raises:
        ValueError: unless 0 <= minimum <= maximum <= 1.
    """
    if not 0 <= minimum <= maximum <= 1:
        raise ValueError(f"mask ratios need 0 <= minimum <= maximum <= 1, not {minimum}, {maximum}")
    uniforms = np.stack([stream(seed, purpose, first + i).random(1 + ROWS) for i in range(count)])
    leaders = [(first + i) // ratio_shared_by * ratio_shared_by for i in range(count)]
    drawn = np.array([stream(seed, purpose, leader).random() for leader in leaders])
    if maximum > minimum:
        low, high = (minimum - mean) / RATIO_STD, (maximum - mean) / RATIO_STD
        ratio = truncnorm.ppf(drawn, low, high, loc=mean, scale=RATIO_STD)
        ratio = ratio.clip(minimum, maximum)
    else:
        ratio = np.full(count, minimum)
    dropped = math.ceil(ROWS * minimum)
    masked = np.ceil(ROWS * ratio).astype(int).clip(dropped, ROWS)
    place = uniforms[:, 1:].argsort(1, kind="stable").argsort(1, kind="stable")
    return torch.from_numpy(place < dropped), torch.from_numpy(place < masked[:, None])
