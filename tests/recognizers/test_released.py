"""Weights of others: against plain functional accounts of their networks, from tensor names."""

import argparse
import math
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from vec2face.faces.images import to_tensor
from vec2face.recognizers.backbones import DEPTHS, build_backbone
from vec2face.recognizers.convention import Convention
from vec2face.recognizers.features import open_network, open_recognizer
from vec2face.recognizers.network import load_recognizer, quality
from vec2face.recognizers.released import import_recognizer, read_recognizer
from vec2face.runtime.files import InputError

SIZE = 32
WIDTHS = (8, 16, 16, 32)


class Weights(dict):
    """Random tensors under names, with statistics far from their start values."""

    def __init__(self):
        super().__init__()
        self.draw = torch.Generator().manual_seed(5)

    def add(self, name, *shape, bias=False):
        scale = math.sqrt(2 / math.prod(shape[1:]))
        self[f"{name}.weight"] = torch.randn(shape, generator=self.draw) * scale
        if bias:
            self[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=self.draw)

    def norm(self, name, size, affine=True):
        u = [torch.rand(size, generator=self.draw) for _ in range(4)]
        self[f"{name}.running_mean"], self[f"{name}.running_var"] = u[0] - 0.5, 0.5 + u[1]
        if affine:
            self[f"{name}.weight"], self[f"{name}.bias"] = 0.5 + u[2], u[3] - 0.5
        self[f"{name}.num_batches_tracked"] = torch.tensor(7)

    def apply_norm(self, name, x, eps=1e-5):
        shape = (1, -1) + (1,) * (x.ndim - 2)
        mean, var = (self[f"{name}.{k}"].view(shape) for k in ("running_mean", "running_var"))
        x = (x - mean) / (var + eps).sqrt()
        if f"{name}.weight" in self:
            x = x * self[f"{name}.weight"].view(shape) + self[f"{name}.bias"].view(shape)
        return x

    def conv(self, name, x, stride=1):
        weight = self[f"{name}.weight"]
        padding = weight.shape[-1] // 2
        return F.conv2d(x, weight, self.get(f"{name}.bias"), stride, padding)

    def slope(self, name, size):
        self[f"{name}.weight"] = 0.5 * torch.rand(size, generator=self.draw)

    def leak(self, name, x):
        slope = self[f"{name}.weight"].view(1, -1, 1, 1)
        return torch.where(x > 0, x, slope * x)


