"""Margin heads: they turn embeddings and labels into logits whose cross-entropy spreads identities.

Every head compares the embedding with one learned direction per identity by cosine and makes the
true identity's cosine harder to reach before scaling:

- ArcFace (Deng et al., 2019, eq. 3): cos(theta + m);
- CosFace (Wang et al., 2018, eq. 4): cos(theta) - m;
- combined margin (Deng et al., 2019, eq. 4): cos(m1 * theta + m2) - m3;
- MagFace (Meng et al., 2021, eqs. 4-6): cos(theta + m(a)), where the margin grows with the
  feature's norm a, so that the norm comes to tell the picture's quality;
- SphereFace (Liu et al., 2017, eq. 7): psi(theta), which is cos(m theta) as far as that falls.

``running_margins`` has two more; ``heads`` makes them by name.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Total = Callable[[Tensor], Tensor]
"""Adds up a tensor over the processes that hold parts of the identities."""


def _precise(tensor: Tensor) -> Tensor:
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def inside(cosine: Tensor) -> Tensor:
    """Return cosines just short of -1 and 1, where the angle has no slope."""
    return cosine.clamp(-1 + 1e-7, 1 - 1e-7)


class MarginHead(nn.Module):
    """The combined margin, of which ArcFace and CosFace are cases.

    Args:
        embedding: length of the embeddings.
        classes: number of identities.
        scale: factor on the cosines, written s.
        angle_factor: m1.
        angle_margin: m2 in radians.
        cosine_margin: m3.
        straight_through: the gradient to the cosine is the one without a margin.
    """

    def __init__(
        self,
        embedding: int,
        classes: int,
        *,
        scale: float = 64.0,
        angle_factor: float = 1.0,
        angle_margin: float = 0.0,
        cosine_margin: float = 0.0,
        straight_through: bool = False,
    ) -> None:
        super().__init__()
        self.straight_through = straight_through
        self.scale = scale
        self.angle_factor = angle_factor
        self.angle_margin = angle_margin
        self.cosine_margin = cosine_margin
        self.weight = nn.Parameter(torch.empty(classes, embedding))
        nn.init.normal_(self.weight, std=0.01)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        *,
        parts: int = 1,
        total: Total = lambda tensor: tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, classes) and a scalar penalty to add to their cross-entropy.

        Args:
            embeddings: (B, embedding), any norm. They and the weights are used in float32 at least.
            labels: (B,) int64; -1 if the identity is none of these (``partial_fc``).
            weight: (classes, embedding), some identities' directions in place of all.
            parts: micro-batches one after another, of equal size.
            total: over the processes that hold the other identities.
        """
        weight = _precise(self.weight if weight is None else weight)
        embeddings = _precise(embeddings)
        cosines = functional.linear(functional.normalize(embeddings), functional.normalize(weight))
        norms = embeddings.norm(dim=1)
        here = (labels >= 0).nonzero()[:, 0]
        place = here, labels[here]
        harder = self.with_margin(cosines[place], self.quality(norms, parts)[here])
        cosines = self.with_curriculum(cosines, place, harder, parts, total)
        # In place, as gather and scatter could not: passes over (B, classes) are what costs.
        logits = cosines.index_put_(place, harder).mul_(self.scale)
        return logits, self.penalty(norms)

    def quality(self, norms: Tensor, parts: int) -> Tensor:
        """Return what the margin depends on, (B,): the norms as they are."""
        del parts
        return norms

    def with_curriculum(
        self,
        cosines: Tensor,
        place: tuple[Tensor, Tensor],
        harder: Tensor,
        parts: int,
        total: Total,
    ) -> Tensor:
        """Return the cosines (B, classes) as they count for identities that are not the true ones.

        Args:
            cosines: of all.
            place: rows and columns of the true ones that are here.
            harder: these, with their margins.
            parts: see ``forward``.
            total: see ``forward``.
        """
        del place, harder, parts, total
        return cosines

    def with_margin(self, cosine: Tensor, quality: Tensor) -> Tensor:
        """Return the true identity's cosine (B,) with its margin."""
        del quality
        harder = self._turn(cosine, self.angle_margin) - self.cosine_margin
        return cosine + (harder - cosine).detach() if self.straight_through else harder

    def penalty(self, norm: Tensor) -> Tensor:
        """Return a scalar added to the loss: none for the fixed margins."""
        return norm.new_zeros(())

    def _turn(self, cosine: Tensor, margin: float | Tensor) -> Tensor:
        """Return cos(m1 * theta + margin), continued as a falling line beyond pi.

        Without the continuation a sample turned past pi would be rewarded for getting worse.
        """
        if isinstance(margin, float) and margin == 0 and self.angle_factor == 1:
            return cosine
        cosine = inside(cosine)
        if self.angle_factor != 1:
            cosine = torch.cos(self.angle_factor * torch.acos(cosine))
        margin = torch.as_tensor(margin, dtype=cosine.dtype, device=cosine.device)
        sine = torch.sqrt(1 - cosine * cosine)
        turned = cosine * torch.cos(margin) - sine * torch.sin(margin)
        line = cosine - margin * torch.sin(margin)
        return torch.where(cosine > -torch.cos(margin), turned, line)


class MagFaceHead(MarginHead):
    """MagFace: the margin rises linearly with the norm from ``margins[0]`` to ``margins[1]``.

    Args:
        embedding: length of the embeddings.
        classes: number of identities.
        scale: factor on the cosines.
        norms: the range of norms; outside it a norm counts as the nearer end.
        margins: margin in radians at either end.
        weight_of_norms: lambda_g, the weight of the penalty that pushes norms upwards.
    """

    def __init__(
        self,
        embedding: int,
        classes: int,
        *,
        scale: float = 64.0,
        norms: tuple[float, float] = (10.0, 110.0),
        margins: tuple[float, float] = (0.45, 0.8),
        weight_of_norms: float = 35.0,
    ) -> None:
        super().__init__(embedding, classes, scale=scale)
        self.norms = norms
        self.margins = margins
        self.weight_of_norms = weight_of_norms

    def with_margin(self, cosine: Tensor, quality: Tensor) -> Tensor:
        """Return the true identity's cosine (B,) with the margin that its norm asks for."""
        low, high = self.norms
        share = (quality.clamp(low, high) - low) / (high - low)
        return self._turn(cosine, self.margins[0] + share * (self.margins[1] - self.margins[0]))

    def penalty(self, norm: Tensor) -> Tensor:
        """Return lambda_g * mean(a / u^2 + 1 / a), u the highest norm (MagFace, eq. 6)."""
        norm = norm.clamp(*self.norms)
        return self.weight_of_norms * (norm / self.norms[1] ** 2 + 1 / norm).mean()


class SphereFaceHead(MarginHead):
    """SphereFace with features of one length, so that the scale counts as in the other heads.

    The code released with Vec2Face takes cos(m theta) at all angles, which rises beyond pi / m.
    """

    def with_margin(self, cosine: Tensor, quality: Tensor) -> Tensor:
        """Return psi = (-1)^k cos(m theta) - 2 k, k the whole part of m theta / pi."""
        del quality
        angle = self.angle_factor * torch.acos(inside(cosine))
        turns = (angle / math.pi).floor()
        return (1 - 2 * (turns % 2)) * torch.cos(angle) - 2 * turns
