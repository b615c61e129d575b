import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.parameters import PAPER, SMOKE, changed
from vec2face.config.params import Params
from vec2face.estimators.estimator import open_estimator
from vec2face.faces.benchmarks import save_benchmark
from vec2face.faces.images import encode
from vec2face.faces.record_writer import RecordWriter
from vec2face.generator.network import Vec2Face
from vec2face.planning import check as preflight
from vec2face.planning.cost import StageCost, backbone_cost, file_cost, generator_cost
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.network import save_recognizer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the pipeline's definition and nothing else."""
    for name in ("dvc.yaml", "params.yaml", "data/rendered/dvc.yaml"):
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
    assert (found.key, found.state) == ("paths.faces", "unfit")
    wanted = p.subset.identities + p.subset.held_out
    assert found.content == f"1 images of 1 people, but subset asks for {wanted} people"


def found_of(p, **changes):
    """What ``inspect`` finds bad in changed parameters: (key, state, content)."""
    found = preflight.inspect(changed(p, **changes))
    return [(f.key, f.state, f.content) for f in found if f.bad]


def faces(path, people, images):
    """Records of so many people with so many images each."""
    with RecordWriter(path) as writer:
        for label in np.repeat(np.arange(people), images):
            writer.append(b"", int(label))


def test_a_generator_takes_what_the_recognizer_gives(project):
    shape = {"name": "se_iresnet10", "image_size": 56, "embedding": 8, "widths": (4, 4, 4, 4)}
    save_recognizer("r.safetensors", build_backbone(**shape), shape)
    p = changed(Params.load(), paths__recognizer="r.safetensors", paths__generator="g.safetensors")
    small = changed(SMOKE.generator, width=16, decoder_width=16, front_channels=8, channels=(8, 8))
    for takes, bad in ((8, []), (16, [("paths.generator", "unfit")])):
        Vec2Face(small, takes).save("g.safetensors")
        assert [f[:2] for f in found_of(p)] == bad
    assert "16 numbers to 14 pixels, but paths.recognizer gives 8" in found_of(p)[0][2]


def test_a_generator_that_is_not_there_is_missing(project):
    found = found_of(Params.load(), paths__generator="elsewhere/g.safetensors")
    assert [f[:2] for f in found] == [("paths.generator", "missing")]


def test_estimators_must_exist_and_are_opened_if_attrop_asks_them(project):
    p = Params.load()
    Path("pose.onnx").write_bytes(b"nothing of the kind")
    assert not found_of(p, attrop=None, estimators__pose__file="pose.onnx")
    found = found_of(p, estimators__quality__file="none.onnx")
    assert [f[:2] for f in found] == [("estimators.quality.file", "missing")]
    (found,) = found_of(p, estimators__pose__file="pose.onnx")
    assert found[:2] == ("estimators.pose.file", "unreadable")
    assert "pose.onnx" in found[2]


def test_a_batch_is_no_larger_than_the_set(project):
    """Under the released rule the images are counted; a recognizer's batch takes what there is."""
    faces("train.rec", 6, 3)
    p = changed(
        Params.load(), paths__faces="train.rec", subset__rule="released", subset__identities=4,
        subset__held_out=2, training__batch=12, training__micro_batch=None,
    )  # fmt: skip
    assert not found_of(p)
    said = "18 images of 6 people, but training.batch = 13 is above the 12 of the subset"
    assert found_of(p, training__batch=13) == [("paths.faces", "unfit", said)]

    sets = p.training_sets | {"other": "train.rec"}
    assert not found_of(p, training_sets=sets, fr__batch=64, fr__micro_batch=None)
    (found,) = found_of(p, training_sets=sets, fr__batch=64, fr__micro_batch=4)
    assert found[:2] == ("training_sets.other", "unfit")
    assert "18 images of 6 people, but fr.micro_batch = 4 does not divide" in found[2]
    assert not found_of(p, training_sets=sets, fr__batch=64, fr__micro_batch=2)


def test_outputs_that_cannot_be_written_are_named(project):
    Path("reports").write_text("a file in the folder's place")
    found = {key: content for key, _, content in found_of(Params.load())}
    assert "Not a directory" in found["output"]


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


