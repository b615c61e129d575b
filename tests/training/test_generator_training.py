"""Training of the generator: it learns, it survives a kill, and a part changes nothing else."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vec2face.models.iresnet import IResNet
from vec2face.models.onnx import export
from vec2face.params import Params
from vec2face.training import losses
from vec2face.training.checkpoint import Checkpoint
from vec2face.training.generator import GeneratorRun, batch_indices, draw_masks, train_generator

ROOT = Path(__file__).parents[2]
PEOPLE, DIMENSION = 24, 16


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    torch.manual_seed(0)
    net = IResNet((1, 1, 1, 1), (16, 16, 16, 16), embedding=DIMENSION, image_size=56, dropout=0.0)
    for parameter in net.parameters():
        if parameter.ndim == 1:  # the exporter would share what is equal
            torch.nn.init.normal_(parameter, mean=0.5, std=0.1)
    net(torch.randn(8, 3, 56, 56))  # running statistics of its own
    path = tmp_path_factory.mktemp("onnx") / "recognizer.onnx"
    export(net.eval(), path, 56)
    return str(path)


@pytest.fixture
def make(recognizer):
    def params(released=False, **training):
        content = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
        content["paths"]["recognizer"] = recognizer
        content["generator"]["released"] = released
        losses = training.pop("losses", {})
        content["training"].update(training)
        content["training"]["losses"].update(losses)
        return Params.model_validate(content)

    return params


@pytest.fixture(scope="module")
def faces():
    draw = np.random.default_rng(0)
    features = draw.standard_normal((PEOPLE, DIMENSION)).astype(np.float32)
    colours = 127 + 60 * np.tanh(features[:, :3])  # a face is its first three features
    images = np.broadcast_to(colours[:, None, None], (PEOPLE, 56, 56, 3)).astype(np.uint8)
    return np.ascontiguousarray(images), features


def test_it_learns_what_features_say(make, faces, tmp_path):
    log = []
    train_generator(
        *faces, make(steps=60, losses={"adversarial": 0, "perceptual": 0, "identity": 0}),
        tmp_path, on_log=log.append,
    )  # fmt: skip
    assert log[-1]["mse"] < 0.7 * log[0]["mse"]


def test_a_run_cut_short_ends_in_the_same_bits(make, faces, tmp_path, monkeypatch):
    params = make(steps=12, checkpoint_every=4)
    whole, whole_log = tmp_path / "whole", []
    expected = train_generator(*faces, params, whole, on_log=whole_log.append, log_every=3)

    cut, cut_log = tmp_path / "cut", []
    honest = GeneratorRun.step

    def dies(self, step, *args):
        if step == 10:
            raise KeyboardInterrupt
        return honest(self, step, *args)

    monkeypatch.setattr(GeneratorRun, "step", dies)
    with pytest.raises(KeyboardInterrupt):
        train_generator(*faces, params, cut, log_every=3)
    assert Checkpoint(cut).load()[0] == 8
    monkeypatch.setattr(GeneratorRun, "step", honest)
    found = train_generator(*faces, params, cut, on_log=cut_log.append, log_every=3)
    assert cut_log == whole_log
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, found.state_dict()[name]), name


def test_the_generators_adversarial_loss_does_not_reach_the_discriminator(make, faces):
    params = make(losses={"adversarial": 1.0})
    run = GeneratorRun(params, faces[1])
    images = torch.randn(12, 3, 56, 56)
    before = [p.clone() for p in run.discriminator.parameters()]
    run._step_discriminator = lambda *_: 0.0
    run.step(
        params.training.steps - 1, images, torch.from_numpy(faces[1][:12]), *draw_masks(params, 0)
    )
    assert all(p.grad is None for p in run.discriminator.parameters())
    assert all(
        torch.equal(a, b) for a, b in zip(before, run.discriminator.parameters(), strict=True)
    )


@pytest.mark.parametrize("released", [False, True])
def test_the_released_slip_weighs_the_adversarial_loss_by_one(make, faces, released, monkeypatch):
    asked = []
    monkeypatch.setattr(losses, "adaptive_weight", lambda *_: asked.append(1) or 0.5)
    params = make(released, losses={"adversarial": 1.0})
    run = GeneratorRun(params, faces[1])
    features = torch.from_numpy(faces[1][:12])
    images, last = torch.randn(12, 3, 56, 56), params.training.steps - 1
    run.step(last, images, features, *draw_masks(params, 0))
    assert asked == ([] if released else [1])


def test_a_loss_that_is_not_finite_stops_with_the_images_named(make, faces, tmp_path):
    images, features = faces
    features = features.copy()
    features[5] = np.nan
    with pytest.raises((FloatingPointError, ValueError), match="step 0|finite"):
        train_generator(images, features, make(steps=4), tmp_path)


def test_batches_are_whole_epochs_in_new_orders():
    count, batch = 10, 4
    drawn = np.concatenate([batch_indices(0, step, batch, count) for step in range(5)])
    first, second = drawn[:10], drawn[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()


def test_rows_that_do_not_match_are_refused(make, faces, tmp_path):
    with pytest.raises(ValueError, match="24 images, 23 features"):
        train_generator(faces[0], faces[1][:-1], make(), tmp_path)
