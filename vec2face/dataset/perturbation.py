"""The vectors of one identity's images: v_im = v_id + N(0, sigma), |v_im| = |v_id| (section 3.2).

A mixture of sigma values is spread over *each* identity's images by exact shares, smallest index
first. A vector whose cosine with its identity's falls below the least similarity is drawn again,
up to a bound.

sigma counts in units of the recognizer's feature scale (the rms standard deviation of its feature
dimensions, kept in the PCA file). The paper's recognizer has 0.967, so there sigma = 0.3 is a noise
of 0.29 a dimension; another recognizer's features may be ten times smaller, and sigma still means
the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from vec2face.identities.cosines import cosines
from vec2face.randomness import stream
from vec2face.runtime.files import InputError

ATTEMPTS = 100


@dataclass(frozen=True)
class Perturbation:
    """How the images of an identity vary.

    Attributes:
        seed: the experiment's seed.
        images_per_identity: images of every identity, >= 1.
        sigma: noise levels >= 0, in units of ``feature_scale``.
        share: share of each level in an identity's images; they sum to 1.
        min_similarity: least cosine of v_im with v_id (paper: 0.5), below 1.
        feature_scale: rms standard deviation of the image features' dimensions.
        attempts: draws for one vector before giving up.

    Raises:
        InputError: on values out of these ranges, naming the parameter.
    """

    seed: int
    images_per_identity: int
    sigma: Sequence[float]
    share: Sequence[float]
    min_similarity: float
    feature_scale: float
    attempts: int = ATTEMPTS

    def __post_init__(self) -> None:
        if self.images_per_identity < 1:
            raise InputError(f"images_per_identity: {self.images_per_identity} is below 1")
        if len(self.sigma) != len(self.share) or not self.sigma:
            raise InputError(
                f"sigma_share: {list(self.share)} must give one share for each of "
                f"sigma = {list(self.sigma)}"
            )
        if min(self.sigma) < 0 or not np.isfinite(self.sigma).all():
            raise InputError(f"sigma: {list(self.sigma)} must be finite and not negative")
        if min(self.share) < 0 or abs(sum(self.share) - 1) > 1e-6:
            raise InputError(f"sigma_share: {list(self.share)} must be positive and sum to 1")
        if not self.min_similarity < 1:
            raise InputError(f"min_similarity: {self.min_similarity} must be below 1")
        if not self.feature_scale > 0:
            raise InputError(f"feature_scale: {self.feature_scale} must be positive")

    @property
    def levels(self) -> np.ndarray:
        """(images_per_identity,) float64, the sigma of each image of every identity."""
        counts = shares(self.share, self.images_per_identity)
        return np.repeat(np.asarray(self.sigma, np.float64), counts)

    def check(self, identities: np.ndarray) -> None:
        """Refuse a mixture that these identity vectors (n, D) can hardly satisfy, before any work.

        Raises:
            InputError: naming sigma, min_similarity and the identity with the shortest vector, if
                less than one draw in ``attempts`` would pass for it.
        """
        norms = np.linalg.norm(identities, axis=1).astype(np.float64)
        shortest = int(norms.argmin())
        for sigma in sorted(set(self.levels.tolist())):
            chance = acceptance(
                float(norms[shortest]),
                sigma * self.feature_scale,
                identities.shape[1],
                self.min_similarity,
            )
            if chance * self.attempts < 1:
                raise self._exhausted(sigma, shortest, f"only a share of {chance:.2g} of draws")

    def vectors(
        self, identities: np.ndarray, first: int, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the vectors of samples ``first .. first + count - 1``.

        Sample s is image ``s % images_per_identity`` of identity ``s // images_per_identity``. Its
        vector is a pure function of (seed, identity, image, v_id, sigma).

        Args:
            identities: (n, D) float32 identity vectors.
            first: index of the first sample.
            count: number of samples, B.

        Returns:
            ((B, D) float32, (B,) int64): the vectors, of the norm of their identity's and with
            cosine >= min_similarity to it (both for the float32 values), and the draws each took.

        Raises:
            InputError: if one is not found within ``attempts`` draws.
        """
        identity, image = np.divmod(np.arange(first, first + count), self.images_per_identity)
        centre = identities[identity].astype(np.float64)
        norm = np.linalg.norm(centre, axis=1, keepdims=True)
        noise = self.levels[image] * self.feature_scale
        result = np.empty((count, identities.shape[1]), np.float32)
        draws = np.zeros(count, np.int64)
        left = np.arange(count)
        for attempt in range(self.attempts):
            normal = [
                stream(
                    self.seed, "perturbation", int(identity[s]), int(image[s]), attempt
                ).standard_normal(identities.shape[1])
                for s in left
            ]
            vector = centre[left] + noise[left, None] * np.stack(normal)
            vector *= norm[left] / np.linalg.norm(vector, axis=1, keepdims=True)
            result[left] = vector
            draws[left] = attempt + 1
            left = left[cosines(result[left], identities[identity[left]]) < self.min_similarity]
            if not len(left):
                return result, draws
        raise self._exhausted(
            float(self.levels[image[left[0]]]),
            int(identity[left[0]]),
            f"none of {self.attempts} draws",
        )

    def _exhausted(self, sigma: float, identity: int, what: str) -> InputError:
        return InputError(
            f"sigma = {sigma:g} with min_similarity = {self.min_similarity:g}: {what} for identity "
            f"{identity} is similar enough; lower sigma or min_similarity"
        )


def shares(share: Sequence[float], total: int) -> np.ndarray:
    """Split ``total`` by shares that sum to 1, by largest remainders; (len(share),) int64.

    Equal remainders go to the earlier share. Remainders are compared to nine digits, so that the
    rounding of 0.2 * 5 decides nothing.
    """
    exact = np.round(np.asarray(share, np.float64) * total, 9)
    counts = np.floor(exact).astype(np.int64)
    order = np.argsort(-np.round(exact - counts, 9), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts


def acceptance(norm: float, noise: float, dimension: int, min_similarity: float) -> float:
    """Return the chance that cosine(v + noise * N(0, I), v) >= min_similarity, for |v| = norm.

    Along v the sum is norm + noise * z; across it, noise times a chi variable of D - 1 degrees. The
    cosine is high enough if the latter stays below the former times tan(arccos(min_similarity)),
    whose chance is averaged over z. For min_similarity <= 0 the answer is 1, an upper bound.
    """
    if noise == 0 or min_similarity <= 0:
        return 1.0
    z = np.linspace(-8, 8, 1601)
    along = np.maximum(norm / noise + z, 0)
    reach = along**2 * (1 / min_similarity**2 - 1)
    inside = chi2.cdf(reach, dimension - 1) if dimension > 1 else (along > 0).astype(float)
    density = np.exp(-(z**2) / 2)
    return float((inside * density).sum() / density.sum())
