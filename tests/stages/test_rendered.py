import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages import rendered_benchmarks, rendered_estimators, rendered_faces
from vec2face.faces.benchmarks import find_benchmarks, load_benchmark
from vec2face.faces.store import FaceStore
from vec2face.recognizers.features import open_recognizer
from vec2face.runtime.files import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(head, tmp_path, monkeypatch):
    """An empty project with the smallest of stores in its parameters, and the baked head."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["rendered"]["image_size"] = 28
    content["rendered"]["stores"]["pca"] = {"people": 2, "images": 1, "regime": "ordinary"}
    content["rendered"]["stores"]["estimators"] = {"people": 24, "images": 2, "regime": "wide"}
    content["rendered"]["estimators"] = {"epochs": 1, "attribute_epochs": 4}
    content["rendered"]["benchmarks"] = {"lfw": 40, "eclipse": 80}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "data/rendered").mkdir(parents=True)
    shutil.copy(head, tmp_path / "data/rendered/head.npz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKERS", "1")
    return tmp_path


def test_a_store_and_benchmarks_are_made_from_params(run):
    rendered_faces.main("pca")
    store = FaceStore("data/rendered/pca").verify()
    assert store.manifest["identities"] == 2
    assert store.manifest["image_size"] == 28
    rendered_benchmarks.main()
    found = find_benchmarks("data/rendered/benchmarks")
    assert set(found) == {"lfw", "eclipse"}
    assert len(load_benchmark(found["lfw"]).same) == 40
    known = Path("data/rendered/benchmarks-attributes")
    assert np.load(known / "eclipse/exposure.npy").shape == (160,)
    assert not list(Path("work").glob("rendered*"))


def test_estimators_go_on_where_they_were_killed_and_are_small(run, monkeypatch):
    trained = []

    def count(images, values, name, *others, original=rendered_estimators.train_attribute):
        trained.append(name)
        if trained == ["pose", "second_pose"]:
            raise KeyboardInterrupt
        return original(images, values, name, *others)

    def recognizer(*arguments, original=rendered_estimators.train_recognizer):
        trained.append("recognizer")
        return original(*arguments)

    rendered_faces.main("estimators")
    Path("models/rendered").mkdir(parents=True)
    monkeypatch.setattr(rendered_estimators, "train_attribute", count)
    with pytest.raises(KeyboardInterrupt):
        rendered_estimators.main()
    assert not list(Path("models/rendered").iterdir())
    monkeypatch.setattr(rendered_estimators, "train_recognizer", recognizer)
    rendered_estimators.main()
    assert trained == ["pose", "second_pose", "second_pose", "age"]  # recognizers were there
    files = {path.name: path.stat().st_size for path in Path("models/rendered").iterdir()}
    named = yaml.safe_load((ROOT / "data/rendered/dvc.yaml").read_text())["stages"]["estimators"]
    shipped = {next(iter(out)) for out in named["outs"]}
    assert shipped <= {f"models/rendered/{name}" for name in files}
    assert sum(files.values()) < 8e6
    record = json.loads(Path("models/rendered/estimators.json").read_text())
    assert 0 <= record["identity_eer"] <= 1
    assert record["pose_yaw_error_degrees"] > 0
    assert record["age_error_years"] > 0
    frozen = open_recognizer(Path("models/rendered/second.onnx"))
    assert frozen.features(np.full((1, 112, 112, 3), 128, np.uint8)).shape == (1, 256)


def test_an_unknown_store_names_its_key(run):
    with pytest.raises(InputError, match=r"rendered\.stores\.nobody"):
        rendered_faces.main("nobody")


def test_every_store_of_the_pipeline_has_its_parameters():
    stages = yaml.safe_load((ROOT / "data/rendered/dvc.yaml").read_text())["stages"]
    for file in (ROOT / "params.yaml", ROOT / "params/smoke.yaml"):
        rendered = yaml.safe_load(file.read_text())["rendered"]
        # the estimators' store is rendered within their frozen stage
        assert {*stages["rendered"]["foreach"], "estimators"} == set(rendered["stores"])
