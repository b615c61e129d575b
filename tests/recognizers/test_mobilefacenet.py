import pytest
import torch
from torch.nn import functional

from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.mobilefacenet import MobileFaceNet


@pytest.mark.parametrize(("size", "side"), [(112, 7), (56, 4), (8, 1)])
def test_the_global_convolution_covers_the_last_map(size, side):
    net = MobileFaceNet((4, 4, 8, 16), embedding=5, image_size=size).eval()
    assert net.body(torch.zeros(2, 3, size, size)).shape == (2, 16, side, side)
    assert net(torch.zeros(2, 3, size, size)).shape == (2, 5)
    assert (net.image_size, net.dimension) == (size, 5)


def test_it_has_the_size_that_is_published():
    """Chen et al. give 0.99 million parameters at 112 pixels and 128 features."""
    parameters = sum(p.numel() for p in MobileFaceNet(embedding=128).parameters())
    assert parameters / 1e6 == pytest.approx(0.99, rel=0.02)


def test_a_bottleneck_is_its_formula():
    """Widen, filter each channel, narrow; add the input where shapes agree."""
    torch.manual_seed(0)
    block = MobileFaceNet((4, 6, 8, 16), image_size=56).eval().double().body[3]
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    wide, norm1, act1 = block.widen.children()
    depth, norm2, act2 = block.filter.children()
    narrow, norm3 = block.narrow, block.norm
    with torch.no_grad():
        y = torch.einsum("oi,bihw->bohw", wide.weight[:, :, 0, 0], x)
        y = functional.prelu(norm1(y), act1.weight)
        columns = functional.unfold(y, 3, padding=1).view(2, 12, 9, 25)
        y = torch.einsum("bckn,ck->bcn", columns, depth.weight.view(12, 9)).view(2, 12, 5, 5)
        y = functional.prelu(norm2(y), act2.weight)
        y = norm3(torch.einsum("oi,bihw->bohw", narrow.weight[:, :, 0, 0], y))
        assert torch.allclose(block(x), x + y, atol=1e-12)


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="multiple of 8"):
        MobileFaceNet(image_size=50)
    with pytest.raises(ValueError, match="four widths"):
        MobileFaceNet((4, 4))
    with pytest.raises(ValueError, match="no squeeze_excitation"):
        build_backbone("mobilefacenet", squeeze_excitation="residual")


def test_the_name_builds_it():
    net = build_backbone("mobilefacenet", image_size=56, embedding=7, widths=(4, 4, 8, 16))
    assert isinstance(net, MobileFaceNet)
    assert net.dimension == 7
