"""A small world to train the generator in: faces, features, a recognizer, parameters."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.rounding import in_float64
from vec2face.config import Params
from vec2face.recognizers.iresnet import IResNet
from vec2face.recognizers.onnx import export

ROOT = Path(__file__).parents[2]
PEOPLE, DIMENSION = 24, 16


@pytest.fixture(scope="session")
def recognizer(tmp_path_factory):
    """The file of a small recognizer with random weights."""
    sizes = {"embedding": DIMENSION, "image_size": 56, "dropout": 0.0}
    with in_float64():  # the same file on every processor
        torch.manual_seed(0)
        net = IResNet((1, 1, 1, 1), (16, 16, 16, 16), **sizes)
        for parameter in net.parameters():
            if parameter.ndim == 1:  # the exporter would share what is equal
                torch.nn.init.normal_(parameter, mean=0.5, std=0.1)
        net(torch.randn(8, 3, 56, 56))  # running statistics of its own
    path = tmp_path_factory.mktemp("onnx") / "recognizer.onnx"
    export(net.float().eval(), path, 56)
    return str(path)


@pytest.fixture(scope="session")
def make(recognizer):
    """Parameters: the smoke test's in one micro-batch, but for what is given."""

    def params(released=False, dropout=0.0, discriminator=(0.8, 5e-4), **training):
        content = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
        content["paths"]["recognizer"] = recognizer
        content["generator"] |= {"released": released, "dropout": dropout}
        losses = training.pop("losses", {})
        content["training"] |= {"micro_batch": None} | training
        content["training"]["losses"] |= losses
        start, lr = discriminator
        content["training"]["discriminator"] |= {"start": start, "lr": lr}
        return Params.model_validate(content)

    return params


@pytest.fixture(scope="session")
def faces():
    """Images (24, 56, 56, 3) and features (24, 16); a face's colour is its first three features."""
    draw = np.random.default_rng(0)
    features = draw.standard_normal((PEOPLE, DIMENSION)).astype(np.float32)
    colours = 127 + 60 * np.tanh(features[:, :3])
    images = np.broadcast_to(colours[:, None, None], (PEOPLE, 56, 56, 3)).astype(np.uint8)
    return np.ascontiguousarray(images), features
