"""The stages from PCA to quality, run in order in an empty folder with small stand-ins."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages import dataset, identities, measure, pca
from tests.parameters import SMOKE, changed
from vec2face.faces.images import decode, encode
from vec2face.faces.source import open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.generator.masks import masks
from vec2face.generator.network import Vec2Face
from vec2face.identities.cosines import cosines
from vec2face.identities.pca import PCA
from vec2face.randomness import stream
from vec2face.recognizers.features import extract_rows
from vec2face.runtime.files import InputError


class Recognizer:
    """A fixed random projection of a 4 x 4 thumbnail."""

    dimension, input_size = 12, 4

    def __init__(self, path):
        Path(path).touch()  # the stages name their work by the content of such files
        self.weights = np.random.default_rng(len(str(path))).normal(size=(48, 12))

    def features(self, images):
        if images.shape[1] != 4:
            images = images.reshape(len(images), 4, images.shape[1] // 4, 4, -1, 3).mean((2, 4))
        centred = images.reshape(len(images), 48) / 255 - 0.5
        return (centred @ self.weights).astype(np.float32)


def store(path, seed, people):
    rng = np.random.default_rng(seed)
    with FaceStoreWriter(path, image_size=56, seed=seed, made_by="test") as writer:
        for label in range(people):
            person = rng.integers(60, 200, (4, 4, 3))
            for _ in range(3):
                small = np.clip(person + rng.integers(-20, 20, (4, 4, 3)), 0, 255)
                writer.append(encode(np.kron(small, np.ones((14, 14, 1))).astype(np.uint8)), label)


@pytest.fixture
def folder(tmp_path, monkeypatch, set_params):
    store("faces", 1, 40)
    store("data/held_out", 2, 6)
    recognizer = Recognizer("first.onnx")
    (tmp_path / "data/features").mkdir()
    held_out = open_source("data/held_out")
    features = extract_rows(recognizer, held_out, range(len(held_out)))
    np.save("data/features/held_out.npy", features)
    torch.manual_seed(0)
    generator = Vec2Face(
        changed(SMOKE.generator, width=16, decoder_width=16, front_channels=8, channels=(8,) * 4),
        dimension=12,
    )
    generator.save("models/generator.safetensors")
    usual = {
        "seed": 3, "tau": 0.6, "identities": 8, "images_per_identity": 5, "sigma": [0.3, 0.5],
        "sigma_share": [0.6, 0.4], "min_similarity": 0.5, "sampling__jpeg_quality": 90,
        "sampling__masks": {"minimum": 0.1, "maximum": 1.0, "mean": 0.15},
        "paths__pca_faces": "faces", "paths__recognizer": "first.onnx",
        "paths__second_recognizer": "another.onnx",
    }  # fmt: skip
    set_params(**usual)
    for stage in (pca, measure):
        monkeypatch.setattr(stage, "open_recognizer", Recognizer)
    return lambda **changes: set_params(**{**usual, **changes})


def test_from_faces_to_quality(folder, tmp_path):
    for stage in (pca, identities, dataset, measure):
        stage.main()

    assert PCA.load("models/pca.npz").people == 40
    ids = np.load("data/identities.npy")
    unit = ids / np.linalg.norm(ids, axis=1, keepdims=True)
    sampling = json.loads((tmp_path / "reports/sampling.json").read_text())
    assert np.triu(unit @ unit.T, 1).max() == pytest.approx(sampling["largest_cosine"], abs=1e-6)
    assert sampling["largest_cosine"] <= 0.6
    assert (sampling["identities"], sampling["pca_people"]) == (8, 40)

    generated = open_source("data/generated")
    assert generated.labels.tolist() == np.repeat(np.arange(8), 5).tolist()
    vectors = np.load("data/generated_vectors.npy")
    owner = unit[generated.labels]
    assert ((vectors * owner).sum(1) / np.linalg.norm(vectors, axis=1) >= 0.5 - 1e-6).all()
    assert not list(tmp_path.glob("work/dataset-*"))

    features = np.load("data/generated_features.npy")
    expected = extract_rows(Recognizer("first.onnx"), generated, range(40))
    np.testing.assert_array_equal(features, expected)
    quality = json.loads((tmp_path / "reports/quality.json").read_text())
    cosine = (features * owner).sum(1) / np.linalg.norm(features, axis=1)
    assert quality["image_to_vector_mean"] == pytest.approx(cosine.mean(), abs=1e-6)
    assert quality["measured_images"] == 40
    for key in ("eer", "separated_share", "reconstruction_cosine", "held_out_intra_mean"):
        assert -1 <= quality[key] <= 1
        assert quality[f"second_{key}"] != quality[key] or quality[key] in (0, 1)
    assert quality["held_out_intra_mean"] > quality["held_out_inter_mean"]


def test_the_released_sampling_is_that_of_a_plain_account(folder):
    """Their way written out: every image its level, noise, the length; pixels cut off; Pillow."""
    p = folder(sampling__released=True, sigma_unit="absolute")
    for stage in (pca, identities, dataset):
        stage.main()
    people = np.load("data/identities.npy").astype(np.float64)
    generator = Vec2Face.load("models/generator.safetensors").eval()
    vectors, made = np.load("data/generated_vectors.npy"), open_source("data/generated")
    for s in range(40):
        identity, image = divmod(s, 5)
        sigma = 0.3 if stream(3, "sigma", identity, image).random() < 0.6 else 0.5
        noise = stream(3, "perturbation", identity, image, 0).standard_normal(12)
        vector = people[identity] + sigma * noise
        vector *= np.linalg.norm(people[identity]) / np.linalg.norm(vector)
        np.testing.assert_allclose(vectors[s], vector, rtol=1e-6)

        ratios = p.sampling.masks.model_dump() | {"ratio_shared_by": 64}
        drop, mask = masks(3, s, 1, **ratios, purpose="generation mask")
        with torch.no_grad():
            painted = generator(torch.from_numpy(vectors[s : s + 1]), drop, mask)[0]
        pixels = ((painted.permute(1, 2, 0).numpy() + 1) / 2 * 255).clip(0, 255).astype(np.uint8)
        saved = io.BytesIO()
        Image.fromarray(pixels).save(saved, "jpeg")  # of quality 75 if none is said
        saved = np.asarray(Image.open(saved)).astype(int)
        # The same but where a value fell on the other side of a whole number.
        assert np.abs(decode(made.encoded(s), "") - saved).mean() < 0.1
    assert json.loads(Path("reports/perturbation.json").read_text())["draws_per_image_max"] == 1


def test_turned_vectors_stay_within_their_angle(folder):
    folder(perturbation="angular", max_angle=20)
    for stage in (pca, identities, dataset):
        stage.main()
    people, vectors = np.load("data/identities.npy"), np.load("data/generated_vectors.npy")
    owners = people[np.arange(40) // 5]
    angles = np.degrees(np.arccos(cosines(vectors, owners)))
    assert 15 < angles.max() <= 20
    assert angles.min() < 5
    np.testing.assert_allclose(
        np.linalg.norm(vectors, axis=1), np.linalg.norm(owners, axis=1), rtol=1e-6
    )
    assert json.loads(Path("reports/perturbation.json").read_text())["draws_per_image_max"] == 1


def test_released_sampling_keeps_vectors_far_from_their_identity(folder):
    folder(min_similarity=0.99)
    pca.main()
    identities.main()
    with pytest.raises(InputError, match="min_similarity = 0.99"):
        dataset.main()
    folder(min_similarity=0.99, sampling__released=True)
    dataset.main()
    people, vectors = np.load("data/identities.npy"), np.load("data/generated_vectors.npy")
    near = [
        np.dot(a, b) / np.linalg.norm(a) ** 2
        for a, b in zip(np.repeat(people, 5, 0), vectors, strict=True)
    ]
    assert min(near) < 0.95
