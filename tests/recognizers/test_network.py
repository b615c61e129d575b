import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.network import (
    embed,
    is_ours,
    load_recognizer,
    save_recognizer,
    untrained_recognizer,
)
from vec2face.recognizers.weights import read_state_dict
from vec2face.runtime.files import InputError

ARCHITECTURE = {
    "name": "se_iresnet10",
    "image_size": 16,
    "embedding": 6,
    "widths": (4, 4, 8, 8),
    "dropout": 0.4,
}
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), np.uint8)


def test_a_saved_recognizer_comes_back_the_same(tmp_path):
    net = untrained_recognizer(ARCHITECTURE, IMAGES, seed=1)
    save_recognizer(tmp_path / "a.safetensors", net, ARCHITECTURE)
    save_recognizer(tmp_path / "b.safetensors", net, ARCHITECTURE)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    back = load_recognizer(tmp_path / "a.safetensors")
    assert not back.training
    assert (back.image_size, back.dimension) == (16, 6)
    assert np.array_equal(embed(back, IMAGES), embed(net, IMAGES))


def test_embed_does_not_depend_on_the_batch_and_restores_the_mode():
    net = build_backbone(**ARCHITECTURE).train()
    assert np.allclose(embed(net, IMAGES), embed(net, IMAGES, batch=7), atol=1e-5)
    assert net.training
    assert embed(net, IMAGES[:0]).shape == (0, 6)


def test_embed_resizes_to_the_input():
    net = build_backbone(**ARCHITECTURE)
    doubled = IMAGES.repeat(2, axis=1).repeat(2, axis=2)
    assert np.allclose(embed(net, doubled), embed(net, IMAGES), atol=1e-5)


def test_untrained_statistics_are_those_of_the_images():
    net = untrained_recognizer(ARCHITECTURE, IMAGES, seed=1, batch=len(IMAGES))
    got = embed(net, IMAGES)
    # One batch of all images: the last norm then whitens them, but for running variances being
    # unbiased (40 / 39) where those of a training batch are not.
    assert np.allclose(got.mean(0), 0, atol=0.02)
    assert np.allclose(got.var(0), 1, atol=0.1)
    assert all(m.momentum == 0.1 for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_untrained_is_a_function_of_the_seed():
    first, again, other = (
        embed(untrained_recognizer(ARCHITECTURE, IMAGES, seed=s), IMAGES) for s in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_refuses_what_is_no_recognizer(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_recognizer(tmp_path / "none.safetensors")
    (tmp_path / "rubbish").write_bytes(b"rubbish" * 9)
    save_file({"x": torch.zeros(1)}, tmp_path / "plain")
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign", {"recognizer": json.dumps(ARCHITECTURE)})
    save_file({"x": torch.zeros(1)}, tmp_path / "list", {"recognizer": "[1]"})
    with pytest.raises(InputError, match=r"list: not a recognizer written by save_recognizer; tr"):
        load_recognizer(tmp_path / "list")
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert is_ours(tmp_path / "pipe.safetensors")
    for read in (load_recognizer, read_state_dict):
        with pytest.raises(InputError, match=r"pipe\.safetensors: no such file"):
            read(tmp_path / "pipe.safetensors")
    for name in ("rubbish", "plain", "foreign"):
        with pytest.raises(InputError, match=f"{name}: not (a recognizer|the weights)"):
            load_recognizer(tmp_path / name)


def test_a_generator_is_called_one(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "g.safetensors", {"config": "{}"})
    with pytest.raises(InputError, match=r"g\.safetensors: it is a generator"):
        load_recognizer(tmp_path / "g.safetensors")


def test_sizes_in_the_metadata_take_no_memory(tmp_path):
    huge = json.dumps(ARCHITECTURE | {"embedding": 10**9, "widths": [10**6] * 4})
    save_file({"x": torch.zeros(1)}, tmp_path / "huge.safetensors", {"recognizer": huge})
    with pytest.raises(InputError, match=r"huge\.safetensors: not the weights"):
        load_recognizer(tmp_path / "huge.safetensors")
