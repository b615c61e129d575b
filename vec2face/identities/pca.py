"""The distribution of identity features, from which new identities are drawn (paper, section 3.2).

The paper fits a PCA that keeps every dimension to the mean features of real people, takes mean and
covariance of these people in PCA space, draws from that multivariate normal and maps back. In PCA
space the mean is zero and the covariance diagonal by construction, so drawing from the normal is
drawing independent normals, one per component, each with its component's standard deviation.

Fewer people than dimensions: P people span P - 1 directions. The other directions get variance
zero, and every drawn vector lies in the affine hull of the people seen; ``PCA.rank`` tells. Nothing
is invented for the unseen directions.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from vec2face.faces.reading import read_npz, reading
from vec2face.randomness import normals
from vec2face.recognizers.statistics import check_finite
from vec2face.runtime.files import InputError, whole_file

BLOCK = 512  # rows of one matrix product, always: its shape decides how BLAS rounds


@dataclass(frozen=True)
class PCA:
    """A normal distribution of identity features, in its own axes.

    Attributes:
        mean: (D,) float64, mean identity feature.
        components: (D, D) float64, orthonormal rows, by falling variance; the entry of largest
            magnitude of each row is positive, which settles the sign.
        variance: (D,) float64 >= 0, variance along each component (divisor P - 1).
        feature_scale: rms over the dimensions of the standard deviation of *image* features
            (0.967 for the authors' recognizer, measured); the unit of sigma.
        people: number of identities the fit has seen, P.
        within: (D, D) float64, covariance of images about their person's mean; None if no person
            had two images.
    """

    mean: np.ndarray
    components: np.ndarray
    variance: np.ndarray
    feature_scale: float
    people: int
    within: np.ndarray | None = None

    @classmethod
    def fit(
        cls,
        identity_features: np.ndarray,
        feature_scale: float,
        within: np.ndarray | None = None,
    ) -> Self:
        """Fit to one feature per person.

        Args:
            identity_features: (P, D), not L2-normalised, P >= 2.
            feature_scale: see the class; :func:`recognizers.statistics.feature_scale`.
            within: see the class; :func:`recognizers.statistics.within_covariance`.

        Raises:
            InputError: on another shape, fewer than two people, a value that is not finite, people
                who are all alike, or a scale that is not positive.
        """
        features = np.asarray(identity_features, np.float64)
        if features.ndim != 2 or len(features) < 2:
            raise InputError(
                f"PCA needs the features of at least two people, (P, D); got {features.shape}"
            )
        check_finite(features, "identity features")
        if not (np.isfinite(feature_scale) and feature_scale > 0):
            raise InputError(f"feature_scale must be positive, not {feature_scale}")
        mean = features.mean(0)
        centred = features - mean
        covariance = centred.T @ centred / (len(features) - 1)
        variance, vectors = np.linalg.eigh(covariance)
        variance, components = variance[::-1].copy(), vectors.T[::-1].copy()
        if variance[0] <= 0:
            raise InputError("all people have the same feature: nothing to draw from")
        # What lies below float64's reach of the largest variance is rounding, not data.
        variance[variance < variance[0] * len(variance) * np.finfo(np.float64).eps] = 0
        variance[len(features) - 1 :] = 0
        peak = np.abs(components).argmax(1)[:, None]
        components *= np.sign(np.take_along_axis(components, peak, 1))
        return cls(mean, components, variance, float(feature_scale), len(features), within)

    @property
    def rank(self) -> int:
        """Number of directions with any variance, at most P - 1."""
        return int(np.count_nonzero(self.variance))

    def sample(self, seed: int, purpose: str, first: int, count: int) -> np.ndarray:
        """Draw identity vectors ``first .. first + count - 1``: (count, D) float32.

        Vector i is a pure function of (fit, seed, purpose, i), to the last bit on one machine:
        rows are multiplied in blocks of one shape that start at multiples of ``BLOCK``.
        """
        axes = np.sqrt(self.variance)[:, None] * self.components
        result = np.empty((count, len(self.mean)), np.float32)
        for start in range(first - first % BLOCK, first + count, BLOCK):
            low, high = max(first, start), min(first + count, start + BLOCK)
            draws = np.zeros((BLOCK, len(self.mean)))
            draws[low - start : high - start] = normals(
                seed, purpose, low, high - low, len(self.mean)
            )
            vectors = draws @ axes + self.mean
            result[low - first : high - first] = vectors[low - start : high - start]
        return result

    def spectrum(self) -> dict[str, float | int]:
        """Summarise the variances: what share the first components hold, and how many count.

        ``effective_dimensions`` is the participation ratio, (sum v)^2 / sum v^2.
        """
        share = np.cumsum(self.variance) / self.variance.sum()
        leading = {
            f"share_of_first_{k}": float(share[k - 1]) for k in (1, 8, 32, 128) if k <= len(share)
        }
        effective = self.variance.sum() ** 2 / np.square(self.variance).sum()
        return {
            **leading,
            "components_for_95_percent": int(np.searchsorted(share, 0.95) + 1),
            "effective_dimensions": float(effective),
            "rank": self.rank,
            "people": self.people,
            "dimensions": len(self.mean),
        }

    def save(self, path: Path | str) -> None:
        """Write an ``.npz``; equal fits give equal bytes."""
        arrays = {
            "mean": self.mean,
            "components": self.components,
            "variance": self.variance,
            "feature_scale": np.float64(self.feature_scale),
            "people": np.int64(self.people),
        }
        if self.within is not None:
            arrays["within"] = self.within
        with whole_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: if the file is missing, is no ``.npz`` of a PCA, or its shapes disagree.
        """
        remedy = "make it again with `dvc repro pca`"
        file = read_npz(path, remedy)
        with reading(f"{path}: not a saved PCA", remedy):
            pca = cls(
                file["mean"],
                file["components"],
                file["variance"],
                float(file["feature_scale"]),
                int(file["people"]),
                file.get("within"),
            )
        dimension = pca.mean.size
        if pca.components.shape != (dimension, dimension) or pca.variance.shape != (dimension,):
            raise InputError(f"{path}: mean, components and variance disagree in size; {remedy}")
        if pca.within is not None and pca.within.shape != pca.components.shape:
            raise InputError(f"{path}: within has another size than components; {remedy}")
        return pca