def iresnet_weights(number="18", gate=None):
    """The layout of arcface_torch; ``gate``: "attn" of the authors (first blocks), "se" (all)."""
    w = Weights()
    w.add("conv1", WIDTHS[0], 3, 3, 3)
    w.norm("bn1", WIDTHS[0])
    w.slope("prelu", WIDTHS[0])
    before = WIDTHS[0]
    for stage, (depth, width) in enumerate(zip(DEPTHS[number], WIDTHS, strict=True), 1):
        for i in range(depth):
            name = f"layer{stage}.{i}"
            w.norm(f"{name}.bn1", before)
            w.add(f"{name}.conv1", width, before, 3, 3)
            w.norm(f"{name}.bn2", width)
            w.slope(f"{name}.prelu", width)
            w.add(f"{name}.conv2", width, width, 3, 3)
            w.norm(f"{name}.bn3", width)
            if i == 0:
                w.add(f"{name}.downsample.0", width, before, 1, 1)
                w.norm(f"{name}.downsample.1", width)
            if gate and (i == 0 or gate == "se"):
                inner = max(width // 16, 4)
                w.add(f"{name}.{gate}.fc1", inner, width, 1, 1, bias=True)
                w.add(f"{name}.{gate}.fc2", width, inner, 1, 1, bias=True)
            before = width
    w.norm("bn2", before)
    w.add("fc", 24, before * (SIZE // 16) ** 2, bias=True)
    w.norm("features", 24)
    return w


def iresnet_forward(w, x, eps=1e-5):
    """Follow the layout's names; a gate called attn is on the shortcut, one called se is not."""

    def norm(name, x):
        return w.apply_norm(name, x, eps)

    def gated(name, x):
        if f"{name}.fc1.weight" not in w:
            return x
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(w.conv(f"{name}.fc2", w.conv(f"{name}.fc1", means).relu()))

    x = w.leak("prelu", norm("bn1", w.conv("conv1", x)))
    for stage in (1, 2, 3, 4):
        for i in range(sum(f"layer{stage}.{n}.conv1.weight" in w for n in range(99))):
            name = f"layer{stage}.{i}"
            y = w.conv(f"{name}.conv1", norm(f"{name}.bn1", x))
            y = w.leak(f"{name}.prelu", norm(f"{name}.bn2", y))
            y = norm(f"{name}.bn3", w.conv(f"{name}.conv2", y, 1 if i else 2))
            if i == 0:
                x = norm(f"{name}.downsample.1", w.conv(f"{name}.downsample.0", x, 2))
            x = gated(f"{name}.attn", x) + gated(f"{name}.se", y)
    x = norm("bn2", x).flatten(1) @ w["fc.weight"].T + w["fc.bias"]
    return norm("features", x)


def close(found, wanted):
    """Equal to 1e-5 of the largest value."""
    return (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.fixture
def images():
    return torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


def write(path, content):
    torch.save(dict(content) if isinstance(content, Weights) else content, path)
    return path


@pytest.mark.parametrize("number", ["18", "50"])
@pytest.mark.parametrize("gate", [None, "attn", "se"])
@torch.no_grad()
def test_iresnets_of_arcface_and_the_authors(tmp_path, images, number, gate):
    w = iresnet_weights(number, gate)
    net = read_recognizer(write(tmp_path / "backbone.pth", w))
    assert close(net(images), iresnet_forward(w, images))


@torch.no_grad()
def test_arcface_r100_at_its_full_width(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SIZE", 112)
    monkeypatch.setattr(sys.modules[__name__], "WIDTHS", (64, 128, 256, 512))
    w = iresnet_weights("100")
    image = torch.rand(1, 3, 112, 112, generator=w.draw) * 2 - 1
    net = read_recognizer(write(tmp_path / "backbone.pth", w))
    assert close(net(image), iresnet_forward(w, image))


@pytest.mark.parametrize("name", ["iresnet100", "se_iresnet200"])
def test_names_and_shapes_of_the_large_ones(tmp_path, name):
    state = build_backbone(name, widths=WIDTHS).state_dict()
    assert read_recognizer(write(tmp_path / "model.pt", state)).architecture["name"] == name


def test_the_authors_200_has_the_depth_of_100(tmp_path):
    path = write(tmp_path / "hsface.pth", iresnet_weights("100", "attn"))
    assert read_recognizer(path).architecture["name"] == "se_iresnet100"


@pytest.mark.parametrize("prefix", ["module.", "features.module.", "module.features.module."])
@torch.no_grad()
def test_magface_has_other_names_pixels_and_epsilon(tmp_path, images, prefix):
    w = iresnet_weights()
    content = {prefix + k: v for k, v in w.items()}
    if "features." in prefix:
        content["module.fc.weight"] = torch.randn(24, 50)  # its head, of no use here
    args = argparse.Namespace(arch="iresnet18")
    path = write(tmp_path / "magface.pth", {"state_dict": content, "args": args, "epoch": 25})
    seen, eps = images, 1e-5
    if "features." in prefix:
        seen, eps = images.flip(1) / 2 + 0.5, 2e-5
    wanted = iresnet_forward(w, seen, eps)
    net = read_recognizer(path)
    assert close(net(images), wanted)
    assert close(quality(net(images)), wanted.pow(2).sum(1).sqrt())


def ir_weights(gate):
    """The layout of AdaFace's checkpoints, 18 deep, with equal first widths."""
    w = Weights()
    w.add("input_layer.0", 8, 3, 3, 3)
    w.norm("input_layer.1", 8)
    w.slope("input_layer.2", 8)
    before, number = 8, 0
    for width in (8, 16, 24, 32):
        for i in range(2):
            name = f"body.{number}"
            w.norm(f"{name}.res_layer.0", before)
            w.add(f"{name}.res_layer.1", width, before, 3, 3)
            w.norm(f"{name}.res_layer.2", width)
            w.slope(f"{name}.res_layer.3", width)
            w.add(f"{name}.res_layer.4", width, width, 3, 3)
            w.norm(f"{name}.res_layer.5", width)
            if gate:
                w.add(f"{name}.res_layer.se_block.fc1", 4, width, 1, 1)
                w.add(f"{name}.res_layer.se_block.fc2", width, 4, 1, 1)
            if i == 0 and before != width:
                w.add(f"{name}.shortcut_layer.0", width, before, 1, 1)
                w.norm(f"{name}.shortcut_layer.1", width)
            before, number = width, number + 1
    w.norm("output_layer.0", before)
    w.add("output_layer.3", 24, before * (SIZE // 16) ** 2, bias=True)
    w.norm("output_layer.4", 24, affine=False)
    return w


def ir_forward(w, x):
    x = w.leak("input_layer.2", w.apply_norm("input_layer.1", w.conv("input_layer.0", x)))
    for number in range(8):
        name, stride = f"body.{number}", 1 if number % 2 else 2
        y = w.conv(f"{name}.res_layer.1", w.apply_norm(f"{name}.res_layer.0", x))
        y = w.leak(f"{name}.res_layer.3", w.apply_norm(f"{name}.res_layer.2", y))
        y = w.apply_norm(f"{name}.res_layer.5", w.conv(f"{name}.res_layer.4", y, stride))
        if f"{name}.res_layer.se_block.fc1.weight" in w:
            means = w.conv(f"{name}.res_layer.se_block.fc1", y.mean((2, 3), keepdim=True)).relu()
            y = y * torch.sigmoid(w.conv(f"{name}.res_layer.se_block.fc2", means))
        if f"{name}.shortcut_layer.0.weight" in w:
            x = w.conv(f"{name}.shortcut_layer.0", x, stride)
            x = w.apply_norm(f"{name}.shortcut_layer.1", x)
        else:
            x = F.max_pool2d(x, 1, stride)
        x = x + y
    x = w.apply_norm("output_layer.0", x).flatten(1)
    x = x @ w["output_layer.3.weight"].T + w["output_layer.3.bias"]
    return w.apply_norm("output_layer.4", x)


@pytest.mark.parametrize("gate", [False, True])
@torch.no_grad()
def test_adaface(tmp_path, images, gate):
    w = ir_weights(gate)
    content = {f"model.{k}": v for k, v in w.items()}
    content |= {"head.kernel": torch.randn(24, 50), "head.t": torch.zeros(1)}
    path = write(tmp_path / "adaface.ckpt", {"state_dict": content, "global_step": 3})
    assert close(read_recognizer(path)(images), ir_forward(w, images.flip(1)))


@pytest.mark.parametrize("prefix", ["net.", "model.", "module.", ""])
@torch.no_grad()
def test_ir_networks_without_adafaces_head_are_rgb(tmp_path, images, prefix):
    w = ir_weights(gate=False)
    path = write(tmp_path / "model.pt", {prefix + name: tensor for name, tensor in w.items()})
    assert close(read_recognizer(path)(images), ir_forward(w, images))


def transformer_weights(width=512, blocks=12, size=SIZE):
    w = Weights()
    tokens = (size // 9) ** 2
    w.add("patch_embed.proj", width, 3, 9, 9, bias=True)
    w["pos_embed"] = torch.randn(1, tokens, width, generator=w.draw)
    w["mask_token"] = torch.randn(1, 1, width, generator=w.draw)
    for name in (*(f"blocks.{i}.norm{j}" for i in range(blocks) for j in (1, 2)), "norm"):
        w[f"{name}.weight"] = 0.5 + torch.rand(width, generator=w.draw)
        w[f"{name}.bias"] = torch.rand(width, generator=w.draw) - 0.5
    for i in range(blocks):
        w.add(f"blocks.{i}.attn.qkv", 3 * width, width)
        w.add(f"blocks.{i}.attn.proj", width, width, bias=True)
        w.add(f"blocks.{i}.mlp.fc1", 4 * width, width, bias=True)
        w.add(f"blocks.{i}.mlp.fc2", width, 4 * width, bias=True)
    w.add("feature.0", width, tokens * width)
    w.norm("feature.1", width)
    w.add("feature.2", 24, width)
    w.norm("feature.3", 24)
    return w


def transformer_forward(w, x, blocks=12):
    def norm(name, x):
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(()))

    x = F.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], 9)
    x = x.flatten(2).transpose(1, 2) + w["pos_embed"]
    for i in range(blocks):
        q, k, v = linear(f"blocks.{i}.attn.qkv", norm(f"blocks.{i}.norm1", x)).chunk(3, -1)
        heads = []
        for a, b, c in zip(*(t.chunk(8, -1) for t in (q, k, v)), strict=True):
            heads.append(torch.softmax(a @ b.transpose(1, 2) / math.sqrt(a.shape[-1]), -1) @ c)
        x = x + linear(f"blocks.{i}.attn.proj", torch.cat(heads, -1))
        y = linear(f"blocks.{i}.mlp.fc1", norm(f"blocks.{i}.norm2", x)).clamp(0, 6)
        x = x + linear(f"blocks.{i}.mlp.fc2", y)
    x = linear("feature.0", norm("norm", x).flatten(1))
    x = linear("feature.2", w.apply_norm("feature.1", x, 2e-5))
    return w.apply_norm("feature.3", x, 2e-5)


@torch.no_grad()
def test_transformers_of_arcface_torch(tmp_path, images):
    w = transformer_weights()
    path = write(tmp_path / "model.pt", w)
    net = read_recognizer(path)
    assert net.architecture["name"] == "vit_s"
    assert close(net(images), transformer_forward(w, images))
    assert close(open_network(path)(images), net(images))


def test_imported_weights_keep_their_convention(tmp_path):
    path = write(tmp_path / "adaface.ckpt", {"state_dict": dict(ir_weights(gate=False))})
    import_recognizer(path, tmp_path / "ours.safetensors")
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    wanted = open_recognizer(path).features(images)
    found = open_recognizer(tmp_path / "ours.safetensors").features(images)
    np.testing.assert_array_equal(found, wanted)
    with torch.no_grad():
        same = load_recognizer(tmp_path / "ours.safetensors")(to_tensor(images)).numpy()
    np.testing.assert_allclose(same, wanted, rtol=1e-4, atol=1e-4)


def test_what_is_stated_at_the_import_is_kept_and_the_rest_is_the_familys(tmp_path):
    content = {f"model.{k}": v for k, v in ir_weights(gate=False).items()}
    path = write(tmp_path / "adaface.ckpt", content | {"head.kernel": torch.randn(24, 50)})
    stated = import_recognizer(path, tmp_path / "ours.safetensors", {"std": 1.0})["convention"]
    assert stated == {"channels": "bgr", "mean": 0.5, "std": 1.0}
    with pytest.raises(InputError, match=r"adaface\.ckpt: .*std is not 0"):
        import_recognizer(path, tmp_path / "ours.safetensors", {"std": 0.0})


@pytest.mark.parametrize(
    ("name", "prefix", "beside", "said"),
    [
        ("adaface.ckpt", "model.", {"head.kernel": torch.zeros(24, 50)}, "BGR in [-1, 1]"),
        ("cvlface.pt", "net.", {}, "RGB in [-1, 1]"),
    ],
)
def test_the_convention_in_use_is_said(tmp_path, caplog, name, prefix, beside, said):
    content = {prefix + k: v for k, v in ir_weights(gate=False).items()}
    with caplog.at_level("INFO"):
        open_recognizer(write(tmp_path / name, content | beside))
    assert f"{name}: takes {said}" in caplog.text


def test_a_stated_convention_wins(tmp_path, images):
    w = iresnet_weights()
    net = read_recognizer(write(tmp_path / "odd.pt", w), Convention("bgr", mean=0.0, std=1.0))
    with torch.no_grad():
        assert close(net(images), iresnet_forward(w, images.flip(1) / 2 + 0.5))


def test_gradients_reach_the_image(tmp_path, images):
    path = write(tmp_path / "backbone.pth", iresnet_weights())
    network = open_network(path)
    seen = images.clone().requires_grad_()
    features, taps = network.forward_with_taps(seen)
    features.sum().backward()
    assert seen.grad.abs().sum() > 0
    assert network.tap_sizes
    assert len(taps) == len(network.tap_sizes)


def changed(w, **more):
    return {k: v for k, v in w.items() if more.get(k, v) is not None} | {
        k: v for k, v in more.items() if v is not None
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer1.0.bn1.weight": None}, "missing: layer1.0.bn1.weight"),
        ({"layer1.0.extra": torch.zeros(1)}, "unknown: layer1.0.extra"),
        ({"layer2.2.conv1.weight": torch.zeros(16, 16, 3, 3)}, "blocks a stage; known"),
        ({"fc.weight": None}, "'fc.weight' is missing"),
        ({"fc.weight": torch.zeros(24, 96)}, "no square map"),
        ({"bn1.weight": torch.zeros(3)}, r"of another shape: bn1.weight \(3,\) for \(8,\)"),
        ({"conv1.weight": None}, "no IResNet"),
        ({"fc.weight": torch.zeros(())}, "shapes of no known network"),
    ],
)
def test_no_tensor_is_dropped_or_missed(tmp_path, change, said):
    path = write(tmp_path / "backbone.pth", changed(iresnet_weights(), **change))
    with pytest.raises(InputError, match=rf"backbone\.pth: .*{said}"):
        read_recognizer(path)


def test_a_first_block_of_many_channels_takes_no_memory(tmp_path):
    """Its shortcut is the identity, of the square of what the file holds."""
    path = tmp_path / "w.pth"
    weights = ir_weights(False)
    weights["body.0.res_layer.1.weight"] = torch.ones(10**6, 1, 1, 1)
    torch.save(dict(weights), path)
    with pytest.raises(InputError, match=r"w\.pth: "):
        read_recognizer(path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "net.", "backbone."])
def test_prefixes_of_training_programs_are_taken_off(tmp_path, images, prefix):
    w = iresnet_weights()
    path = write(tmp_path / "a.pth", {prefix + name: tensor for name, tensor in w.items()})
    assert close(read_recognizer(path)(images), iresnet_forward(w, images))


@pytest.mark.parametrize("name", ["a.pth.tar", "model.safetensors"])
def test_weights_come_under_other_endings(tmp_path, name):
    w = iresnet_weights()
    path = write(tmp_path / "a.pth", w)
    if name.endswith(".tar"):
        path.rename(tmp_path / name)
    else:
        save_file(dict(w), tmp_path / name)
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    with torch.no_grad():
        expected = iresnet_forward(w, to_tensor(images)).numpy()
    found = open_recognizer(tmp_path / name).features(images)
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected).max()
