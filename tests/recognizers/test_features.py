import numpy as np
import pytest
import torch

from vec2face.faces.images import encode
from vec2face.faces.source import open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.recognizers import features
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.network import save_recognizer
from vec2face.runtime.files import InputError


class MeanColour:
    dimension, input_size = 3, 8

    def features(self, images):
        assert images.shape[1:] == (8, 8, 3)
        return images.mean((1, 2)).astype(np.float32)


class Broken(MeanColour):
    def features(self, images):
        result = super().features(images)
        result[result[:, 0] > 100] = np.nan
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
