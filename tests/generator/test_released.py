"""The authors' weights: against a plain functional account of their network, there and back."""

import argparse
import math

import pytest
import torch
from torch.nn import functional as F

from tests.parameters import SMOKE, TINY, changed
from tests.rounding import UNSEEN
from vec2face.generator.masks import ROWS, masks
from vec2face.generator.network import Vec2Face
from vec2face.generator.released import import_generator, read_generator, save_released
from vec2face.runtime.files import InputError

BASE = {"width": 768, "encoder": 12, "decoder": 8, "channels": (128, 128, 256, 256, 512)}
SMALL = {"width": 32, "encoder": 2, "decoder": 1, "channels": (32, 64, 64)}
HEADS = (4, 2)


def released_weights(width, encoder, decoder, channels, features=512, z=256):
    """Random tensors with the names and shapes of the authors' checkpoint."""
    torch.manual_seed(3)
    w = {}

    def linear(name, out, into, bias=True):
        w[f"{name}.weight"] = torch.randn(out, into) / math.sqrt(into)
        if bias:
            w[f"{name}.bias"] = 0.1 * torch.randn(out)

    def norm(name, size):
        w[f"{name}.weight"] = 1 + 0.1 * torch.randn(size)
        w[f"{name}.bias"] = 0.1 * torch.randn(size)

    def conv(name, out, into, side, bias=True):
        w[f"{name}.weight"] = torch.randn(out, into, side, side) / math.sqrt(into * side * side)
        if bias:
            w[f"{name}.bias"] = 0.1 * torch.randn(out)

    def residual(name, before, after):
        norm(f"{name}.norm1", before)
        conv(f"{name}.conv1", after, before, 3, bias=False)
        norm(f"{name}.norm2", after)
        conv(f"{name}.conv2", after, after, 3, bias=False)
        if before != after:
            conv(f"{name}.nin_shortcut", after, after, 1, bias=False)

    w["token_emb.position_ids"] = torch.arange(50)[None]
    w["token_emb.position_embeddings.weight"] = torch.randn(50, width)
    w["decoder_pos_embed_learned"] = torch.randn(1, 50, width)
    norm("token_emb.LayerNorm", width)
    linear("latent_prior_proj_f", width, features)
    linear("feature_token", ROWS, 1)
    linear("center_token", ROWS, width)
    conv("patch_embed.proj", width, 3, 16)
    for stack, count in (("blocks", encoder), ("decoder_blocks", decoder)):
        for i in range(count):
            norm(f"{stack}.{i}.norm1", width)
            linear(f"{stack}.{i}.attn.qkv", 3 * width, width)
            linear(f"{stack}.{i}.attn.proj", width, width)
            norm(f"{stack}.{i}.norm2", width)
            linear(f"{stack}.{i}.mlp.fc1", 4 * width, width)
            linear(f"{stack}.{i}.mlp.fc2", width, 4 * width)
    norm("norm", width)
    linear("decoder_embed", width, width)
    norm("decoder_norm", width)
    linear("im_decoder_proj", z, width)
    current = channels[-1]
    conv("im_decoder.conv_in", current, z, 3)
    residual("im_decoder.mid.block_1", current, current)
    residual("im_decoder.mid.block_2", current, current)
    for level in reversed(range(len(channels))):
        for i in (0, 1):
            residual(f"im_decoder.up.{level}.block.{i}", current, channels[level])
            current = channels[level]
        if level:
            conv(f"im_decoder.up.{level}.upsample.conv", current, current, 3)
    norm("im_decoder.norm_out", current)
    conv("im_decoder.conv_out", 3, current, 3)
    return w


