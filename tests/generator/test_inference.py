"""The arrangement for inference: every part against PyTorch's own in float64, then the whole."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.parameters import PAPER, TINY, changed
from tests.rounding import UNSEEN
from vec2face.generator.inference import (
    PointwiseConv,
    SteadyGroupNorm,
    UpsampledConv,
    WinogradConv,
    arrange_for_inference,
)
from vec2face.generator.masks import masks
from vec2face.generator.network import Vec2Face

# fine to coarse; 128 at 28 pixels: by Winograd
SIZES = changed(TINY, channels=(16, 128, 32, 32), groups=PAPER.generator.groups)


def built(**changes):
    torch.manual_seed(0)
    generator = Vec2Face(changed(SIZES, **changes), dimension=6)
    generator.standardise(torch.randn(6), 2.0)
    return generator.eval()


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 6, generator=generator), *masks(0, 0, 4, 0.1, 1.0, 0.15)]


def channels_last(*shape):
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return (x + 3).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("height", [4, 12])
@torch.inference_mode()
def test_winograd_is_the_convolution(height):
    conv = nn.Conv2d(3, 5, 3, padding=1, bias=False).double()
    x = channels_last(2, 3, height, 7)
    torch.testing.assert_close(WinogradConv(conv)(x), conv(x), atol=1e-12, rtol=1e-12)


@torch.inference_mode()
def test_the_four_small_convolutions_are_upsampling_and_one():
    conv = nn.Conv2d(3, 5, 3, padding=1).double()
    x = channels_last(2, 3, 6, 7)
    wanted = conv(functional.interpolate(x, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(UpsampledConv(conv)(x), wanted, atol=1e-12, rtol=1e-12)


@torch.inference_mode()
def test_norm_and_pointwise_convolution_are_pytorchs():
    norm = nn.GroupNorm(4, 12, eps=1e-6).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    conv = nn.Conv2d(12, 5, 1, bias=False)
    x = channels_last(2, 12, 6, 7)
    torch.testing.assert_close(SteadyGroupNorm(norm)(x), norm(x), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(PointwiseConv(conv)(x.float()), conv(x.float()))


@pytest.mark.rounding
@pytest.mark.parametrize("released", [False, True])
@torch.inference_mode()
def test_images_are_those_of_the_training_form(inputs, released):
    wanted = built(released=released)(*inputs)
    arranged = arrange_for_inference(built(released=released))
    parts = {type(module) for module in arranged.modules()}
    assert {WinogradConv, UpsampledConv, SteadyGroupNorm, PointwiseConv} <= parts
    found = arranged(*inputs)
    assert found.shape == (4, 3, 56, 56)
    torch.testing.assert_close(found, wanted, atol=UNSEEN, rtol=0)
    assert wanted.std() > 0.1


@pytest.mark.rounding
@torch.inference_mode()
def test_neither_a_second_thread_nor_other_images_change_an_image(inputs):
    arranged = arrange_for_inference(built())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = arranged(*inputs)
        torch.set_num_threads(2)
        two = arranged(*inputs)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(one, two)
    alone = torch.cat([arranged(*(x[i : i + 1] for x in inputs)) for i in range(4)])
    torch.testing.assert_close(alone, one, atol=UNSEEN, rtol=0)


def test_an_arranged_generator_is_not_saved(tmp_path):
    arranged = arrange_for_inference(built())
    assert not arranged.training
    with pytest.raises(TypeError, match="save it before"):
        arranged.save(tmp_path / "g.safetensors")
    assert not list(tmp_path.iterdir())


def test_other_number_formats_stay_as_they_are(inputs):
    generator = arrange_for_inference(built().double())
    assert isinstance(generator.encoder[0].mlp.fc1, nn.Linear)
    generator.state_dict()
