"""The sets between real and generated faces, of a small pipeline's files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ablations import ladder
from stages.artifacts import Artifacts
from tests.parameters import SMOKE, TINY, changed
from vec2face.faces.images import encode
from vec2face.faces.source import open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.generator.network import Vec2Face
from vec2face.identities.pca import PCA
from vec2face.runtime.files import fingerprint

PEOPLE, IMAGES, D = 6, 4, 12


class Projection:
    """A recognizer that multiplies pixels by a random matrix."""

    dimension, input_size = D, 14

    def __init__(self, path):
        self.sign = float(path.read_text())

    def features(self, images):
        matrix = np.random.default_rng(1).normal(size=(14 * 14 * 3, D)) / 255
        return (self.sign * images.reshape(len(images), -1) @ matrix).astype(np.float32)


def train(path, seed):
    """Save a generator of its own weights."""
    torch.manual_seed(seed)
    Vec2Face(TINY, D).save(path)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Parameters whose files lie in a folder of their own."""
    files = Artifacts(tmp_path)
    monkeypatch.setattr(ladder, "artifacts", files)
    monkeypatch.setattr(ladder, "open_recognizer", Projection)
    recognizer, real = tmp_path / "recognizer", tmp_path / "real"
    recognizer.write_text("1")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (PEOPLE * IMAGES, 14, 14, 3), np.uint8)
    with FaceStoreWriter(real, image_size=14, seed=0, made_by="test") as store:
        labels = np.repeat(np.arange(PEOPLE), IMAGES)
        store.extend([encode(image, 95) for image in images], labels)
    files.generator.parent.mkdir()
    PCA.fit(rng.normal(size=(PEOPLE, D)), 1.0).save(files.pca)
    train(files.generator, 0)
    return changed(
        SMOKE,
        paths__generator=str(files.generator),
        paths__recognizer=str(recognizer),
        training_sets={"generated": str(files.generated), "real": str(real)},
        identities=3,
        images_per_identity=IMAGES,
        min_similarity=-0.9,
    )


def contents(sets):
    return {name: fingerprint(sets / name) for name in ladder.SETS}


def test_sets_have_the_peoples_images_and_are_kept(small, tmp_path):
    sets = ladder.write_sets(small, tmp_path / "sets")
    for name in ladder.SETS:
        assert len(open_source(sets / name).labels) == 3 * IMAGES
    before = {name: (sets / name).stat().st_ino for name in ladder.SETS}
    assert ladder.write_sets(small, tmp_path / "sets") == sets
    assert {name: (sets / name).stat().st_ino for name in ladder.SETS} == before


@pytest.mark.parametrize(
    ("change", "differ"),
    [
        ({"sigma": [0.1], "sigma_share": [1.0]}, {"people"}),
        ({"sampling__seed": 5}, {"reconstructions", "people"}),
        ({"identities": 4}, {"reconstructions", "people"}),
        ({"perturbation": "angular"}, {"people"}),
    ],
)
def test_other_settings_give_other_sets(small, tmp_path, change, differ):
    before = contents(ladder.write_sets(small, tmp_path / "sets"))
    after = contents(ladder.write_sets(changed(small, **change), tmp_path / "sets"))
    fresh = contents(ladder.write_sets(changed(small, **change), tmp_path / "elsewhere"))
    assert {name for name in before if before[name] != after[name]} == differ
    assert after == fresh


def test_another_generator_and_another_recognizer_give_other_sets(small, tmp_path):
    before = contents(ladder.write_sets(small, tmp_path / "sets"))
    train(ladder.artifacts.generator, 1)
    other = contents(ladder.write_sets(small, tmp_path / "sets"))
    assert all(before[name] != other[name] for name in ladder.SETS)
    Path(small.paths.recognizer).write_text("-1")
    assert all(
        other[name] != mark
        for name, mark in contents(ladder.write_sets(small, tmp_path / "sets")).items()
    )


def test_an_interrupted_set_of_another_sigma_is_not_continued(small, tmp_path, monkeypatch):
    """Finished shards lie in the work of a killed run; the join comes after them."""

    def killed(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vec2face.dataset.generate.join_stores", killed)
        with pytest.raises(KeyboardInterrupt):
            ladder.write_sets(small, tmp_path / "sets")
    other = changed(small, sigma=[0.1], sigma_share=[1.0])
    fresh = contents(ladder.write_sets(other, tmp_path / "elsewhere"))
    assert contents(ladder.write_sets(other, tmp_path / "sets")) == fresh