def released_forward(w, features, drop, mask, heads):
    """What the authors' network computes, from their tensors' names, one sample at a time."""

    def layer_norm(name, x):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def transformer(stack, x, heads):
        for i in range(len({n.split(".")[1] for n in w if n.startswith(f"{stack}.")})):
            name = f"{stack}.{i}"
            q, k, v = linear(f"{name}.attn.qkv", layer_norm(f"{name}.norm1", x)).chunk(3, -1)
            out = []
            for a, b, c in zip(*(t.chunk(heads, -1) for t in (q, k, v)), strict=True):
                out.append(torch.softmax(a @ b.T / math.sqrt(a.shape[1]), -1) @ c)
            x = x + linear(f"{name}.attn.proj", torch.cat(out, -1))
            y = linear(f"{name}.mlp.fc1", layer_norm(f"{name}.norm2", x))
            y = y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))
            x = x + linear(f"{name}.mlp.fc2", y)
        return x

    def conv(name, x):
        weight = w[f"{name}.weight"]
        return F.conv2d(x, weight, w.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def norm_swish(name, x):
        groups = x.reshape(len(x), 32, -1)
        centred = groups - groups.mean(-1, keepdim=True)
        x = (centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()).reshape(x.shape)
        x = x * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]
        return x * torch.sigmoid(x)

    def residual(name, x):
        y = conv(f"{name}.conv1", norm_swish(f"{name}.norm1", x))
        y = conv(f"{name}.conv2", norm_swish(f"{name}.norm2", y))
        if f"{name}.nin_shortcut.weight" in w:
            x = conv(f"{name}.nin_shortcut", y)
        return x + y

    images = []
    for feature, dropped, masked in zip(features, drop, mask, strict=True):
        e = linear("latent_prior_proj_f", feature)
        rows = linear("feature_token", e[:, None]).T  # (49, W)
        rows = torch.stack([e if m else row for m, row in zip(masked, rows, strict=True)])
        x = torch.cat([e[None], rows]) + w["token_emb.position_embeddings.weight"]
        x = layer_norm("token_emb.LayerNorm", x)
        kept = [0] + [i + 1 for i in range(ROWS) if not dropped[i]]
        x = layer_norm("norm", transformer("blocks", x[kept], heads[0]))
        x = linear("decoder_embed", x)
        full = [x[0]] + [x[0] if masked[i] else x[kept.index(i + 1)] for i in range(ROWS)]
        x = torch.stack(full) + w["decoder_pos_embed_learned"][0]
        x = layer_norm("decoder_norm", transformer("decoder_blocks", x, heads[1]))
        x = linear("im_decoder_proj", x[1:]).T.reshape(1, -1, 7, 7)
        x = conv("im_decoder.conv_in", x)
        x = residual("im_decoder.mid.block_2", residual("im_decoder.mid.block_1", x))
        levels = 1 + max(int(n.split(".")[2]) for n in w if n.startswith("im_decoder.up."))
        for level in reversed(range(levels)):
            for i in (0, 1):
                x = residual(f"im_decoder.up.{level}.block.{i}", x)
            if level:
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
                x = conv(f"im_decoder.up.{level}.upsample.conv", x)
        images.append(conv("im_decoder.conv_out", norm_swish("im_decoder.norm_out", x))[0])
    return torch.stack(images)


def write(path, tensors, **more):
    torch.save({"model_vec2face": tensors, **more}, path)
    return path


@pytest.mark.parametrize(
    ("sizes", "heads", "count"),
    [pytest.param(SMALL, HEADS, 4, id="small"), pytest.param(BASE, None, 1, id="ViT-Base")],
)
@torch.no_grad()
def test_the_forward_pass_is_theirs(tmp_path, sizes, heads, count):
    weights = released_weights(**sizes)
    arguments = argparse.Namespace(model="vec2face_vit_base_patch16", lr=4e-5)
    path = write(tmp_path / "checkpoint.pth", weights, epoch=99, args=arguments)
    generator = read_generator(path, heads)
    assert generator.config.channels == sizes["channels"]
    features, (drop, mask) = torch.randn(count, 512), masks(0, 0, count, 0.1, 1.0, 0.15)
    wanted = released_forward(weights, features, drop, mask, heads or (12, 16))
    scale = wanted.abs().max().clamp(min=1)  # images fill [-1, 1]; random ones are scaled to it
    error = ((generator(features, drop, mask) - wanted) / scale).abs().max()
    assert error < 1e-4


