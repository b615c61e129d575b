"""Values that are possible by themselves and not together: a line for each, with its key."""

import math
from collections.abc import Iterator, Mapping

from vec2face.config.attributes import Aim, AttrOP, EstimatorConfig
from vec2face.config.sections import (
    GeneratorConfig,
    Masks,
    RecognizerConfig,
    Rendered,
    Subset,
    Training,
)

WATCHED = ("pose", "quality", "second_pose")  # estimators whose files dvc.yaml watches
"""Estimators whose files ``dvc.yaml`` watches, so that the data set is made again with another."""
NEUTRAL = {"side": "null", "channels": "rgb", "mean": "[0.5]", "std": "[0.5]"}
"""What ``takes`` says for a recognizer, whose file knows the rest."""
WEIGHTS = 10**10
"""Largest number of a generator's weights, about; the paper's has 2 10^8."""


def in_masks(key: str, masks: Masks) -> Iterator[str]:
    """Name a mean outside its bounds."""
    if not masks.minimum <= masks.mean <= masks.maximum:
        numbers = f"{masks.minimum:g}, {masks.mean:g}, {masks.maximum:g}"
        yield f"{key}.masks: minimum <= mean <= maximum, not {numbers}"


def in_batch(key: str, batch: int, micro_batch: int | None) -> Iterator[str]:
    """Name a micro-batch that does not divide its batch."""
    if micro_batch and batch % micro_batch:
        yield f"{key}.micro_batch: {micro_batch} does not divide {key}.batch = {batch}"


def in_generator(g: GeneratorConfig, t: Training, subset: Subset) -> Iterator[str]:
    """Name conflicts of the generator and its training."""
    w = t.losses
    yield from in_masks("training", t.masks)
    yield from in_batch("training", t.batch, t.micro_batch)
    beside = w.sampled_share * (t.micro_batch or t.batch)
    if w.sampled and (beside < 1 or abs(beside - round(beside)) > 1e-9):
        yield (
            f"training.losses.sampled_share: {w.sampled_share:g} of {t.micro_batch or t.batch} "
            "images computed at a time is no whole number of vectors"
        )
    block = 4 + 2 * g.mlp_ratio  # weights, in widths squared
    blocks = g.encoder_blocks * g.width**2 + g.decoder_blocks * g.decoder_width**2
    levels = 18 * g.residual_blocks * sum(c**2 for c in (*g.channels, g.front_channels))
    weights = block * blocks + levels
    if weights > WEIGHTS:
        yield (
            f"generator: width, decoder_width, blocks, mlp_ratio, channels, front_channels and "
            f"residual_blocks make about {weights:.0e} weights, above {WEIGHTS:.0e}"
        )
    if int(g.mlp_ratio * min(g.width, g.decoder_width)) < 1:
        yield f"generator.mlp_ratio: {g.mlp_ratio:g} leaves nothing of the width"
    if len(t.discriminator.kernels) - 1 > t.discriminator.width // 2:
        yield "training.discriminator.kernels: more than half of its width"
    if t.warmup > t.steps:
        yield f"training.warmup: {t.warmup} is above training.steps = {t.steps}"
    most = subset.identities * subset.images_per_identity
    if subset.rule == "paper" and t.batch > most:
        yield f"training.batch: {t.batch} is above the {most} images that subset asks for"
    kinds = (w.mse, w.gradient, w.lpips, w.perceptual, w.ssim, w.token, w.identity, w.adversarial)
    if not any(kinds):
        yield "training.losses: all weights are 0, so nothing would be learnt"
    if w.sampled and not w.sampled_share:
        yield "training.losses.sampled_share: 0, so training.losses.sampled sees nothing"
    if w.identity_full < w.identity_start:
        yield f"training.losses.identity_full: at least identity_start = {w.identity_start:g}"
    if w.lpips and not t.lpips_weights:
        yield "training.lpips_weights: names no file; training.losses.lpips needs one"


def in_recognizer(fr: RecognizerConfig, identities: int, images: int) -> Iterator[str]:
    """Name conflicts of the recognizer, trained on so many identities with so many images each."""
    yield from in_batch("fr", fr.batch, fr.micro_batch)
    if fr.widths and fr.backbone.startswith("vit"):
        yield f"fr.widths: [] for {fr.backbone}, which has its own"
    elif len(fr.widths) not in (0, 4):
        yield f"fr.widths: four numbers or none, not {len(fr.widths)}"
    if fr.warmup > fr.epochs:
        yield f"fr.warmup: {fr.warmup:g} is above fr.epochs = {fr.epochs}"
    if fr.head == "sphereface":
        if not 1 <= fr.margin <= 4:
            yield f"fr.margin: from 1 to 4 for sphereface, a factor of angles, not {fr.margin:g}"
    elif fr.margin > math.pi / 2:
        yield f"fr.margin: at most half of pi, not {fr.margin:g}"
    most = identities * images
    if fr.batch > most and fr.micro_batch and most % fr.micro_batch:
        yield (
            f"fr.batch: {fr.batch} is above the {most} images of identities x "
            f"images_per_identity, which fr.micro_batch = {fr.micro_batch} does not divide"
        )


