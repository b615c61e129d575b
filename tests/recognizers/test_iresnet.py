import pytest
import torch
from torch import nn

from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.iresnet import (
    IBasicBlock,
    IResNet,
    NarrowProjection,
    SqueezeExcitation,
)

TINY = {"depths": (1, 1, 1, 1), "widths": (4, 4, 6, 8), "embedding": 5}


@pytest.mark.parametrize(
    ("name", "millions"), [("iresnet18", 24.03), ("iresnet50", 43.59), ("iresnet100", 65.16)]
)
def test_has_the_published_number_of_parameters(name, millions):
    with torch.device("meta"):
        net = build_backbone(name)
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


def convolutions(depths, widths=(64, 128, 256, 512)):
    """Weights of all convolutions, batch norms and slopes before the last linear layer, by hand."""
    total, before = 3 * 9 * 64 + 2 * 64 + 64, 64
    for depth, width in zip(depths, widths, strict=True):
        for block in range(depth):
            inputs = width if block else before
            total += 9 * inputs * width + 9 * width * width  # the two convolutions
            total += 2 * inputs + 2 * width + width + 2 * width  # norm, norm, slope, norm
            total += 0 if block else inputs * width + 2 * width  # the shortcut and its norm
        before = width
    return total


@pytest.mark.parametrize(
    ("name", "depths"), [("iresnet100", (3, 13, 30, 3)), ("iresnet152", (3, 8, 36, 3))]
)
def test_has_the_weights_of_its_blocks(name, depths):
    with torch.device("meta"):
        plain, gated = build_backbone(name), build_backbone(f"se_{name}")
    end = 2 * 512 + (512 * 7 * 7 + 1) * 512 + 2 * 512
    count = sum(p.numel() for p in plain.parameters())
    assert count == convolutions(depths) + end
    gates = sum(
        depth * (2 * width * (width // 16) + width // 16 + width)
        for depth, width in zip(depths, (64, 128, 256, 512), strict=True)
    )
    assert sum(p.numel() for p in gated.parameters()) == count + gates


@pytest.mark.parametrize(
    ("name", "width", "blocks"), [("vit_s", 512, 12), ("vit_b", 512, 24), ("vit_l", 768, 24)]
)
def test_a_transformer_has_the_weights_of_its_blocks(name, width, blocks):
    """Patches of 9 pixels and no bias of queries, keys and values, as in arcface_torch."""
    with torch.device("meta"):
        net = build_backbone(name)
    tokens = (112 // 9) ** 2
    attention = 3 * width * width + width * width + width
    mlp = 2 * 4 * width * width + 4 * width + width
    start = (9 * 9 * 3 + 1) * width + tokens * width  # patches, and where they lie
    body = start + blocks * (attention + mlp + 4 * width) + 2 * width
    end = tokens * width * width + 2 * width + width * 512 + 2 * 512
    assert sum(p.numel() for p in net.parameters()) == body + end


def test_se_iresnet200_has_the_published_depths():
    with torch.device("meta"):
        net = build_backbone("se_iresnet200", image_size=56, widths=(8, 8, 8, 8))
    assert [len(net.get_submodule(f"layer{i}")) for i in (1, 2, 3, 4)] == [6, 26, 60, 6]
    assert sum(isinstance(m, SqueezeExcitation) for m in net.modules()) == 98


@pytest.mark.parametrize("size", [56, 64, 112])
def test_maps_are_halved_upwards(size):
    net = IResNet(**TINY, image_size=size).eval()
    images = torch.zeros(2, 3, size, size)
    sides = [m.shape[-1] for m in net.maps(images)]
    assert sides == [-(-size // 2**k) for k in (1, 2, 3, 4)]
    assert net(images).shape == (2, 5)


def test_names_are_those_of_released_checkpoints():
    names = set(IResNet(**TINY).state_dict())
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "prelu.weight",
        "layer1.0.bn1.weight",
        "layer1.0.conv1.weight",
        "layer1.0.bn2.weight",
        "layer1.0.prelu.weight",
        "layer1.0.conv2.weight",
        "layer1.0.bn3.weight",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.running_var",
        "bn2.weight",
        "fc.weight",
        "features.weight",
    } <= names


def test_the_last_scale_is_fixed():
    net = IResNet(**TINY)
    assert not net.features.weight.requires_grad
    assert net.features.bias.requires_grad


@pytest.mark.parametrize("gate", ["none", "residual", "shortcut"])
def test_the_gate_acts_on_its_branch_only(gate):
    torch.manual_seed(0)
    block = IBasicBlock(8, 8, 1, gate).eval()
    x = torch.randn(2, 8, 6, 6)
    with torch.no_grad():
        if gate != "none":  # a gate of a half
            nn.init.zeros_(block.se.fc2.weight)
            nn.init.zeros_(block.se.fc2.bias)
        branch = block.bn3(block.conv2(block.prelu(block.bn2(block.conv1(block.bn1(x))))))
        factors = {"none": (1, 1), "residual": (0.5, 1), "shortcut": (1, 0.5)}[gate]
        torch.testing.assert_close(block(x), factors[0] * branch + factors[1] * x)


@pytest.mark.parametrize("side", [7, 8])
def test_a_narrow_projection_is_a_strided_convolution(side):
    torch.manual_seed(0)
    narrow = IBasicBlock(12, 20, 2, "none").downsample[0]
    assert isinstance(narrow, NarrowProjection)
    plain = nn.Conv2d(12, 20, 1, 2, bias=False)
    plain.load_state_dict(narrow.state_dict())
    x = torch.randn(2, 12, side, side)
    torch.testing.assert_close(narrow(x), plain(x))


def test_vit_embeds():
    net = build_backbone("vit_s", image_size=16, embedding=7).eval()
    assert net(torch.zeros(2, 3, 16, 16)).shape == (2, 7)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "resnet"}, "no backbone 'resnet'"),
        ({"name": "iresnet"}, "no backbone"),
        ({"name": "iresnet18", "image_size": 50}, "multiple of 8"),
        ({"name": "iresnet18", "widths": (1, 2)}, "four widths"),
        ({"name": "iresnet18", "squeeze_excitation": "both"}, "both"),
        ({"name": "vit_s", "widths": (1, 2, 3, 4)}, "neither"),
    ],
)
def test_refuses(arguments, said):
    with pytest.raises(ValueError, match=said):
        build_backbone(**arguments)
