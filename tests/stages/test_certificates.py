"""The stages labels and leaks, and away_from, on small stand-ins of the stages before."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import dataset, identities, labels, leaks, pca
from tests.parameters import ROOT, SMOKE, changed
from tests.stages.test_sampling import Recognizer, store
from tests.test_docs import explained
from vec2face.dataset import generate
from vec2face.faces.benchmarks import save_benchmark
from vec2face.faces.source import open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.generator.network import Vec2Face
from vec2face.recognizers.features import extract_rows
from vec2face.recognizers.statistics import identity_means
from vec2face.report.gate import Rules, decide
from vec2face.report.results import Results
from vec2face.runtime.files import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch, set_params):
    (tmp_path / "data/features").mkdir(parents=True)
    recognizer = Recognizer("first.onnx")
    for seed, (path, people) in enumerate(
        {"faces": 40, "marks": 20, "data/subset": 30, "data/held_out": 6}.items()
    ):
        store(path, seed, people)
    for path, name in (("data/subset", "train"), ("data/held_out", "held_out")):
        source = open_source(path)
        features = extract_rows(recognizer, source, range(len(source)))
        np.save(f"data/features/{name}.npy", features)
    marks = open_source("marks")
    images = [marks.encoded(i) for i in range(40)]
    save_benchmark("benchmarks/toy.bin", images, [True, False] * 10)
    torch.manual_seed(0)
    Vec2Face(
        changed(SMOKE.generator, width=16, decoder_width=16, front_channels=8, channels=(8,) * 4),
        dimension=12,
    ).save("models/generator.safetensors")
    usual = {
        "seed": 3, "tau": 0.6, "identities": 8, "images_per_identity": 5, "sigma": [0.1],
        "sigma_share": [1.0], "min_similarity": 0.9, "certificates__mislabelled_features": 1.0,
        "sampling__masks": {"minimum": 0.1, "maximum": 1.0, "mean": 0.15},
        "paths__pca_faces": "faces", "paths__recognizer": "first.onnx",
        "paths__second_recognizer": "another.onnx", "paths__benchmarks": "benchmarks",
    }  # fmt: skip
    set_params(**usual)
    for stage in (pca, identities, labels, leaks):
        monkeypatch.setattr(stage, "open_recognizer", Recognizer)
    return lambda **changes: set_params(**{**usual, **changes})


class Absent(Recognizer):
    """A recognizer that must not be asked again."""

    def features(self, images):
        raise AssertionError(f"{len(images)} images are looked at again")


def report(name):
    return json.loads(Path(f"reports/{name}.json").read_text())


def test_from_vectors_to_certificates(folder, tmp_path):
    for stage in (pca, identities, dataset, labels, leaks):
        stage.main()
    found, record = report("labels"), report("leaks")
    assert found["mislabelled_vectors"] == 0
    assert found["vector_angle_max"] <= np.degrees(np.arccos(0.9)) + 1e-6
    features = np.load("data/image_features/second_features.npy")
    made = open_source("data/generated")
    expected = extract_rows(Recognizer("another.onnx"), made, range(40))
    np.testing.assert_array_equal(features, expected)
    assert 0 <= record["membership_auc_low"] <= record["membership_auc"] <= 1
    assert not [key for key in found | record if not explained(key)]
    assert (found["images_alone"], found["identities_without_images"]) == (0, 0)
    assert not list(tmp_path.glob("work/*"))


def test_a_vector_of_a_stranger_fails_the_stage_and_the_report_names_it(folder):
    for stage in (pca, identities, dataset):
        stage.main()
    vectors, people = np.load("data/generated_vectors.npy"), np.load("data/identities.npy")
    vectors[7] = people[5]  # an image of identity 1
    np.save("data/generated_vectors.npy", vectors)
    with pytest.raises(InputError, match=r"1 image vectors .* image 7 most \(to identity 5\)"):
        labels.main()
    assert report("labels")["vector_margin_pair"] == [7, 5]


def keep(name, accuracy):
    """Keep the results so far, with accuracies of a few pairs."""
    marks = {b: {"accuracy": accuracy, "std": 0.08} for b in ("lfw", "cfp_fp", "calfw")}
    roles = {"generated": marks, "real": marks, "untrained": marks}
    Path("reports/evaluation.json").write_text(json.dumps(roles))
    shutil.copytree("reports", f"{name}/reports")
    shutil.copy("params.yaml", name)
    return Results.read(Path(name), name)


class Shuffled(FaceStoreWriter):
    """Generation that gives images the labels of others."""

    def append(self, image, label, feature=None):
        super().append(image, (label + len(image)) % 8, feature)


def test_the_gate_refuses_shuffled_labels_by_their_proof_and_lets_a_refactoring_pass(
    folder, monkeypatch
):
    for stage in (pca, identities, dataset, labels):
        stage.main()
    base, rules = keep("base", 0.55), Rules.load(ROOT / "gate.yaml")
    monkeypatch.setattr(generate, "BLOCK", 3)  # otherwise cut: the same but for rounding
    dataset.main()
    labels.main()
    assert decide(base, keep("refactored", 0.55), rules).code == 0
    monkeypatch.setattr(generate, "FaceStoreWriter", Shuffled)
    dataset.main()
    with pytest.raises(InputError, match="nearer to another identity"):
        labels.main()
    decision = decide(base, keep("shuffled", 0.53), rules)
    assert decision.code == 1
    found = {c.key: c.verdict for c in decision.comparisons}
    assert found["mislabelled_vectors"] == "worse"
    assert found["avg"] == "same"  # chance moves accuracies further than shuffled labels do


def test_a_training_person_among_the_identities_is_counted(folder):
    for stage in (pca, identities, dataset, labels):
        stage.main()
    people = np.load("data/identities.npy")
    trained = open_source("data/subset")
    people[2] = identity_means(np.load("data/features/train.npy"), trained.labels)[9]
    np.save("data/identities.npy", people)
    leaks.main()
    assert report("leaks")["leak_vector_training_largest"] == pytest.approx(1)
    assert report("leaks")["leak_vector_training_flagged"] >= 1


def test_identities_keep_away_from_listed_people(folder):
    folder(away_from=["faces", "data/subset"], away_cosine=0.85)
    for stage in (pca, identities):
        stage.main()
    record = report("sampling")
    assert record["away_people"] == 70
    assert record["away_largest_cosine"] <= 0.85
    assert record["turned_away"] > 0
    people, judge = np.load("data/identities.npy"), Recognizer("first.onnx")
    for path in ("faces", "data/subset"):
        source = open_source(path)
        means = identity_means(extract_rows(judge, source, range(len(source))), source.labels)
        units = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (people, means)]
        assert (units[0] @ units[1].T).max() <= 0.85 + 1e-6


def test_features_of_listed_people_outlive_a_failure_and_a_change_of_the_limits(
    folder, monkeypatch, tmp_path
):
    folder(away_from=["faces"], away_cosine=0.85)
    pca.main()
    identities.main()
    expected = Path("data/identities.npy").read_bytes()
    folder(away_from=["faces"], away_cosine=0.85, tau=-0.5)
    with pytest.raises(InputError, match=r"tau = -0\.5: only \d of 8 identities"):
        identities.main()
    monkeypatch.setattr(identities, "open_recognizer", Absent)
    folder(away_from=["faces"], away_cosine=-0.9)
    with pytest.raises(InputError, match="only 0 of 8 identities"):
        identities.main()
    folder(away_from=["faces"], away_cosine=0.85)
    identities.main()
    assert Path("data/identities.npy").read_bytes() == expected
    assert not list(tmp_path.glob("work/*"))