def in_subset(subset: Subset, seed: int) -> Iterator[str]:
    """Name a seed that the released rule cannot take."""
    if subset.rule == "released" and seed >= 2**32:
        yield f"seed: below 2^32 for subset.rule: released, whose generator takes no {seed}"


def in_attrop(
    attrop: AttrOP | None, estimators: Mapping[str, EstimatorConfig], images: int
) -> Iterator[str]:
    """Name what AttrOP asks for and cannot get of estimators and of an identity's images."""
    for name in WATCHED:
        if name not in estimators:
            yield f"estimators.{name}: is missing; stages read its file"
    for name, estimator in estimators.items():
        left, top, right, bottom = estimator.takes.box
        if left >= right or top >= bottom:
            yield f"estimators.{name}.takes.box: left < right and top < bottom, in sides of a face"
        for key in ("mean", "std"):
            if len(getattr(estimator.takes, key)) == 2:
                yield f"estimators.{name}.takes.{key}: one number, or three for the channels"
        yield from _twice(f"estimators.{name}.takes", estimator)
        gives = estimator.gives
        if (gives.reading == "expectation") != bool(gives.classes):
            yield f"estimators.{name}.gives.classes: for the reading expectation, and for no other"
        for output in sorted(set(gives.opposite) - gives.outputs.keys()):
            yield f"estimators.{name}.gives.opposite: {output} is none of its outputs"
    if attrop is None:
        return
    for output, aim in attrop.attributes.items():
        key = f"attrop.attributes.{output}"
        for role, name in _estimators(aim):
            if name not in WATCHED:
                yield f"{key}.{role}: {' or '.join(WATCHED)}, whose files dvc.yaml watches"
            elif name not in estimators:
                yield f"{key}.{role}: there is no estimators.{name}"
            elif (unit := estimators[name].gives.outputs.get(output)) is None:
                yield f"{key}.{role}: estimators.{name} gives no such output"
            elif aim.estimator in estimators and unit != (
                wanted := estimators[aim.estimator].gives.outputs.get(output, unit)
            ):
                yield f"{key}.{role}: estimators.{name} gives it in {unit}, not in {wanted}"
        if aim.judge == aim.estimator:
            yield f"{key}.judge: another than the estimator, or null"
    for number, group in enumerate(attrop.groups):
        for name in group.aims.keys() - attrop.attributes.keys():
            yield f"attrop.groups.{number}.aims.{name}: attrop.attributes has no such name"
        for name, value in group.aims.items():
            asked = attrop.attributes.get(name)
            if asked and asked.kind == "absolute" and not isinstance(value, str) and value < 0:
                yield f"attrop.groups.{number}.aims.{name}: an absolute value, not {value:g}"
        if round(group.share * images, 9) < 1:
            yield (
                f"attrop.groups.{number}.share: {group.share:g} of images_per_identity = {images} "
                f"is less than one image; at least 1/{images}"
            )
    if sum(group.share for group in attrop.groups) > 1 + 1e-9:
        yield "attrop.groups: their shares sum to more than 1"
    if attrop.mode != "ours" and attrop.unconverged != "best":
        yield f"attrop.unconverged: best with the mode {attrop.mode}, which keeps all images"
    if attrop.mode == "printed":
        weights = {f"attributes.{name}.scale": aim.scale for name, aim in attrop.attributes.items()}
        for key, weight in (weights | {"identity": attrop.identity}).items():
            if weight != 1:
                yield f"attrop.{key}: 1 with the mode printed, whose terms have no weights"


def _estimators(aim: Aim) -> Iterator[tuple[str, str]]:
    yield "estimator", aim.estimator
    if aim.judge is not None:
        yield "judge", aim.judge


def _twice(key: str, estimator: EstimatorConfig) -> Iterator[str]:
    """Name what would be done to a recognizer's images before it does the same."""
    if estimator.network != "recognizer":
        return
    takes = estimator.takes
    done = {
        "side": takes.side is not None,
        "channels": takes.channels != "rgb",
        "mean": set(takes.mean) != {0.5},
        "std": set(takes.std) != {0.5},
    }
    for name, neutral in NEUTRAL.items():
        if done[name]:
            yield f"{key}.{name}: {neutral} with the network recognizer, whose file knows it"


def in_rendered(rendered: Rendered) -> Iterator[str]:
    """Name what the rendered faces lack."""
    if missing := {"faces", "pca", "real", "estimators"} - rendered.stores.keys():
        yield f"rendered.stores: {sorted(missing)[0]} is missing"
