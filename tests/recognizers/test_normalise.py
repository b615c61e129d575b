"""Batch norm and PReLU in one step, against PyTorch's own layers in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vec2face.recognizers.normalise import normalise


def layers(channels, seed=0):
    torch.manual_seed(seed)
    norm, activation = nn.BatchNorm2d(channels, eps=1e-4, momentum=0.2), nn.PReLU(channels)
    for parameter in (norm.weight, norm.bias, activation.weight):
        nn.init.normal_(parameter)
    return norm.train(), activation.train()


def results(x, gradient, norm, activation, forward):
    """The output and all gradients, then the statistics."""
    x = x.clone().requires_grad_()
    y = forward(x, norm, activation)
    y.backward(gradient)
    used = (norm, activation) if activation is not None else (norm,)
    gradients = [p.grad for layer in used for p in layer.parameters()]
    return [y.detach(), x.grad, *gradients], [norm.running_mean, norm.running_var]


def plainly(x, norm, activation):
    return norm(x) if activation is None else activation(norm(x))


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*(st.integers(1, 6), st.integers(1, 70), st.integers(1, 9), st.integers(1, 9))),
    active=st.booleans(),
    level=st.sampled_from([0.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_it_is_what_the_two_layers_are(shape, active, level, seed):
    if shape[0] * shape[2] * shape[3] == 1:
        return
    norm, activation = layers(shape[1], seed)
    x = torch.randn(shape) * torch.rand(1, shape[1], 1, 1) + level
    gradient = torch.randn(shape)
    reference, activation64 = layers(shape[1], seed)
    wide = reference.double(), activation64.double() if active else None
    exact, moved = results(x.double(), gradient.double(), *wide, plainly)
    found, ours = results(x, gradient, norm, activation if active else None, normalise)
    # Differences from a level lose its digits; a narrow channel magnifies what is left.
    tolerance = 1e-5 * (1 + 30 * level)
    # The input's gradient is a difference of terms of this size, nearly nothing of two values.
    deviation = (x.double().var((0, 2, 3), correction=0) + norm.eps).sqrt()
    terms = (norm.weight.detach().abs() / deviation).max() * gradient.abs().max()
    for n, (a, b) in enumerate(zip(found + ours, exact + moved, strict=True)):
        assert a.dtype == torch.float32
        size = max(b.abs().max(), terms) if n == 1 else b.abs().max()
        assert torch.allclose(a.double(), b, rtol=tolerance, atol=tolerance * size)
    assert norm.num_batches_tracked == 1


def test_its_sums_are_nearer_to_float64_than_pytorchs():
    """On a map as large as a recognizer's first."""
    x, gradient = torch.randn(64, 16, 56, 56), torch.randn(64, 16, 56, 56)
    norm, activation = layers(16)
    other, activation2 = layers(16)
    exact64, activation64 = (layer.double() for layer in layers(16))
    exact, _ = results(x.double(), gradient.double(), exact64, activation64, plainly)
    last = {"memory_format": torch.channels_last}
    theirs, _ = results(x.to(**last), gradient.to(**last), other, activation2, plainly)
    ours, _ = results(x, gradient, norm, activation, normalise)
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert (a - c).abs().max() <= (b - c).abs().max()


@pytest.mark.parametrize("far", [100.0, -1e4])
def test_one_pixel_far_off_costs_no_digits(far):
    """The first one, above all: sums are taken about the mean of some rows."""
    x, gradient = torch.randn(16, 4, 28, 28), torch.randn(16, 4, 28, 28)
    x[0, :, 0, 0] = far
    exact64 = [layer.double() for layer in layers(4)]
    exact, _ = results(x.double(), gradient.double(), *exact64, plainly)
    found, _ = results(x, gradient, *layers(4), normalise)
    for a, b in zip(found, exact, strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-5, atol=1e-5 * b.abs().max())


@pytest.mark.parametrize(
    ("norm", "activation"),
    [
        (nn.BatchNorm2d(8), nn.PReLU()),
        (nn.BatchNorm2d(8, affine=False), nn.PReLU(8)),
        (nn.BatchNorm2d(8, momentum=None), None),
        (nn.BatchNorm2d(8, track_running_stats=False), None),
    ],
)
def test_other_layers_are_pytorchs(norm, activation):
    x = torch.randn(4, 8, 5, 5)
    assert torch.equal(normalise(x, norm, activation), plainly(x, norm, activation))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_no_bit(threads):
    x, gradient = torch.randn(8, 24, 14, 14), torch.randn(8, 24, 14, 14)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = results(x, gradient, *layers(24), normalise)
        torch.set_num_threads(threads)
        more = results(x, gradient, *layers(24), normalise)
    finally:
        torch.set_num_threads(before)
    for a, b in zip(one[0] + one[1], more[0] + more[1], strict=True):
        assert torch.equal(a, b)


def test_all_else_is_left_to_pytorch():
    """Evaluation, other precisions, one value for a channel: to the bit, errors included."""
    norm, activation = layers(5)
    x = torch.randn(3, 5, 4, 4)
    norm.eval()
    assert torch.equal(normalise(x, norm, activation), activation(norm(x)))
    norm.train()
    wide, wide_activation = (layer.double() for layer in layers(5))
    again, again_activation = (layer.double() for layer in layers(5))
    assert torch.equal(
        normalise(x.double(), wide, wide_activation), again_activation(again(x.double()))
    )
    assert torch.equal(normalise(x, nn.Identity()), x)
    with pytest.raises(ValueError, match="more than 1 value"):
        normalise(torch.ones(1, 5, 1, 1), norm)
