"""How well the generator gives back faces it has not seen (paper Fig. 6 and 7)."""

import numpy as np

from vec2face.evaluation.separability import unit


def feature_cosine(original: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Cosine of each original's feature with its reconstruction's: (N, D) each -> (N,)."""
    if original.shape != reconstruction.shape:
        raise ValueError(f"features disagree in shape: {original.shape}, {reconstruction.shape}")
    return np.einsum("nd,nd->n", unit(original), unit(reconstruction))


def pixel_r2(
    original: np.ndarray, reconstruction: np.ndarray, mean_face: np.ndarray | None = None
) -> float:
    """Share of the pixels' variance about the mean face that the reconstructions explain.

    1 is perfect; 0 is as good as showing the mean face every time; below 0 is worse than that.

    Args:
        original: (N, H, W, 3) uint8.
        reconstruction: the same shape.
        mean_face: (H, W, 3), such as the training images' mean; default the originals' own, which
            is the strictest reference.
    """
    if original.shape != reconstruction.shape:
        raise ValueError(f"images disagree in shape: {original.shape}, {reconstruction.shape}")
    mean = original.mean(0, dtype=np.float64) if mean_face is None else mean_face
    unexplained = total = 0.0
    for one, other in zip(original, reconstruction, strict=True):
        truth = one.astype(np.float64)
        unexplained += float(np.square(truth - other).sum())
        total += float(np.square(truth - mean).sum())
    return 1 - unexplained / total
