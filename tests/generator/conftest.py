"""A small world to train the generator in: faces, features, a recognizer, parameters."""

import numpy as np
import pytest
import torch

from tests.parameters import SMOKE, changed
from tests.rounding import in_float64
from vec2face.recognizers.iresnet import IResNet
from vec2face.recognizers.onnx_export import export

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

    def params(dropout=0.0, discriminator=(0.8, 5e-4), losses=(), **training):
        return changed(
            SMOKE,
            paths__recognizer=recognizer,
            generator__dropout=dropout,
            training__discriminator__start=discriminator[0],
            training__discriminator__lr=discriminator[1],
            **{
                f"training__losses__{name}": weight
                for name, weight in ({"sampled": 0.0} | dict(losses)).items()
            },
            **{f"training__{name}": v for name, v in ({"micro_batch": None} | training).items()},
        )

    return params


@pytest.fixture(scope="session")
def faces():
    """Images (24, 56, 56, 3) and features (24, 16); a face's colour is its first three features."""
    draw = np.random.default_rng(0)
    features = draw.standard_normal((PEOPLE, DIMENSION)).astype(np.float32)
    colours = 127 + 60 * np.tanh(features[:, :3])
    images = np.broadcast_to(colours[:, None, None], (PEOPLE, 56, 56, 3)).astype(np.uint8)
    return np.ascontiguousarray(images), features
