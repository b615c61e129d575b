"""Margin heads by name."""

import math

from vec2face.recognizers.margins import MagFaceHead, MarginHead, SphereFaceHead
from vec2face.recognizers.running_margins import AdaFaceHead, CurricularFaceHead

HEADS = (
    "arcface", "cosface", "magface", "adaface", "curricularface", "sphereface", "softmax",
)  # fmt: skip


def build_head(
    name: str,
    embedding: int,
    classes: int,
    *,
    scale: float = 64.0,
    margin: float | None = None,
    released: bool = False,
) -> MarginHead:
    """Build a head by name.

    Args:
        name: ``"arcface"`` (margin 0.5), ``"cosface"`` (0.35), ``"magface"``, ``"adaface"`` (0.4),
            ``"curricularface"`` (0.5), ``"sphereface"`` (1.35, a factor) or ``"softmax"`` (none).
        embedding: length of the embeddings.
        classes: number of identities.
        scale: factor on the cosines.
        margin: replaces the default margin. MagFace's is the lowest of its margins; the highest
            keeps its ratio to it. SphereFace's is a factor, 1 or above. Softmax takes none.
        released: ArcFace's margin has no part in the gradient, as in the authors' code.

    Raises:
        ValueError: on an unknown name, a margin that the head does not take, or a bad scale.
    """
    if scale <= 0 or not math.isfinite(scale):
        raise ValueError(f"scale is a positive number, not {scale}")
    if name == "arcface":
        margin = 0.5 if margin is None else float(margin)
        return MarginHead(
            embedding, classes, scale=scale, angle_margin=margin, straight_through=released
        )
    if name == "cosface":
        margin = 0.35 if margin is None else float(margin)
        return MarginHead(embedding, classes, scale=scale, cosine_margin=margin)
    if name == "magface":
        margin = 0.45 if margin is None else float(margin)
        margins = (margin, margin * 0.8 / 0.45)
        return MagFaceHead(embedding, classes, scale=scale, margins=margins)
    if name == "adaface":
        margin = 0.4 if margin is None else float(margin)
        return AdaFaceHead(embedding, classes, scale=scale, margin=margin)
    if name == "curricularface":
        margin = 0.5 if margin is None else float(margin)
        return CurricularFaceHead(embedding, classes, scale=scale, margin=margin)
    if name == "sphereface":
        factor = 1.35 if margin is None else float(margin)
        if factor < 1:
            raise ValueError(f"the margin of sphereface is a factor, 1 or above, not {factor}")
        return SphereFaceHead(embedding, classes, scale=scale, angle_factor=factor)
    if name != "softmax":
        raise ValueError(f"no head {name!r}; there are {', '.join(HEADS)}")
    if margin is not None:
        raise ValueError("the head softmax takes no margin")
    return MarginHead(embedding, classes, scale=scale)
