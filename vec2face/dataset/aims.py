"""Which images of an identity AttrOP makes, and what it aims at (paper, section 3.3).

Groups of an identity's images, by shares, replace images at random positions, so that the shares of
sigma survive among them. Groups have aims, one value for each attribute that they care for.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from vec2face.config.attributes import Aim, AttrOP
from vec2face.config.params import Params
from vec2face.dataset.attrop import Attribute, Networks, Result, Sample, Settings
from vec2face.dataset.attrop_figures import Look, count, judge, summarise
from vec2face.dataset.attrop_reference import Mode, optimise_as
from vec2face.dataset.perturbation import Perturbation, shares
from vec2face.estimators.estimator import Estimator, open_estimator
from vec2face.faces.images import to_tensor
from vec2face.faces.source import Source, load_images
from vec2face.generator.network import Vec2Face
from vec2face.randomness import stream
from vec2face.recognizers.features import open_network
from vec2face.runtime.processes import processes

REAL, BATCH = 1024, 64  # images that percentiles are taken of, and at a time

Vectors = Callable[[np.ndarray, int], np.ndarray]
"""``vectors(samples, again)`` -> (B, D) float32: where samples start, at another attempt."""

Astray = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``astray(vectors, labels)`` -> (B,) bool: which are nearer to another identity than to theirs."""


@dataclass(frozen=True)
class Group:
    """Images of each identity, and what they are to be.

    Attributes:
        share: of an identity's images.
        aims: value of each attribute that counts here, by its name.
    """

    share: float
    aims: Mapping[str, float]


