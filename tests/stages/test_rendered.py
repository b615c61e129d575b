import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from stages import rendered_benchmarks, rendered_faces
from vec2face.faces.benchmarks import find_benchmarks, load_benchmark
from vec2face.faces.store import FaceStore
from vec2face.runtime.files import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(head, tmp_path, monkeypatch):
    """An empty project with the smallest of stores in its parameters, and the baked head."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["rendered"]["image_size"] = 28
    content["rendered"]["stores"]["pca"] = {"people": 2, "images": 1, "regime": "ordinary"}
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


def test_an_unknown_store_names_its_key(run):
    with pytest.raises(InputError, match=r"rendered\.stores\.nobody"):
        rendered_faces.main("nobody")


def test_every_store_of_the_pipeline_has_its_parameters():
    stages = yaml.safe_load((ROOT / "data/rendered/dvc.yaml").read_text())["stages"]
    for file in (ROOT / "params.yaml", ROOT / "params/smoke.yaml"):
        rendered = yaml.safe_load(file.read_text())["rendered"]
        # the estimators' store is rendered within their frozen stage
        assert {*stages["rendered"]["foreach"], "estimators"} == set(rendered["stores"])
