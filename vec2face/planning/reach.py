"""Whether perturbed vectors can stay as near to their identity as a parameter file asks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vec2face.config.params import Params
from vec2face.dataset.perturbation import ATTEMPTS, Perturbation
from vec2face.identities.pca import PCA
from vec2face.runtime.files import InputError

AUTHORS_SCALE, AUTHORS_DIMENSION = 0.967, 512  # of the released code's features, measured
SAMPLE = 1000  # identity vectors that are looked at


def usual() -> PCA:
    """Return a distribution as long and as wide as the authors' recognizer has it, of no shape."""
    axes, even = np.eye(AUTHORS_DIMENSION), np.full(AUTHORS_DIMENSION, AUTHORS_SCALE)
    return PCA(even, axes, even**2, AUTHORS_SCALE, AUTHORS_DIMENSION, axes)


def out_of_reach(p: Params, pca: Path | str) -> Iterator[str]:
    """Name levels of sigma that no image gets, or can hardly get; or such a max_angle.

    These are levels of which less than one draw in ``ATTEMPTS`` keeps min_similarity.

    They are judged at the shortest of the identity vectors that the distribution ``pca`` gives; if
    it is not there yet, at a vector as long as features of the authors' recognizer, so that the
    estimate is optimistic.
    """
    try:
        fit = PCA.load(pca)
        vectors = fit.sample(p.sampling_seed, "identity", 0, min(p.identities, SAMPLE))
        norms = np.linalg.norm(vectors, axis=1)
        vector = vectors[norms.argmin()]
        words = f"the shortest identity vector of {pca}, of length {norms.min():.3g}"
    except InputError:  # not there yet
        fit = usual()
        vector = fit.mean
        norm = np.linalg.norm(vector)
        words = f"a vector as long as features of the authors' recognizer, {norm:.3g}"
    perturbation = Perturbation.of(p, fit)
    chances = perturbation.chances(vector).items()
    if perturbation.max_angle is not None:
        for angle, chance in chances:
            if chance * ATTEMPTS < 1:
                yield (
                    f"max_angle: {angle:g} degrees hardly reach min_similarity = "
                    f"{p.min_similarity:g}: {chance:.2g} of draws; lower one of the two"
                )
        return
    for sigma, share in zip(p.sigma, p.sigma_share, strict=True):
        if share and perturbation.mixture == "identity" and sigma not in perturbation.levels:
            yield (
                f"sigma_share: no image gets sigma = {sigma:g}, whose share of the "
                f"{p.images_per_identity} of an identity is {share * p.images_per_identity:.2g}; "
                "raise images_per_identity or this share"
            )
    for sigma, chance in chances:
        if chance * ATTEMPTS < 1:
            yield (
                f"sigma: {sigma:g} ({p.sigma_is}, {p.sigma_unit}) hardly reaches min_similarity = "
                f"{p.min_similarity:g}: {chance:.2g} of draws about {words}; lower one of the two"
            )
