"""The quality of generated images: are the people separable, consistent, and true to their vectors?

``extract`` computes the features that the measures need, which takes long; ``measure`` turns them
into figures. Two recognizers judge, each with a prefix of its figures: none is the recognizer of
the identity loss, in whose space the vectors live; ``second_`` is one that no loss has seen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from vec2face.dataset.generate import generate_images
from vec2face.evaluation.reconstruction import feature_cosine, pixel_r2
from vec2face.evaluation.separability import (
    describe,
    image_to_identity,
    nearest_other,
    separated_share,
)
from vec2face.faces.source import Source, load_images
from vec2face.recognizers import features
from vec2face.recognizers.features import Recognizer, extract_rows
from vec2face.runtime.blocks import Arrays, Blocks
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import processes

PREFIXES = ("", "second_")
LIMIT = 20_000  # images of a store, from its start: pairs grow with the square
IDENTITIES = 10_000  # identities whose images are made without perturbation
BLOCK = features.BLOCK  # images at a time


@dataclass(frozen=True)
class Subject:
    """What is measured: generated people, and held-out people beside them.

    Attributes:
        generator: see :func:`vec2face.dataset.generate.generate_images`.
        masks: ``masks(first, count, purpose=...)``; see :data:`vec2face.dataset.generate.Masks`.
        identities: (n, D) float32 identity vectors.
        generated: their images; a label is a row of ``identities``.
        vectors: (N, D) float32, what each of the images was generated from.
        held_out: images of people whom the generator was not trained on.
        held_out_features: (M, D) float32, their features under the recognizer of the loss.

    Raises:
        InputError: images and vectors, or images and features, differ in number.
    """

    generator: nn.Module
    masks: Callable[..., tuple[Tensor, Tensor]]
    identities: np.ndarray
    generated: Source
    vectors: np.ndarray
    held_out: Source
    held_out_features: np.ndarray

    def __post_init__(self) -> None:
        made, real = len(self.generated), len(self.held_out)
        if len(self.vectors) != made or len(self.held_out_features) != real:
            raise InputError(
                f"{len(self.vectors)} vectors for {made} generated images, "
                f"{len(self.held_out_features)} features for {real} held-out images: "
                "run `dvc repro` again"
            )


def extract(
    subject: Subject, recognizer: Recognizer, second: Recognizer, work: Path
) -> dict[str, Arrays]:
    """Extract the features of four kinds of image, together with the other processes.

    Args:
        subject: what is measured.
        recognizer: that of the identity loss.
        second: one that no loss has seen.
        work: where finished blocks lie, so that a killed run goes on.

    Returns:
        On the first process, for each of ``"generated"``, ``"held_out"``, ``"pure"`` (one image an
        identity, from its vector without perturbation) and ``"copies"`` (held-out people,
        generated again from their features): ``"<prefix>features"``, and the ``"images"`` of the
        last two. Nothing on the other processes.
    """
    judges = dict(zip(PREFIXES, (recognizer, second), strict=True))

    def stored(source: Source, prefixes: Sequence[str], rows: range) -> Arrays:
        return {f"{k}features": extract_rows(judges[k], source, rows) for k in prefixes}

    def painted(vectors: np.ndarray, purpose: str, rows: range) -> Arrays:
        masks = partial(subject.masks, purpose=purpose)
        wanted = vectors[rows.start : rows.stop]
        images = generate_images(subject.generator, wanted, masks, rows.start)
        seen = {f"{k}features": r.features(images) for k, r in judges.items()}
        return {"images": images, **seen}

    s, real = subject, subject.held_out_features[:LIMIT]
    jobs: dict[str, tuple[int, Callable[[range], Arrays]]] = {
        "generated": (len(s.generated.labels[:LIMIT]), partial(stored, s.generated, PREFIXES)),
        "held_out": (len(real), partial(stored, s.held_out, PREFIXES[1:])),
        "pure": (len(s.identities[:IDENTITIES]), partial(painted, s.identities, "pure mask")),
        "copies": (len(real), partial(painted, real, "reconstruction mask")),
    }
    blocks = {name: _finish(work / name, name, *job) for name, job in jobs.items()}
    if not processes().main:
        return {}
    found = {name: blocks[name].join(range(0, jobs[name][0], BLOCK)) for name in jobs}
    found["held_out"]["features"] = real
    return found


def _finish(work: Path, what: str, count: int, make: Callable[[range], Arrays]) -> Blocks:
    blocks = Blocks(work, lambda first: make(range(first, min(first + BLOCK, count))))
    blocks.finish(range(0, count, BLOCK), what)
    return blocks


def measure(subject: Subject, found: Mapping[str, Arrays]) -> dict[str, float]:
    """Measure what ``extract`` found; docs/measures.md describes each figure.

    Returns:
        ``describe``'s measures of the generated images; with ``held_out_``, of the held-out
        people's own; with ``pure_``, the separation of the images without perturbation;
        ``image_to_vector_...``: an image against its identity's vector, against the one it was
        generated from (``own``); ``reconstruction_cosine`` and ``pixel_r2``: held-out people
        against themselves, generated again. All come under both recognizers but those of vectors
        and pixels. A measure that needs two images of a person is absent where there is one.
    """
    labels = subject.generated.labels[:LIMIT]
    real_labels = subject.held_out.labels[:LIMIT]
    copies = found["copies"]["images"]
    originals = load_images(subject.held_out, copies.shape[1], range(len(copies)))
    quality: dict[str, float] = {"pixel_r2": pixel_r2(originals, copies)}
    for prefix in PREFIXES:
        made, real, pure, copied = (
            found[kind][f"{prefix}features"] for kind in ("generated", "held_out", "pure", "copies")
        )
        nearest = nearest_other(pure)
        measures = {
            **describe(made, labels)[0],
            **{f"held_out_{k}": v for k, v in describe(real, real_labels)[0].items()},
            "pure_separated_share": separated_share(nearest),
            "pure_nearest_other_mean": float(nearest.mean()),
            "reconstruction_cosine": float(feature_cosine(real, copied).mean()),
        }
        quality |= {prefix + key: value for key, value in measures.items()}

    # The vectors live in the space of the loss's recognizer.
    made, pure = found["generated"]["features"], found["pure"]["features"]
    own = np.asarray(subject.vectors[: len(made)])
    to_vector = image_to_identity(made, subject.identities, labels)
    quality["image_to_vector_mean"] = float(to_vector.mean())
    quality["image_to_vector_noise"] = float((to_vector < 0.3).mean())
    quality["image_to_own_vector_mean"] = float(feature_cosine(made, own).mean())
    quality["pure_to_vector_mean"] = float(
        feature_cosine(pure, subject.identities[: len(pure)]).mean()
    )
    quality["measured_images"] = len(labels)
    return {key: value for key, value in quality.items() if np.isfinite(value)}
