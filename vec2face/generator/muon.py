"""Muon: momentum whose matrices are made orthogonal before they are applied.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; scaled to AdamW's
step size as in Liu et al., "Muon is scalable for LLM training", 2025, equation 4. PyTorch's own
works in bfloat16, which is several times slower than float32 on a CPU without support for it.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

# Coefficients of the quintic iteration: steepest at 0 while singular values stay near 1.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """Return roughly U V^T of ``matrix`` = U S V^T: singular values come to lie near 1.

    Every iteration multiplies by a polynomial of x x^T. Where x is twice as wide as high, it is
    cheaper to multiply these polynomials, which commute, and to apply their product once.
    """
    high, wide = sorted(matrix.shape)
    x = matrix if matrix.shape[0] == high else matrix.T
    x = x / (x.norm() + 1e-7)
    if wide < 2 * high:
        for _ in range(_ITERATIONS):
            x = _polynomial(x @ x.T) @ x
    else:
        gram = x @ x.T
        product = _polynomial(gram)
        factor = product
        for _ in range(_ITERATIONS - 1):
            gram = factor @ gram @ factor
            factor = _polynomial(gram)
            product = factor @ product
        x = product @ x
    return x if matrix.shape[0] == high else x.T


def _polynomial(gram: Tensor) -> Tensor:
    result = torch.addmm(gram, gram, gram, beta=_B, alpha=_C)
    result.diagonal().add_(_A)
    return result


class Muon(torch.optim.Optimizer):
    """Muon for matrices.

    Args:
        params: two-dimensional parameters.
        lr: learning rate, of AdamW's magnitude.
        momentum: decay of the gradient's average (Nesterov).
        weight_decay: decoupled, as in AdamW.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["average"] = torch.zeros_like(weight)
                average = state["average"].lerp_(weight.grad, 1 - group["momentum"])
                update = orthogonalise(weight.grad.lerp(average, group["momentum"]))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update, alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)
