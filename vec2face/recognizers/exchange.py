"""Batch norms and dropout of a micro-batch whose images several processes share.

Both then do what they would do in one process that has all of the images. Batch norms exchange
means, variances and the sums of their gradients. Dropout is drawn for all images, and each process
takes its rows of it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vec2face.recognizers.partial_fc import gather_rows
from vec2face.runtime.processes import Group


def exchange(network: nn.Module, group: Group) -> None:
    """Let the batch norms and the dropout of a network see the images of all processes, in place.

    Names of weights stay, and so does evaluation.

    Args:
        network: takes equally many images on each process, those of the first ranks first.
        group: this process among the others.
    """
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, _Norm(child, group))
            elif getattr(child, "p" if isinstance(child, nn.Dropout) else "drop_prob", 0):
                setattr(parent, name, _Dropout(child, group))  # drop_prob: timm's stochastic depth


class _Norm(nn.BatchNorm2d):
    """What SyncBatchNorm is, which trains on GPUs only."""

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, group: Group) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.group = group
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)

    @torch.compiler.disable
    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, ...) to the same."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        if not self.training:
            known = self.running_mean, self.running_var, self.weight, self.bias
            return functional.batch_norm(x, *known, eps=self.eps)
        with torch.no_grad():
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            own = torch.stack(torch.var_mean(wide, [0, *range(2, x.ndim)], correction=0))
            variances, means = gather_rows(own[None], self.group).unbind(1)
            mean = means.mean(0)
            variance = (variances + (means - mean) ** 2).mean(0)
            count = x[:, 0].numel() * self.group.size
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return _Normalise.apply(x, self.weight, self.bias, mean, variance, self.eps, self.group)


class _Normalise(torch.autograd.Function):
    """Batch norm with given mean and variance, which are those of the images of all processes."""

    @staticmethod
    def forward(ctx, x, weight, bias, mean, variance, eps, group: Group) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.group = eps, group
        return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        scale = torch.rsqrt(variance + ctx.eps)
        # As if mean and variance were constants; then what comes through them.
        to_x, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, mean, scale, False, ctx.eps, [True] * 3
        )
        count = x[:, 0].numel() * ctx.group.size
        sums = ctx.group.sum(torch.stack([to_weight, to_bias])) / count
        slope = scale**2 * weight * sums[0]
        level = scale * weight * sums[1] - slope * mean
        shape = 1, -1, *[1] * (x.ndim - 2)
        through = torch.addcmul(level.view(shape), x, slope.view(shape))
        return to_x.sub_(through), to_weight, to_bias, None, None, None, None


class _Dropout(nn.Module):
    def __init__(self, dropout: nn.Module, group: Group) -> None:
        super().__init__()
        self.dropout = dropout
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, ...) to the same."""
        if not self.training:
            return x
        with torch.no_grad():
            whole = self.dropout(torch.cat([torch.ones_like(x)] * self.group.size))
        return x * whole[len(x) * self.group.rank :][: len(x)]