@dataclass(frozen=True)
class Aims:
    """What AttrOP does in a data set.

    Attributes:
        seed: of the positions.
        images_per_identity: of all of them.
        groups: those that AttrOP makes; the rest of an identity's images are drawn plainly.
        networks: generator, recognizer, estimators.
        settings: of the optimisation.
        unconverged: ``best``: the best image on the way is kept. ``again``: a sample starts from
            another perturbation first, up to ``attempts`` times. ``drop``: it is left out.
        attempts: at most, of a sample.
        mode: how samples are optimised, see ``attrop_reference``.
        judges: estimators that no loss sees, by the attribute that they measure, too.
    """

    seed: int
    images_per_identity: int
    groups: Sequence[Group]
    networks: Networks
    settings: Settings
    unconverged: Literal["best", "again", "drop"]
    attempts: int
    mode: Mode
    judges: Mapping[str, Look]

    def groups_of(self, samples: np.ndarray) -> np.ndarray:
        """Return the group of each sample, -1 for none: (B,) int64."""
        identity, image = np.divmod(samples, self.images_per_identity)
        found = [self._groups(int(i))[m] for i, m in zip(identity, image, strict=True)]
        return np.array(found, np.int64)

    def places_of(self, samples: np.ndarray) -> np.ndarray:
        """Return each sample's place among all samples of its group, (B,) int64.

        Slots take places in turn, so each has as many of every group as the others.
        """
        places = []
        for i, m in zip(*np.divmod(samples, self.images_per_identity), strict=True):
            alike = self._groups(int(i)) == self._groups(int(i))[m]
            places.append(int(i) * alike.sum() + alike[:m].sum())
        return np.array(places, np.int64)

    def _groups(self, identity: int) -> np.ndarray:
        """Return the group of each of an identity's images."""
        rest = 1 - sum(group.share for group in self.groups)
        split = shares([*(group.share for group in self.groups), rest], self.images_per_identity)
        kinds = np.repeat([*range(len(self.groups)), -1], split)
        return kinds[_places(self.seed, identity, self.images_per_identity)]

    def targets(self, groups: np.ndarray) -> np.ndarray:
        """Return the targets of samples by their groups: (B, attributes) float32, nan for none."""
        names = [attribute.name for attribute in self.settings.attributes]
        table = np.full((len(self.groups) + 1, len(names)), np.nan, np.float32)  # the last is none
        for row, group in enumerate(self.groups):
            for name, value in group.aims.items():
                table[row, names.index(name)] = value
        return table[groups]

    def starts(self, perturbation: Perturbation) -> Perturbation:
        """Return how the vectors vary that are optimised: in the released code by one sigma."""
        if self.mode != "released":
            return perturbation
        return replace(perturbation, sigma=[max(perturbation.sigma)], share=[1.0])

    def make(
        self,
        samples: np.ndarray,
        identities: np.ndarray,
        masks: tuple[torch.Tensor, torch.Tensor],
        vectors: Vectors,
        astray: Astray,
    ) -> tuple[dict[int, Result], Counter[str]]:
        """Make the images of samples.

        Args:
            samples: (B,) their numbers; all are of some group.
            identities: (B, D) float32, their identity vectors.
            masks: (B, 49) each, drop and mask.
            vectors: see :data:`Vectors`.
            astray: see :data:`Astray`; such a result is none.

        Returns:
            Results by number, without those dropped or astray, and counts (``attrop_figures``): for
            each group g also ``g/dropped`` and ``g/astray``.
        """
        groups = self.groups_of(samples)
        rows = {int(sample): row for row, sample in enumerate(samples)}
        places = self.places_of(samples)
        targets = torch.from_numpy(self.targets(groups))
        waiting, found, attempts = samples, dict[int, Result](), Counter[int]()
        for again in range(self.attempts if self.unconverged == "again" else 1):
            starts = vectors(waiting, again)
            todo = [
                Sample(
                    int(sample),
                    int(places[rows[int(sample)]]),
                    torch.from_numpy(start),
                    torch.from_numpy(identities[rows[int(sample)]]),
                    targets[rows[int(sample)]],
                    *(mask[rows[int(sample)]] for mask in masks),
                )
                for sample, start in zip(waiting, starts, strict=True)
            ]
            scales = np.array([a.scale for a in self.settings.attributes], np.float32)
            for result in optimise_as(self.mode, self.networks, todo, self.settings):
                attempts[result.number] += 1
                before = found.get(result.number)
                if result.converged or result.better_than(before, scales):
                    found[result.number] = result
            waiting = np.array([n for n in waiting if not found[int(n)].converged], np.int64)
            if not len(waiting):
                break
        drop = self.unconverged == "drop"
        kept = {number: r for number, r in found.items() if r.converged or not drop}
        labels = np.array([n // self.images_per_identity for n in kept])
        off = astray(np.stack([r.vector for r in kept.values()]), labels) if kept else labels
        lost = [number for number, is_off in zip(kept, off, strict=True) if is_off]
        dropped = found.keys() - kept.keys()
        kept = {number: result for number, result in kept.items() if number not in lost}
        of = {int(sample): int(group) for sample, group in zip(samples, groups, strict=True)}
        wanted, attributes = [group.aims for group in self.groups], self.settings.attributes
        counts = count(kept, of, attempts, wanted, attributes)
        for attribute in attributes:
            if look := self.judges.get(attribute.name):
                counts.update(judge(kept, of, wanted, attribute, look, self.networks.device))
        counts.update(f"{of[number]}/dropped" for number in dropped)
        counts.update(f"{of[number]}/astray" for number in lost)
        return kept, counts

    def summary(self, counts: Mapping[str, float]) -> dict[str, float]:
        """Return metrics of the counts of all images, see ``attrop_figures.summarise``."""
        return summarise(
            counts,
            [group.aims for group in self.groups],
            list(self.judges),
            ended=self.mode == "released",
            dropped=self.unconverged == "drop",
        )


@lru_cache(maxsize=64)
def _places(seed: int, identity: int, images: int) -> np.ndarray:
    return stream(seed, "attrop position", identity).permutation(images)


def aims_of(p: Params, attrop: AttrOP, generator: Vec2Face, faces: Source, quality: int) -> Aims:
    """Open the networks and return what the parameters ask for.

    Args:
        p: for paths, estimators and counts.
        attrop: what is asked for.
        generator: in the form that is trained: the arrangement for inference has no gradient.
        faces: real images, whose percentiles are aimed at.
        quality: of the JPEGs.

    Raises:
        InputError: a network is missing or not what the parameters say.
    """
    device = processes().device
    estimators = {
        name: open_estimator(p.estimators[name], f"estimators.{name}").to(device)
        for name in sorted(asked_of(attrop))
    }
    percentiles = any(isinstance(v, str) for group in attrop.groups for v in group.aims.values())
    seen = (
        _seen(faces, attrop.attributes, estimators, generator.image_size, device)
        if percentiles
        else {}
    )

    def value(name: str, asked: float | str) -> float:
        if not isinstance(asked, str):
            return asked
        return float(np.percentile(seen[name], float(asked[1:])))

    return Aims(
        p.sampling_seed,
        p.images_per_identity,
        [
            Group(group.share, {name: value(name, asked) for name, asked in group.aims.items()})
            for group in attrop.groups
        ],
        Networks(
            generator.to(device).requires_grad_(requires_grad=False).eval(),
            open_network(p.paths.recognizer).to(device),
            estimators,
            device,
        ),
        Settings(
            [
                Attribute(name, aim.scale, aim.tolerance, aim.kind, aim.estimator)
                for name, aim in attrop.attributes.items()
            ],
            attrop.steps,
            attrop.rate,
            attrop.identity,
            -1.0 if p.sampling.released else p.min_similarity,
            attrop.slots,
            quality,
        ),
        attrop.unconverged,
        attrop.attempts,
        attrop.mode,
        {name: estimators[aim.judge] for name, aim in attrop.attributes.items() if aim.judge},
    )


def asked_of(attrop: AttrOP) -> set[str]:
    """Return the names of the estimators that AttrOP takes, judges included."""
    aims = attrop.attributes.values()
    return {aim.estimator for aim in aims} | {aim.judge for aim in aims if aim.judge is not None}


def _seen(
    faces: Source,
    attributes: Mapping[str, Aim],
    estimators: Mapping[str, Estimator],
    size: int,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """Return the attributes of real images, evenly spaced; magnitudes where these are aimed at."""
    rows = np.unique(np.linspace(0, len(faces) - 1, REAL, dtype=int))
    images = to_tensor(load_images(faces, size, rows))
    found: dict[str, list[np.ndarray]] = {}
    with torch.inference_mode():
        for batch in images.split(BATCH):
            outputs = {name: each(batch.to(device)) for name, each in estimators.items()}
            for name, aim in attributes.items():
                values = outputs[aim.estimator][name].cpu()
                values = values.abs() if aim.kind == "absolute" else values
                found.setdefault(name, []).append(values.numpy())
    return {name: np.concatenate(values) for name, values in found.items()}
