import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from vec2face.cli import main
from vec2face.faces.images import encode
from vec2face.faces.source import open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.recognizers import features
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.network import save_recognizer
from vec2face.recognizers.onnx_export import export
from vec2face.runtime.files import InputError


class MeanColour:
    dimension, input_size = 3, 8

    def features(self, images):
        assert images.shape[1:] == (8, 8, 3)
        return images.mean((1, 2)).astype(np.float32) + 1


class Broken(MeanColour):
    def features(self, images):
        result = super().features(images)
        result[result[:, 0] > 110] = np.nan
        return result


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "BLOCK", 4)
    with FaceStoreWriter(tmp_path / "faces", image_size=16, seed=0, made_by="test") as writer:
        for i in range(11):
            writer.append(encode(np.full((16, 16, 3), 20 * i, np.uint8)), i)
    return open_source(tmp_path / "faces")


def test_rows_follow_the_source(source):
    rows = features.extract_rows(MeanColour(), source, range(11))
    np.testing.assert_allclose(rows, np.repeat(20.0 * np.arange(11)[:, None], 3, 1), atol=2)


def test_feature_that_is_not_finite_names_the_image(source, tmp_path):
    with pytest.raises(InputError) as error:
        features.extract_to(tmp_path / "work/features.npy", Broken(), source)
    assert str(error.value).startswith(source.where(6))


def test_blocks_on_disk_give_the_same_and_a_stopped_run_continues(source, tmp_path):
    class Once(MeanColour):
        calls = 0

        def features(self, images):
            if self.calls == 2:
                raise KeyboardInterrupt
            self.calls += 1
            return super().features(images)

    path = tmp_path / "work/features.npy"
    with pytest.raises(KeyboardInterrupt):
        features.extract_to(path, Once(), source)
    assert not path.exists()
    features.extract_to(path, Once(), source)  # one of three blocks is left
    assert np.array_equal(np.load(path), features.extract_rows(MeanColour(), source, range(11)))
    assert sorted(p.name for p in path.parent.iterdir()) == ["features.npy", "features.npy.sha256"]
    features.extract_to(path, None, source)  # it is there: nothing is asked
    assert path.exists()


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped"])
def test_damaged_features_of_an_earlier_run_are_made_again(source, tmp_path, damage):
    path = tmp_path / "work/features.npy"
    features.extract_to(path, MeanColour(), source)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 4
    path.write_bytes({"empty": b"", "cut": whole[:-8], "flipped": bytes(flipped)}[damage])
    features.extract_to(path, MeanColour(), source)
    assert path.read_bytes() == whole