def test_there_and_back_is_exact(tmp_path):
    weights = released_weights(**SMALL)
    config = import_generator(
        write(tmp_path / "theirs.pth", weights), tmp_path / "ours.safetensors", HEADS
    )
    assert config.released
    save_released(tmp_path / "back.pth", Vec2Face.load(tmp_path / "ours.safetensors"))
    back = torch.load(tmp_path / "back.pth", weights_only=True)["model_vec2face"]
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in weights.items()}
    for name, tensor in weights.items():
        if not name.startswith(("patch_embed.", "center_token.")):
            assert torch.equal(back[name], tensor), name


@torch.no_grad()
@pytest.mark.rounding
def test_the_standardisation_of_features_goes_into_the_first_layer(tmp_path):
    config = changed(TINY, front_channels=32, channels=(32, 64), groups=32, released=True)
    torch.manual_seed(0)
    generator = Vec2Face(config, dimension=6).eval()
    generator.standardise(torch.randn(6), 1.7)
    save_released(tmp_path / "g.pth", generator)
    again = read_generator(tmp_path / "g.pth", heads=(2, 3))
    features, (drop, mask) = torch.randn(3, 6), masks(0, 0, 3, 0.1, 1.0, 0.15)
    assert torch.allclose(
        again(features, drop, mask), generator(features, drop, mask), rtol=0, atol=UNSEEN
    )


def test_the_papers_shortcut_has_no_place_in_their_layout(tmp_path):
    config = changed(SMOKE.generator, channels=(32, 64), released=False)
    generator = Vec2Face(config, dimension=512)
    with pytest.raises(InputError, match=r"g\.pth: .*generator\.released: true"):
        save_released(tmp_path / "g.pth", generator)
    assert not list(tmp_path.iterdir())


def levels(weights, count):
    """Names of so many levels, and of so many blocks in the first; a few bytes each."""
    one = weights["im_decoder.up.0.block.0.conv1.weight"][:, :1, :1, :1].clone()
    more = {f"im_decoder.up.{i}.block.0.conv1.weight": one for i in range(count)}
    return more | {f"im_decoder.up.0.block.{i}.conv1.weight": one for i in range(count)}


def without(name):
    return lambda w: {k: v for k, v in w.items() if k != name}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without("norm.weight"), "missing: encoder_norm.weight"),
        (without("decoder_embed.weight"), "lacks 'decoder_embed.weight'"),
        (lambda w: w | {"teacher.weight": torch.zeros(2)}, "unknown: teacher.weight"),
        (lambda w: w | {"norm.weight": torch.zeros(3)}, "of another shape: encoder_norm.weight"),
        (lambda w: w | {"norm.weight": None}, "not a state dict"),
        (lambda w: w | {"norm.weight": torch.zeros(10**9, 0)}, "no numbers in norm.weight"),
        (lambda w: w | {"decoder_embed.weight": torch.tensor(1.0)}, "shapes of no known gen"),
        (lambda w: w | levels(w, 999), "blocks of [0-9]+ tensors"),
    ],
)
def test_no_tensor_is_dropped_or_missed(tmp_path, change, named):
    path = write(tmp_path / "checkpoint.pth", change(released_weights(**SMALL)))
    with pytest.raises(InputError, match=r"checkpoint\.pth: .*" + named):
        read_generator(path, HEADS)


def test_other_files_are_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth: no model_vec2face .*holds state_dict"):
        read_generator(tmp_path / "other.pth")
    path = write(tmp_path / "odd.pth", released_weights(**SMALL))
    with pytest.raises(InputError, match=r"odd\.pth: of width 32, so its heads are not known"):
        read_generator(path)