def test_a_masked_set_is_two_inputs(project):
    faces("train.rec", 6, 3)
    np.save("rows.npy", np.arange(10))
    p = Params.load()
    p = changed(p, masked_sets={"some": {"path": "train.rec", "rows": "rows.npy"}})
    found = {f.key: f for f in preflight.inspect(p)}
    assert found["masked_sets.some.path"].content == "18 images of 6 people"
    assert found["masked_sets.some.rows"].content == "10 images of 4 people"
    (bad,) = found_of(p, fr__batch=64, fr__micro_batch=4)
    assert bad[:2] == ("masked_sets.some.rows", "unfit")
    np.save("rows.npy", np.arange(19))
    (bad,) = found_of(p)
    assert bad[:2] == ("masked_sets.some.rows", "unreadable")


def test_the_default_rendered_world_is_expected_before_it_exists(project):
    found, assumed = preflight.expect(Params.load())
    costs = {c.stage: c for c in found}
    assert 0 < costs["pca"].flop < costs["generator"].flop
    assert any("pca_faces" in line and "2400 images" in line for line in assumed)


@pytest.mark.parametrize("world", ["photos", "paper"])
def test_what_is_not_there_is_counted_at_the_scale_of_the_run_and_told(project, world):
    p = Params.load(ROOT / f"params/{world}.yaml")
    assert {f.content for f in preflight.inspect(p) if f.state == "missing"} == {
        "photos": {"docs/photographs.md says what it may be"},
        "paper": {"data/README.md says where to get it"},
    }[world]
    found, assumed = preflight.expect(p)
    trained = p.subset.identities * p.subset.images_per_identity
    images = {"photos": trained, "paper": 5_822_653}[world]
    (pca,) = (c.flop for c in found if c.stage == "pca")
    assert pca == images * backbone_cost("iresnet100").forward
    told = [line.split()[0] for line in assumed]
    assert told[:-4] == ["all", "estimators"]
    keys = ("pca_faces", "benchmarks", "recognizer", "second_recognizer")
    assert told[-4:] == [f"paths.{key}" for key in keys]


def test_inputs_that_are_there_are_counted(project):
    shutil.copytree(ROOT / "models/rendered", "models/rendered")
    images = [encode(np.zeros((56, 56, 3), np.uint8))] * 80
    for name in ("one", "two"):
        save_benchmark(f"data/rendered/benchmarks/{name}.bin", images, [True, False] * 20)
    p = Params.load()
    found, assumed = preflight.expect(p)
    assert not any("benchmarks" in line or "recognizer" in line for line in assumed)
    recognizers = [f"models/rendered/{name}.onnx" for name in ("identity", "second")]
    judges = sum(file_cost(path).forward for path in recognizers)
    (evaluate,) = (c.flop for c in found if c.stage == "evaluate")
    fr = backbone_cost(p.fr.backbone, p.image_size, p.fr.embedding, p.fr.widths).forward
    assert evaluate == pytest.approx(2 * 160 * (3 * fr + judges))


def test_estimators_that_are_there_are_counted(project):
    shutil.copytree(ROOT / "models/rendered", "models/rendered")
    p = changed(SMOKE, attrop=changed(PAPER.attrop, unconverged="drop", steps=4))
    found, assumed = preflight.expect(p)
    assert not any("estimators" in line for line in assumed)
    forward = generator_cost(p.generator, p.sampling.masks.minimum).forward
    looks = forward + file_cost(p.paths.recognizer).forward
    for name in ("pose", "quality"):  # the judge's one look at the end is not counted
        estimator = open_estimator(p.estimators[name])
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            estimator(torch.zeros(1, 3, p.image_size, p.image_size))
        looks += counter.get_total_flops()
    made = p.identities * p.images_per_identity
    (dataset,) = (c.flop for c in found if c.stage == "dataset")
    assert dataset == pytest.approx(made * (forward + 0.6 * 5 * 2 * looks))


def test_a_shortage_names_what_is_short(monkeypatch):
    monkeypatch.setattr(preflight, "machine", lambda: {"disk": 1e9, "memory": 1e9, "device": 0})
    short = preflight.shortages([StageCost("a", 0, 6e8, 9e8, 1e12), StageCost("b", 0, 6e8)])
    assert short == ["disk: about 1.2 GB needed, 1.0 GB available"]


def test_a_system_that_does_not_tell_its_memory_is_short_of_none(monkeypatch):
    assert preflight.machine()["memory"] > 2**30
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.delattr(os, "sysconf_names")
    assert preflight.machine()["memory"] == 0
    assert preflight.shortages([StageCost("a", 0, 0, memory_bytes=1e15)]) == []
