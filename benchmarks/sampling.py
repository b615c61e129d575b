"""How much each part of ``sampling.released`` changes a finished run, and the readings of sigma.

    python -m benchmarks.sampling    # about a minute; VEC2FACE_ROOT names another run's folder

Takes the run's identity vectors, generator and recognizer, and writes nothing. docs/method.md has
the figures of the default run.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.dataset.generate import generate_images
from vec2face.dataset.perturbation import Perturbation
from vec2face.faces.images import decode, encode
from vec2face.generator.inference import arrange_for_inference
from vec2face.generator.masks import masks
from vec2face.generator.released import open_generator
from vec2face.identities.cosines import cosines
from vec2face.identities.pca import PCA
from vec2face.recognizers.features import open_recognizer

IMAGES = 400


def readings(run: Perturbation, identities: np.ndarray) -> None:
    """Print what each reading of sigma does to the vectors, one draw each, without rescaling."""
    k = run.images_per_identity
    count = min(len(identities), 200) * k
    owners = identities[np.arange(count) // k]
    print("reading               noise a dimension    cosine: mean  smallest  below 0.5   length")
    for sigma_is in ("std", "variance"):
        for sigma_unit in ("features", "absolute"):
            free = replace(
                run,
                sigma_is=sigma_is,
                sigma_unit=sigma_unit,
                max_angle=None,
                min_similarity=-1.0,
                rescale=False,
            )
            vectors, _ = free.vectors(identities, range(count))
            near = cosines(vectors, owners)
            length = np.linalg.norm(vectors, axis=1) / np.linalg.norm(owners, axis=1)
            noise = " ".join(f"{x:.2f}" for x in np.atleast_1d(free.deviation(np.array(run.sigma))))
            print(
                f"{sigma_is:8} {sigma_unit:8}     {noise:20} {near.mean():12.2f} "
                f"{near.min():9.2f} {(near < 0.5).mean():9.1%} {length.mean():9.2f}"
            )


def pixels(run: Perturbation, p: Params, identities: np.ndarray) -> None:
    """Print what the fractions and the quality of the JPEGs change in images and features."""
    generator = arrange_for_inference(open_generator(Path(p.paths.generator)))
    drawn = partial(masks, p.seed, purpose="generation mask", **p.sampling.masks.model_dump())
    vectors, _ = run.vectors(identities, range(IMAGES))
    recognizer = open_recognizer(Path(p.paths.recognizer))
    size = recognizer.input_size
    rounded, cut = (generate_images(generator, vectors, drawn, truncated=t) for t in (False, True))
    usual = p.sampling.jpeg_quality
    first = None
    print("images          bytes   levels from the usual: mean  mean absolute   cosine of features")
    for name, images, quality in (
        ("usual", rounded, usual),
        ("cut off", cut, usual),
        ("quality 75", rounded, 75),
        ("both", cut, 75),
    ):
        files = [encode(image, quality) for image in images]
        seen = np.stack([decode(file, name) for file in files]).astype(int)
        features = recognizer.features(np.stack([decode(file, name, size) for file in files]))
        first = first or (seen, features)
        apart, near = seen - first[0], cosines(features, first[1])
        print(
            f"{name:10} {np.mean([len(file) for file in files]):10.0f} {apart.mean():27.2f} "
            f"{np.abs(apart).mean():14.2f} {near.mean():19.3f}"
        )


def main() -> None:
    """Print both tables."""
    p, identities = Params.load(artifacts.params), np.load(artifacts.identities)
    pca = PCA.load(artifacts.pca)
    norms = np.linalg.norm(identities, axis=1)
    print(
        f"feature scale {pca.feature_scale:.3f}, lengths {norms.min():.1f} to {norms.max():.1f}\n"
    )
    run = Perturbation.of(p, pca)
    readings(run, identities)
    print()
    pixels(run, p, identities)


if __name__ == "__main__":
    main()
