"""Networks written as ONNX give the numbers that they give here."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.generator.test_released import SMALL, released_weights
from tests.parameters import TINY, changed
from tests.recognizers.test_released import iresnet_weights
from vec2face.cli import main
from vec2face.generator import onnx_export
from vec2face.generator.masks import masks
from vec2face.generator.network import Vec2Face
from vec2face.generator.released import read_generator
from vec2face.recognizers.features import open_recognizer
from vec2face.runtime.files import InputError


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)


@torch.no_grad()
def compare(generator, path):
    """Compare the images for other batches, and other numbers of dropped rows, than the example."""
    session = onnxruntime.InferenceSession(path)
    assert session.get_outputs()[0].shape == ["batch", 3, *[generator.image_size] * 2]
    for count, minimum in ((1, 0.5), (5, 0.0), (3, 1.0)):
        features = torch.randn(count, generator.dimension)
        drop, mask = masks(3, 0, count, minimum, 1.0, 0.15)
        inputs = {"features": features.numpy(), "drop": drop.numpy(), "mask": mask.numpy()}
        expected = generator(features, drop, mask).numpy()
        assert session.run(None, inputs)[0] == pytest.approx(expected, abs=1e-4)


def test_a_generator_is_written(capsys):
    generator = Vec2Face(changed(TINY, dropout=0.5), dimension=12).eval()
    generator.standardise(torch.randn(12), 2.0)
    generator.save("ours.safetensors")
    assert main(["export", "ours.safetensors", "ours.onnx", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["off"] < 1e-4
    compare(generator, "ours.onnx")
    assert main(["export", "ours.safetensors", "again.onnx"]) == 0
    assert Path("again.onnx").read_bytes() == Path("ours.onnx").read_bytes()


def test_a_released_generator_is_written():
    torch.save({"model_vec2face": released_weights(**SMALL)}, "theirs.pth")
    generator = read_generator("theirs.pth", (4, 2))
    generator.save("theirs.safetensors")
    assert main(["export", "theirs.safetensors", "theirs.onnx"]) == 0
    compare(generator, "theirs.onnx")


@pytest.mark.parametrize("convention", [[], ["--channels", "bgr", "--mean", "0", "--std", "1"]])
def test_a_recognizer_is_written_that_takes_what_all_take(convention):
    torch.save({"state_dict": dict(iresnet_weights())}, "theirs.pth")
    assert main(["import-recognizer", "theirs.pth", "ours.safetensors", *convention]) == 0
    assert main(["export", "ours.safetensors", "ours.onnx"]) == 0
    ours, written = open_recognizer("ours.safetensors"), open_recognizer("ours.onnx")
    assert (written.dimension, written.input_size) == (ours.dimension, ours.input_size)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    expected = ours.features(images)
    found = written.features(images)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_what_differs_is_not_written(monkeypatch, tmp_path):

    class Other(onnx_export.Traceable):
        def forward(self, features, drop, mask):
            return super().forward(2 * features, drop, mask)

    monkeypatch.setattr(onnx_export, "Traceable", Other)
    with pytest.raises(InputError, match="onnxruntime's numbers are off by"):
        onnx_export.export_generator(Vec2Face(TINY, 12).eval(), tmp_path / "wrong.onnx")
    assert not list(tmp_path.iterdir())


def test_what_is_no_network_is_refused(capsys):
    for source, message in {
        "none.safetensors": "no such file",
        "x.onnx": "give a .safeten",
    }.items():
        assert main(["export", source, "out.onnx"]) == 2
        assert message in capsys.readouterr().err
