"""The vectors of one identity's images: v_im = v_id + N(0, sigma) (paper, section 3.2, equation 4).

Or, after IDperturb (Boutros et al., CVPR 2026), v_id turned by a random angle.

A mixture of sigma values is spread over *each* identity's images by exact shares, smallest index
first. A vector whose cosine with its identity's falls below the least similarity is drawn again,
up to a bound.

sigma is a standard deviation or a variance. It counts in units of the recognizer's feature scale
(the rms standard deviation of its feature dimensions, kept in the PCA file), so that it means the
same where features are ten times smaller; or it is absolute. docs/method.md compares the readings.

The paper's noise is equal in all directions. Images of a real person vary in some more than in
others; noise of that shape (``within``) is this project's own alternative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from scipy.stats import chi2

from vec2face.config.params import Params
from vec2face.identities.cosines import cosines
from vec2face.identities.pca import PCA
from vec2face.randomness import stream
from vec2face.runtime.files import InputError

ATTEMPTS = 100
TRIALS = 1000


@dataclass(frozen=True)
class Perturbation:
    """How the images of an identity vary.

    Attributes:
        seed: the experiment's seed.
        images_per_identity: images of every identity, >= 1.
        sigma: noise levels >= 0.
        share: share of each level; they sum to 1.
        min_similarity: least cosine of v_im with v_id (paper: 0.5), below 1.
        feature_scale: rms standard deviation of the image features' dimensions.
        sigma_is: whether a level is the noise's standard deviation or its variance.
        sigma_unit: whether that is of the noise over ``feature_scale`` or of the noise itself.
        rescale: whether v_im gets the length of v_id.
        axes: (D, D) float64 that turns noise of unit covariance into noise of another one, with
            the same mean variance (``shaped``); None for noise equal in all directions.
        max_angle: the largest angle in degrees, up to 180, by which vectors are ``turned``; sigma
            and all that says how to read it then have no part. None for noise.
        mixture: "identity": shares hold exactly in each identity. "all": every image draws its
            level by the shares, as if all images were shuffled.
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
    sigma_is: Literal["std", "variance"] = "std"
    sigma_unit: Literal["features", "absolute"] = "features"
    rescale: bool = True
    axes: np.ndarray | None = field(default=None, repr=False)
    max_angle: float | None = None
    mixture: Literal["identity", "all"] = "identity"
    attempts: int = ATTEMPTS

    @classmethod
    def of(cls, p: Params, pca: PCA) -> Self:
        """Return what a parameter file asks for; ``sampling.released`` has no least similarity.

        Raises:
            InputError: ``perturbation`` is within, and ``pca`` has seen nobody twice.
        """
        released, axes = p.sampling.released, None
        if p.perturbation == "within":
            if pca.within is None:
                raise InputError(
                    "perturbation: within needs two images of some people of paths.pca_faces, "
                    "who have one each; choose gaussian or angular, or other faces"
                )
            axes = shaped(pca.within)
        return cls(
            p.sampling_seed,
            p.images_per_identity,
            p.sigma,
            p.sigma_share,
            -1.0 if released else p.min_similarity,
            pca.feature_scale,
            p.sigma_is,
            p.sigma_unit,
            p.sampling.rescale,
            axes,
            p.max_angle if p.perturbation == "angular" else None,
            "all" if released else "identity",
        )

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
        if self.max_angle is not None and not 0 < self.max_angle <= 180:
            raise InputError(f"max_angle: {self.max_angle} is not above 0 and up to 180 degrees")

    @property
    def levels(self) -> np.ndarray:
        """(images_per_identity,) float64: sigma by exact shares, of each image of an identity."""
        counts = shares(self.share, self.images_per_identity)
        return np.repeat(np.asarray(self.sigma, np.float64), counts)

    def level(self, identity: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Return sigma of images, given their identities and numbers within them: (B,) float64."""
        if self.mixture == "identity":
            return self.levels[image]
        drawn = [
            stream(self.seed, "sigma", int(i), int(m)).random()
            for i, m in zip(identity, image, strict=True)
        ]
        return np.asarray(self.sigma)[np.searchsorted(np.cumsum(self.share)[:-1], drawn, "right")]

    def deviation(self, sigma: np.ndarray | float) -> np.ndarray:
        """Return the standard deviation of the noise, in each dimension, at these levels."""
        deviation = np.sqrt(sigma) if self.sigma_is == "variance" else np.asarray(sigma)
        return deviation * self.feature_scale if self.sigma_unit == "features" else deviation

    def chances(self, vector: np.ndarray) -> dict[float, float]:
        """Return for each level the chance that a draw about ``vector`` (D,) will do.

        With ``max_angle``, this is the only level. For noise of another shape the chance is
        estimated, from ``TRIALS`` draws.
        """
        if self.max_angle is not None:
            similar = float(np.degrees(np.arccos(max(self.min_similarity, -1))))
            return {self.max_angle: min(1.0, similar / self.max_angle)}
        norm = float(np.linalg.norm(vector.astype(np.float64)))

        def chance(sigma: float) -> float:
            noise = float(self.deviation(sigma))
            if self.axes is None:
                return acceptance(norm, noise, len(vector), self.min_similarity)
            normal = stream(self.seed, "trial").standard_normal((TRIALS, len(vector)))
            drawn = vector + noise * normal @ self.axes
            return float((cosines(drawn, vector[None]) >= self.min_similarity).mean())

        return {sigma: chance(sigma) for sigma in sorted(set(self.levels.tolist()))}

    def check(self, identities: np.ndarray) -> None:
        """Refuse a mixture that these identity vectors (n, D) can hardly satisfy, before any work.

        Raises:
            InputError: naming sigma, min_similarity and the identity with the shortest vector, if
                less than one draw in ``attempts`` would pass for it.
        """
        shortest = int(np.linalg.norm(identities, axis=1).argmin())
        for sigma, chance in self.chances(identities[shortest]).items():
            if chance * self.attempts < 1:
                raise self._exhausted(sigma, shortest, f"only a share of {chance:.2g} of draws")

    def vectors(
        self, identities: np.ndarray, samples: range | np.ndarray, again: int = 0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw the vectors of B samples.

        Sample s is image ``s % images_per_identity`` of identity ``s // images_per_identity``. Its
        vector is a pure function of (seed, identity, image, v_id) and the settings.

        Args:
            identities: (n, D) float32 identity vectors.
            samples: their numbers.
            again: 0; another number gives them other vectors.

        Returns:
            ((B, D) float32, (B,) int64): the vectors, with ``rescale`` or ``max_angle`` of the norm
            of their identity's, and with cosine >= min_similarity and cos(max_angle) to it (all for
            the float32 values); and the draws each took.

        Raises:
            InputError: if one is not found within ``attempts`` draws.
        """
        identity, image = np.divmod(np.asarray(samples), self.images_per_identity)
        count = len(identity)
        centre = identities[identity].astype(np.float64)
        norm = np.linalg.norm(centre, axis=1, keepdims=True)
        least = self.min_similarity
        if self.max_angle is None:
            level = self.level(identity, image)
            noise = self.deviation(level)[:, None]
        else:
            level = np.full(count, self.max_angle)
            least = max(least, float(np.cos(np.radians(self.max_angle))))
        result = np.empty((count, identities.shape[1]), np.float32)
        draws = np.zeros(count, np.int64)
        left = np.arange(count)
        for attempt in range(self.attempts if count else 0):
            number = attempt + again * self.attempts
            drawn = [
                stream(self.seed, "perturbation", int(identity[s]), int(image[s]), number)
                for s in left
            ]
            normal = np.stack([random.standard_normal(identities.shape[1]) for random in drawn])
            if self.max_angle is not None:
                share = np.array([[random.random()] for random in drawn])
                vector = turned(centre[left], normal, np.radians(self.max_angle) * share)
            else:
                if self.axes is not None:  # row by row: how BLAS rounds depends on their number
                    normal = np.stack([row @ self.axes for row in normal])
                vector = centre[left] + noise[left] * normal
                if self.rescale:
                    vector *= norm[left] / np.linalg.norm(vector, axis=1, keepdims=True)
            result[left] = vector
            draws[left] = attempt + 1
            left = left[cosines(result[left], identities[identity[left]]) < least]
            if not len(left):
                break
        if not len(left):
            return result, draws
        raise self._exhausted(
            float(level[left[0]]),
            int(identity[left[0]]),
            f"none of {self.attempts} draws",
        )

    def _exhausted(self, level: float, identity: int, what: str) -> InputError:
        key = "sigma" if self.max_angle is None else "max_angle"
        return InputError(
            f"{key} = {level:g} with min_similarity = {self.min_similarity:g}: {what} for identity "
            f"{identity} is similar enough; lower {key} or min_similarity"
        )


def turned(vectors: np.ndarray, normal: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Turn each vector (B, D) by its angle (B, 1) in radians towards normal numbers (B, D).

    What the numbers have across the vector points in a direction uniform among all that are
    orthogonal to it. Lengths stay.
    """
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / norm
    across = normal - (normal * unit).sum(axis=1, keepdims=True) * unit
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return norm * (np.cos(angle) * unit + np.sin(angle) * across)


def shaped(covariance: np.ndarray) -> np.ndarray:
    """Return the symmetric root of a covariance (D, D), scaled to a mean variance of 1."""
    values, vectors = np.linalg.eigh(covariance / (np.trace(covariance) / len(covariance)))
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


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
