"""Margin heads that follow running means of what the batches show.

- AdaFace (Kim et al., 2022, section 3.3): cos(theta - m q) - m (1 + q), where q in [-1, 1] is the
  feature's norm against those of late, so that poor pictures pull less;
- CurricularFace (Huang et al., 2020, section 3.2): ArcFace whose hard negatives weigh more the
  further the training is.
"""

import math

import torch
from torch import Tensor

from vec2face.recognizers.margins import MarginHead, Total, inside

FOLLOWED = 0.01
"""What a micro-batch counts in the running means, in both papers.

In the code released with Vec2Face, AdaFace's counts 1: there is no memory of earlier ones.
"""


class RunningHead(MarginHead):
    """A head that follows running means.

    Attributes:
        running: (S,) float32, a buffer; whoever takes a step in several calls puts it right as the
            statistics of batch norms (``step.RunningStatistics``).
    """

    running: Tensor

    def __init__(
        self,
        embedding: int,
        classes: int,
        start: tuple[float, ...],
        *,
        scale: float = 64.0,
        angle_margin: float,
    ) -> None:
        super().__init__(embedding, classes, scale=scale, angle_margin=angle_margin)
        self.register_buffer("running", torch.tensor(start, device="cpu"))  # also of one on meta

    @torch.no_grad()
    def follow(self, seen: Tensor) -> Tensor:
        """Move the running means.

        Args:
            seen: (parts, S) what the micro-batches show.

        Returns:
            (parts, S), the means as each micro-batch alone moves them; ``running`` is their mean.
        """
        moved = torch.lerp(self.running.to(seen), seen, FOLLOWED)
        self.running.copy_(moved.mean(0))
        return moved


class AdaFaceHead(RunningHead):
    """AdaFace: the margin follows the norm's place among those of late, not the norm.

    The running means are of the mean and the standard deviation of a micro-batch's norms. The
    paper does not say where they begin; 20 and 100 are those of its authors' code, as is the 0.001.

    Args:
        embedding: length of the embeddings.
        classes: number of identities.
        scale: factor on the cosines.
        margin: m, in radians and as a cosine.
        concentration: h; a norm above the mean by 1 / h standard deviations has quality 1.
    """

    def __init__(
        self,
        embedding: int,
        classes: int,
        *,
        scale: float = 64.0,
        margin: float = 0.4,
        concentration: float = 0.333,
    ) -> None:
        super().__init__(embedding, classes, (20.0, 100.0), scale=scale, angle_margin=margin)
        self.concentration = concentration

    @torch.no_grad()
    def quality(self, norms: Tensor, parts: int) -> Tensor:
        """Return (B,) in [-1, 1], without a gradient."""
        norms = norms.view(parts, -1)
        mean, deviation = self.follow(torch.stack([norms.mean(1), norms.std(1)], 1)).unbind(1)
        apart = (norms - mean[:, None]) / (deviation[:, None] + 1e-3)
        return (self.concentration * apart).clamp(-1, 1).flatten()

    def with_margin(self, cosine: Tensor, quality: Tensor) -> Tensor:
        """Return cos(theta - m q) - m (1 + q); the angle stays from 0 to pi."""
        angle = torch.acos(inside(cosine)) - self.angle_margin * quality
        return torch.cos(angle.clamp(0, math.pi)) - self.angle_margin * (1 + quality)


class CurricularFaceHead(RunningHead):
    """CurricularFace: a negative above the true identity's cosine with its margin is hard.

    It counts as c (t + c) in place of c, where t is the running mean of the true identities'
    cosines and begins at 0.

    Args:
        embedding: length of the embeddings.
        classes: number of identities.
        scale: factor on the cosines.
        margin: m in radians.
    """

    def __init__(
        self, embedding: int, classes: int, *, scale: float = 64.0, margin: float = 0.5
    ) -> None:
        super().__init__(embedding, classes, (0.0,), scale=scale, angle_margin=margin)

    def with_curriculum(
        self,
        cosines: Tensor,
        place: tuple[Tensor, Tensor],
        harder: Tensor,
        parts: int,
        total: Total,
    ) -> Tensor:
        """Return the cosines (B, classes), those of hard negatives as c (t + c)."""
        with torch.no_grad():
            true = cosines.new_zeros(2, len(cosines))  # each where its identity is
            true[:, place[0]] = torch.stack([cosines[place], harder])
            own, bar = total(true)
            t = self.follow(own.view(parts, -1).mean(1, keepdim=True))
            t = t.expand(parts, len(own) // parts).reshape(-1, 1)
            hard = cosines > bar[:, None]
        return torch.where(hard, cosines * (t + cosines), cosines)