def test_a_recognizer_of_ours_is_differentiated_through_as_it_is(tmp_path):
    torch.manual_seed(0)
    architecture = {"name": "iresnet10", "image_size": 56, "widths": [8, 8, 8, 8], "embedding": 8}
    network = build_backbone(**architecture).eval()
    save_recognizer(tmp_path / "ours.safetensors", network, architecture)
    images = torch.randn(2, 3, 56, 56, requires_grad=True)
    (expected,) = torch.autograd.grad(network(images).square().sum(), images)
    opened = features.open_network(tmp_path / "ours.safetensors")
    (found,) = torch.autograd.grad(opened(images).square().sum(), images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.fixture
def photographs():
    """Pictures that differ as photographs do: smooth, of all colours."""
    coarse = np.random.default_rng(0).integers(0, 256, (24, 7, 7, 3), np.uint8)
    return np.stack(
        [cv2.resize(image, (64, 64), interpolation=cv2.INTER_CUBIC) for image in coarse]
    )


class Linear(torch.nn.Module):
    """Features that are a matrix times the pixels, scaled, plus a constant."""

    def __init__(self, scale, constant):
        super().__init__()
        torch.manual_seed(3)
        self.matrix = torch.nn.Parameter(torch.randn(3 * 32 * 32, 16) * scale / 50)
        self.constant = constant

    def forward(self, x):
        return x.flatten(1) @ self.matrix + self.constant


def write_benchmark(path, pictures):
    with path.open("wb") as file:
        pickle.dump(([encode(p) for p in pictures], [i % 2 == 0 for i in range(12)]), file)


def test_features_that_hardly_vary_are_an_error(tmp_path, photographs, capsys):
    # What a network does that wants 0 to 255 and is given [-1, 1].
    export(Linear(1 / 255, 1.0), tmp_path / "flat.onnx", 32)
    flat = features.open_recognizer(tmp_path / "flat.onnx")
    with pytest.raises(InputError, match=r"flat\.onnx: its features hardly vary"):
        flat.features(photographs)
    # Nothing is said of pictures that are alike, nor of a few.
    assert flat.features(np.repeat(photographs[:1], 20, 0)).shape == (20, 16)
    assert flat.features(photographs[:7]).shape == (7, 16)
    write_benchmark(tmp_path / "b.bin", photographs)
    assert main(["evaluate", str(tmp_path / "flat.onnx"), str(tmp_path / "b.bin")]) == 2
    assert "flat.onnx: its features hardly vary" in capsys.readouterr().err


def test_features_that_are_not_finite_are_an_error_in_evaluate(tmp_path, photographs, capsys):
    class Root(Linear):
        def forward(self, x):
            return super().forward(x) + x.mean((1, 2, 3), keepdim=True).flatten(1).add(0.9).sqrt()

    export(Root(1.0, 0.0), tmp_path / "root.onnx", 32)
    photographs[9] = 0  # the root of -0.1
    write_benchmark(tmp_path / "b.bin", photographs)
    assert main(["evaluate", str(tmp_path / "root.onnx"), str(tmp_path / "b.bin")]) == 2
    assert "b, picture 9: its feature is zero or not finite" in capsys.readouterr().err


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_features_without_a_direction_are_an_error(tmp_path, photographs, capsys, scale):
    """All zero, or of a length whose square float32 cannot hold: every pair would be alike."""
    export(Linear(scale, 0.0), tmp_path / "dead.onnx", 32)
    write_benchmark(tmp_path / "b.bin", photographs)
    assert main(["evaluate", str(tmp_path / "dead.onnx"), str(tmp_path / "b.bin")]) == 2
    assert "b, picture 0: its feature is zero or not finite" in capsys.readouterr().err


def test_a_recognizer_of_one_number_is_refused(tmp_path):
    class First(Linear):
        def forward(self, x):
            return super().forward(x)[:, :1]

    export(First(1.0, 0.0), tmp_path / "scalar.onnx", 32)
    with pytest.raises(InputError, match=r"scalar\.onnx: its feature is 1 number"):
        features.open_recognizer(tmp_path / "scalar.onnx")


@pytest.mark.parametrize("name", ["identity", "second"])
def test_the_shipped_networks_are_sound(name, photographs):
    shipped = features.open_recognizer(Path(f"models/rendered/{name}.onnx"))
    noise = np.random.default_rng(1).integers(0, 256, photographs.shape, np.uint8)
    for images in (photographs, noise):
        assert features.spread(shipped.features(images)) > 20 * features.USUAL_SPREAD


@pytest.mark.parametrize("widths", [[8, 8, 8, 8], [16, 32, 64, 128]])
@pytest.mark.parametrize("name", ["iresnet10", "se_iresnet10", "iresnet18"])
def test_untrained_networks_are_sound(tmp_path, photographs, name, widths):
    torch.manual_seed(0)
    architecture = {"name": name, "image_size": 32, "widths": widths, "embedding": 32}
    path = tmp_path / "untrained.safetensors"
    network = build_backbone(**architecture)
    export(network, tmp_path / "untrained.onnx", 32)
    save_recognizer(path, network, architecture)
    features.open_recognizer(path).features(photographs)
    if widths[0] > 8:  # an untrained network as narrow looks like one of a wrong scale
        features.open_recognizer(tmp_path / "untrained.onnx").features(photographs)


def test_a_constant_feature_is_an_error(tmp_path, photographs):
    export(Linear(0.0, 1.0), tmp_path / "constant.onnx", 32)
    with pytest.raises(InputError, match="hardly vary"):
        features.open_recognizer(tmp_path / "constant.onnx").features(photographs)
