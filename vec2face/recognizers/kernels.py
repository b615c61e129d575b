"""Batch norm with PReLU on a CPU, in as few passes over memory as it takes (numba).

Maps are (rows, width) float32, contiguous: images and places by channels. Narrow maps come with
several neighbouring rows as one, so that a row fills vector registers. Sums are taken over short
runs of rows in float32, and over these in float64.
"""

import numpy as np
from numba import njit

RUN = 128  # rows whose sums are float32

_compiled = njit(cache=True, nogil=True)


@_compiled
def moments(x: np.ndarray, pivot: np.ndarray, sums: np.ndarray) -> None:
    """Add the sums (2, width) of x - pivot and of its square."""
    width = x.shape[1]
    first, second = np.empty(width, np.float32), np.empty(width, np.float32)
    for start in range(0, len(x), RUN):
        first[:] = 0
        second[:] = 0
        for i in range(start, min(start + RUN, len(x))):
            for j in range(width):
                value = x[i, j] - pivot[j]
                first[j] += value
                second[j] += value * value
        for j in range(width):
            sums[0, j] += first[j]
            sums[1, j] += second[j]


@_compiled
def activate(
    x: np.ndarray, scale: np.ndarray, shift: np.ndarray, slope: np.ndarray, y: np.ndarray
) -> None:
    """Write PReLU(scale * x + shift) to y."""
    for i in range(len(x)):
        for j in range(x.shape[1]):
            value = x[i, j] * scale[j] + shift[j]
            y[i, j] = value if value > 0 else value * slope[j]


@_compiled
def gradient_sums(
    x: np.ndarray,
    gradient: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    slope: np.ndarray,
    mean: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Add the sums (3, width) of h, of h * (x - mean), and of the slope's gradient.

    h is the gradient before the activation.
    """
    width = x.shape[1]
    whole, along = np.empty(width, np.float32), np.empty(width, np.float32)
    to_slope = np.empty(width, np.float32)
    for start in range(0, len(x), RUN):
        whole[:] = 0
        along[:] = 0
        to_slope[:] = 0
        for i in range(start, min(start + RUN, len(x))):
            for j in range(width):
                value = x[i, j] * scale[j] + shift[j]
                g = gradient[i, j]
                h = g if value > 0 else g * slope[j]
                to_slope[j] += np.float32(0) if value > 0 else g * value
                whole[j] += h
                along[j] += h * (x[i, j] - mean[j])
        for j in range(width):
            sums[0, j] += whole[j]
            sums[1, j] += along[j]
            sums[2, j] += to_slope[j]


@_compiled
def gradient_input(
    x: np.ndarray,
    gradient: np.ndarray,
    scale: np.ndarray,
    shift: np.ndarray,
    slope: np.ndarray,
    tilt: np.ndarray,
    level: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write scale * h + tilt * x + level to out."""
    for i in range(len(x)):
        for j in range(x.shape[1]):
            value = x[i, j] * scale[j] + shift[j]
            g = gradient[i, j]
            h = g if value > 0 else g * slope[j]
            out[i, j] = scale[j] * h + tilt[j] * x[i, j] + level[j]
