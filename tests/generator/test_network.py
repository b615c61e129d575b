"""The generator: the paper's size, masking against a row-by-row account, files that carry sizes."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import Attention
from torch import nn

from tests.parameters import PAPER, TINY
from vec2face.generator.discriminator import PatchDiscriminator
from vec2face.generator.masks import ROWS, masks
from vec2face.generator.network import Vec2Face
from vec2face.runtime.files import InputError


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return Vec2Face(TINY, dimension=6).eval()


def test_the_papers_model_has_the_papers_size():
    with torch.device("meta"):
        model = Vec2Face(PAPER.generator, 512)
    size = sum(p.numel() for p in model.parameters()) * 4 / 1e9
    assert size == pytest.approx(0.68, abs=0.03)  # paper, Table 3


def rows_one_by_one(model, features, drop, mask):
    """The masked autoencoder of one sample, following the paper's words with Python lists."""
    e = model.embed((features - model.feature_mean) / model.feature_std)
    expanded = [
        e * w + b for w, b in zip(model.expand.weight[:, 0], model.expand.bias, strict=True)
    ]
    content = [e if mask[j] else expanded[j] for j in range(ROWS)]
    places = [0] + [1 + j for j in range(ROWS) if not drop[j]]
    tokens = torch.stack([([e] + content)[p] + model.encoder_position[0, p] for p in places])
    encoded = model.encoder_norm(model.encoder(model.encoder_input_norm(tokens)[None]))[0]
    encoded = model.to_decoder(encoded)
    full = [encoded[0]] + [
        encoded[0] if mask[j] else encoded[places.index(1 + j)] for j in range(ROWS)
    ]
    full = torch.stack(full)[None] + model.decoder_position
    return model.decoder_norm(model.decoder(full))[0, 1:]


@pytest.mark.parametrize("ratios", [(0.5, 1.0, 0.75), (0.1, 1.0, 0.15), (0.0, 0.0, 0.0)])
def test_masking_agrees_with_a_row_by_row_account(generator, ratios):
    features, (drop, mask) = torch.randn(3, 6), masks(0, 0, 3, *ratios)
    with torch.no_grad():
        found = generator.rows(features, drop, mask)
        for i in range(3):
            wanted = rows_one_by_one(generator, features[i], drop[i], mask[i])
            torch.testing.assert_close(found[i], wanted, atol=1e-5, rtol=1e-4)


def test_an_image_does_not_depend_on_its_batch(generator):
    features, (drop, mask) = torch.randn(5, 6), masks(0, 0, 5, 0.1, 1.0, 0.15)
    with torch.no_grad():
        whole = generator(features, drop, mask)
        alone = torch.cat(
            [generator(*(x[i : i + 1] for x in (features, drop, mask))) for i in range(5)]
        )
    assert whole.shape == (5, 3, 14, 14)
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=1e-4)


def test_an_image_comes_with_its_rows_on_demand(generator):
    inputs = [torch.randn(2, 6), *masks(0, 0, 2, 0.1, 1.0, 0.15)]
    image, rows = generator(*inputs, with_rows=True)
    assert torch.equal(image, generator(*inputs))
    assert torch.equal(rows, generator.rows(*inputs))


def test_attention_is_timms_and_stays_exact_where_the_rest_is_lowered(generator):
    ours, x = generator.encoder[0].attn, torch.randn(3, 10, 16)
    theirs = Attention(16, 2, qkv_bias=True)
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours(x), theirs(x))
    with torch.autocast("cpu", torch.bfloat16):
        qkv = ours.qkv(x).double().unflatten(2, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        found = ours(x)
    weights = (qkv[0] @ qkv[1].mT / 8**0.5).softmax(-1)
    exact = (weights @ qkv[2]).transpose(1, 2).flatten(2).bfloat16()
    expected = nn.functional.linear(exact, ours.proj.weight.bfloat16(), ours.proj.bias.bfloat16())
    torch.testing.assert_close(found, expected)


def test_every_parameter_gets_a_gradient(generator):
    generator.train()
    features, (drop, mask) = torch.randn(4, 6), masks(0, 0, 4, 0.1, 0.9, 0.5)
    generator(features, drop, mask).square().mean().backward()
    idle = [n for n, p in generator.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_standardised_features_make_the_scale_of_a_recognizer_irrelevant(generator):
    features, (drop, mask) = torch.randn(4, 6), masks(0, 0, 4, 0.5, 1.0, 0.75)
    plain = generator(features, drop, mask)
    generator.standardise(torch.full((6,), 3.0), 7.0)
    torch.testing.assert_close(generator(features * 7 + 3, drop, mask), plain, atol=1e-4, rtol=1e-3)


def test_a_saved_generator_comes_back_whole(generator, tmp_path):
    generator.standardise(torch.arange(6.0), 2.0)
    generator.save(tmp_path / "g.safetensors")
    again = Vec2Face.load(tmp_path / "g.safetensors")
    assert (again.config, again.dimension, again.image_size) == (TINY, 6, 14)
    assert not again.training
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_files_that_are_no_generator_are_named(tmp_path):
    path = tmp_path / "g.safetensors"
    with pytest.raises(InputError, match=r"g\.safetensors: no such file; give a generator's"):
        Vec2Face.load(path)
    path.write_bytes(b"not tensors")
    with pytest.raises(InputError, match=r"g\.safetensors"):
        Vec2Face.load(path)
    save_file({"x": torch.zeros(1)}, path, {"config": "[1]"})
    with pytest.raises(InputError, match="not a generator written by this project; train it"):
        Vec2Face.load(path)


SIZES = [
    {"encoder_blocks": 1000}, {"encoder_blocks": 10**9}, {"decoder_blocks": 0},
    {"residual_blocks": 1000}, {"channels": [8] * 10**4}, {"channels": []}, {"channels": None},
    {"encoder_heads": 0}, {"encoder_heads": 3}, {"width": 16384}, {"width": 16.5}, {"groups": 0},
    {"mlp_ratio": 1e9}, {"mlp_ratio": float("nan")}, {"features": 10**9}, {"features": 10**30},
    {"features": -1}, {"features": None}, {"features": [6]}, {"channels": [8, 4]}, {"more": 1},
]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_sizes_that_are_not_those_of_the_tensors_take_no_memory(generator, tmp_path, sizes):
    path = tmp_path / "g.safetensors"
    generator.save(path)
    with safe_open(path, "pt") as file:
        stated = json.loads(file.metadata()["config"])
    save_file(load_file(path), path, {"config": json.dumps(stated | sizes)})
    with pytest.raises(InputError, match=r"g\.safetensors: not (a generator|the weights of)"):
        Vec2Face.load(path)


@pytest.mark.parametrize("config", ["[" * 10**5, "{", "null", "[1]", "{}", None])
def test_metadata_that_are_no_sizes_are_named(generator, tmp_path, config):
    path = tmp_path / "g.safetensors"
    metadata = {"config": config} if config is not None else None
    save_file(generator.state_dict(), path, metadata)
    with pytest.raises(InputError, match=r"g\.safetensors: not a generator"):
        Vec2Face.load(path)


def test_the_discriminator_judges_patches_of_a_112_pixel_image():
    with torch.device("meta"):
        judge = PatchDiscriminator(64, (3, 7, 15))
        assert judge(torch.empty(2, 3, 112, 112)).shape == (2, 1, 11, 11)
        assert [c.out_channels for c in judge.stem] == [32, 16, 16]
    assert sum(isinstance(m, nn.GroupNorm) for m in judge.modules()) == 6
