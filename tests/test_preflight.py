import shutil
from pathlib import Path

import pytest
import torch

from vec2face import preflight
from vec2face.cost import StageCost
from vec2face.faces.record import RecordWriter
from vec2face.params import Params


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the pipeline's definition and nothing else."""
    for name in ("dvc.yaml", "params.yaml", "data/world/dvc.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, tmp_path / name)
    from dvc.repo import Repo  # noqa: PLC0415 - slow

    Repo.init(tmp_path, no_scm=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_input_is_called_by_its_state(project):
    p = Params.load()
    paths = p.paths.model_copy(
        update={"faces": "nowhere.rec", "benchmarks": "broken.bin", "second_recognizer": "x.onnx"}
    )
    Path("broken.bin").write_bytes(b"nothing of the kind")
    Path("x.onnx").write_bytes(b"nor this")
    found = {f.key: f for f in preflight.inspect(p.model_copy(update={"paths": paths}))}
    assert found["paths.faces"].state == "missing"
    assert found["paths.pca_faces"].state == "made by the pipeline"
    assert found["paths.benchmarks"].state == "unreadable"
    assert "broken.bin" in found["paths.benchmarks"].content
    assert found["paths.second_recognizer"].state == "unreadable"
    for own in ("paths.generator", "training_sets.generated", "training_sets.real"):
        assert found[own].state == "made by the pipeline"
    assert [f.key for f in found.values() if f.bad] == [
        "paths.faces", "paths.benchmarks", "paths.second_recognizer"
    ]  # fmt: skip


def test_faces_of_too_few_people_are_told(project):
    p = Params.load()
    with RecordWriter("train.rec") as writer:
        writer.append(b"", 3)
    paths = p.paths.model_copy(update={"faces": "train.rec"})
    (found,) = (f for f in preflight.inspect(p.model_copy(update={"paths": paths})) if f.bad)
    assert (found.key, found.state) == ("paths.faces", "too small")
    assert found.content == "1 images of 1 people, but subset asks for 440 people"


def test_a_page_that_was_saved_as_weights_is_no_vgg16(project):
    p = Params.load()
    losses = p.training.losses.model_copy(update={"lpips": 1.0})
    training = p.training.model_copy(update={"losses": losses, "lpips_weights": "vgg16.pth"})
    Path("vgg16.pth").write_text("<html>not found</html>")
    found = {f.key: f for f in preflight.inspect(p.model_copy(update={"training": training}))}
    assert found["training.lpips_weights"].state == "unreadable"
    assert "not torchvision's VGG16" in found["training.lpips_weights"].content


def test_generators_and_sets_of_others_are_inputs_too(project):
    p = Params.load()
    paths = p.paths.model_copy(update={"generator": "vec2face.pth"})
    sets = p.training_sets | {"dcface": "data/external/dcface.rec"}
    torch.save({"model": {}}, "vec2face.pth")
    changed = p.model_copy(update={"paths": paths, "training_sets": sets})
    found = {f.key: f for f in preflight.inspect(changed)}
    assert found["training_sets.dcface"].state == "missing"
    assert found["paths.generator"].state == "unreadable"
    assert "no model_vec2face" in found["paths.generator"].content


def test_the_default_rendered_world_is_expected_before_it_exists(project):
    costs = {c.stage: c for c in preflight.expect(Params.load())}
    assert 0 < costs["pca"].flop < costs["generator"].flop


def test_a_shortage_names_what_is_short(monkeypatch):
    monkeypatch.setattr(preflight, "machine", lambda: {"disk": 1e9, "memory": 1e9, "device": 0})
    short = preflight.shortages([StageCost("a", 0, 6e8, 9e8, 1e12), StageCost("b", 0, 6e8)])
    assert short == ["disk: about 1.2 GB needed, 1.0 GB there"]
