"""The modes of AttrOP beside each other, in the small world of its tests and on random networks."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from benchmarks.attrop import Contest, contest_of, main, table
from tests.dataset.test_attrop import AWAY, LIGHT, NETWORKS, SETTINGS, estimator, samples
from tests.parameters import SMOKE, changed
from vec2face.faces.images import encode, to_tensor
from vec2face.faces.source import load_images, open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.generator.network import Vec2Face
from vec2face.identities.pca import PCA
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.features import open_network
from vec2face.recognizers.network import save_recognizer
from vec2face.runtime.files import InputError

TURN = replace(AWAY, name="yaw")


def yaws(images):
    values = estimator(images)
    return {"yaw": values["turn"], "light": values["light"]}


def contest(count=8):
    networks = replace(NETWORKS, estimators={"halves": yaws})
    settings = replace(SETTINGS, attributes=(TURN, LIGHT), steps=30)
    return Contest(networks, settings, samples(count, light=-20.0), 1.0, yaws, 40)


def test_all_modes_are_measured_from_the_same_vectors():
    rows = contest().rows(20.0)
    assert list(rows) == ["ours", "printed", "released", "batch mean"]
    for row in rows.values():
        assert row["second_error"] == pytest.approx(row["yaw_error"], abs=1e-3)  # the same one
        assert row["images_per_second"] == pytest.approx(8 / row["seconds"])
        assert 0 <= row["converged"] <= 1
    assert rows["ours"]["converged"] > 0.9
    assert rows["printed"]["steps"] == 5
    assert rows["printed"]["rate"] in [10.0**-power for power in range(6)]


def test_the_loop_over_means_hangs_where_ours_ends():
    rows = contest(4).hang(20.0)
    assert rows["batch mean"]["ended"] == 0
    assert rows["batch mean"]["steps"] == 40
    assert rows["ours"]["converged"] == 0.75
    assert rows["ours"]["steps"] < 30


def test_the_quality_of_identity_vectors_reaches_their_images():
    some = contest()
    some = replace(some, samples=samples(8, light=5.0))
    found = some.identities_first()
    assert found["after"]["light_error"] < found["before"]["light_error"]


def estimator_of(file, reading, **outputs):
    takes = {"box": [0, 0, 1, 1], "side": None, "channels": "rgb", "mean": [0.5], "std": [0.5]}
    gives = {"reading": reading, "outputs": outputs, "opposite": [], "classes": []}
    return {"file": file, "network": "recognizer", "takes": takes, "gives": gives}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A run with random networks of 12 numbers, where the first of them are taken for a yaw."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    small = changed(SMOKE.generator, width=16, decoder_width=16, front_channels=8, channels=[8] * 4)
    (tmp_path / "models").mkdir()
    Vec2Face(small, dimension=12).save("models/generator.safetensors")
    for name in ("first", "second"):
        about = {"name": "mobilefacenet", "image_size": 56, "embedding": 12, "dropout": 0.0,
                 "widths": [8, 8, 8, 16]}  # fmt: skip
        save_recognizer(f"{name}.safetensors", build_backbone(**about).eval(), about)
    PCA(np.zeros(12), np.eye(12), np.ones(12), 1.0, 20).save("models/pca.npz")
    (tmp_path / "data").mkdir()
    people = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
    np.save("data/identities.npy", people)
    with FaceStoreWriter("faces", image_size=56, seed=0, made_by="test") as writer:
        for label in range(2):
            pixels = np.random.default_rng(label).integers(0, 256, (56, 56, 3), np.uint8)
            writer.append(encode(pixels), label)
    pose = {
        "estimator": "pose",
        "judge": "second_pose",
        "kind": "absolute",
        "scale": 1,
        "tolerance": 0.1,
    }
    quality = {"estimator": "quality", "judge": None, "kind": "least", "scale": 1, "tolerance": 1}
    attrop = {
        "mode": "ours", "attributes": {"yaw": pose, "quality": quality},
        "groups": [{"share": 1, "aims": {"yaw": 1, "quality": "p50"}}],
        "steps": 3, "rate": 0.1, "identity": 1, "slots": 2, "unconverged": "best", "attempts": 1,
    }  # fmt: skip
    p = changed(
        SMOKE, attrop=attrop, images_per_identity=4, paths__pca_faces="faces",
        paths__recognizer="first.safetensors", paths__generator="models/generator.safetensors",
        estimators={
            "pose": estimator_of("first.safetensors", "plain", yaw="degrees"),
            "quality": estimator_of("first.safetensors", "length", quality="norm"),
            "second_pose": estimator_of("second.safetensors", "plain", yaw="degrees"),
        },
    )  # fmt: skip
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(p.model_dump(mode="json")))
    return p


def test_it_runs_on_the_networks_of_the_parameters(folder, capsys):
    main(["--images", "2", "--yaw", "1", "--bound", "1", "--json", "f"])
    figures = json.loads(Path("f").read_text())
    assert figures["images"] == 2
    rows = figures["yaw 1"]
    rates = [rows[name]["images_per_second"] for name in ("ours", "batch mean")]
    assert rows["times_faster"] == pytest.approx(rates[0] / rates[1])
    assert rows["released"]["steps"] == 1
    assert rows["ours"]["second_error"] != rows["ours"]["yaw_error"]
    assert set(figures["identities_first"]) == {"before", "after"}
    assert "batch mean" in capsys.readouterr().out


def test_what_the_parameters_lack_is_named(folder):
    with pytest.raises(InputError, match="attrop"):
        contest_of(changed(folder, attrop=None), 4, 5)


def test_a_percentile_is_of_the_estimator_named_and_of_magnitudes(folder):
    """Another estimator has an output of the same name; an absolute aim has no sign.

    Faces are of the size that the generator draws, whatever another one was trained with.
    """
    p = changed(folder, image_size=112, generator__channels=[8] * 5)
    about = folder.model_dump(mode="json")["estimators"]
    about["quality"]["gives"] = about["second_pose"]["gives"]
    about["quality"]["file"] = "second.safetensors"
    about["pose"]["gives"]["outputs"] = {"yaw": "degrees", "quality": "norm"}
    attrop = folder.attrop.model_dump()
    attrop["groups"] = [{"share": 1, "aims": {"yaw": "p30"}}]
    found = {}
    for kind in ("signed", "absolute"):
        for name in ("pose", "quality"):
            aim = {"judge": None, "kind": kind, "scale": 1, "tolerance": 1}
            attrop["attributes"] = {
                "yaw": aim | {"estimator": name},
                "quality": aim | {"estimator": "pose", "kind": "signed"},
            }
            some = contest_of(changed(p, attrop=attrop, estimators=about), 2, 5)
            found[kind, name] = float(some.samples[0].targets[0])
    images = to_tensor(load_images(open_source("faces"), 56, np.arange(2)))
    for name, file in (("pose", "first"), ("quality", "second")):
        values = open_network(f"{file}.safetensors")(images)[:, 0].numpy()
        assert found["signed", name] == pytest.approx(np.percentile(values, 30), rel=1e-3)
        assert found["absolute", name] == pytest.approx(np.percentile(abs(values), 30), rel=1e-3)


def test_the_table_has_a_cell_for_each_figure():
    lines = table("title", {"a": {"x": 1.0}, "b": {"y": 0.25}}).splitlines()
    assert lines[0] == "title"
    assert lines[3].split() == ["b", "0.25"]
