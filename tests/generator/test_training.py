"""Training of the generator: it learns, computes what it should, survives bad batches."""

import itertools
import logging

import numpy as np
import pytest
import torch

from tests.rounding import TOLERANCE, in_float64
from vec2face.generator import losses, network
from vec2face.generator.batches import batch_indices, masked_batches, sampled
from vec2face.generator.step import GeneratorRun
from vec2face.generator.training import train_generator
from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import processes

# Means over five steps each; the identity loss begins in step 5, the adversary in step 4.
GOLDEN = [
    {
        "step": 5, "mse": 0.16304417272, "gradient": 0.231206134986,
        "ssim": 0.822854959057, "token": 1.54497235522, "identity": 0.964568819751,
        "perceptual": 0.03292737786, "adversarial": -0.160003722547,
        "discriminator": 0.435293521878,
    },
    {
        "step": 10, "mse": 0.0976770919657, "gradient": 0.0661831761356,
        "ssim": 0.463137995753, "token": 1.5058252107, "identity": 0.970662085328,
        "perceptual": 0.0191485986864, "adversarial": -0.07142675468,
        "discriminator": 0.0620716503159,
    },
]  # fmt: skip


def start(params, faces):
    """Return a run, and its batches from the first step on."""
    images, features = faces
    steps = range(params.training.steps)
    torch.manual_seed(0)
    return (
        GeneratorRun(params, features, processes()),
        masked_batches(lambda chosen: images[chosen], features, params, processes(), steps),
    )


def flat(tree):
    """Return copies of all tensors in nested dicts and lists, in order."""
    if isinstance(tree, dict | list):
        values = tree.values() if isinstance(tree, dict) else tree
        return [leaf for value in values for leaf in flat(value)]
    return [tree.clone()] if isinstance(tree, torch.Tensor) else []


def test_it_learns_what_features_say(make, faces, tmp_path):
    log = []
    train_generator(
        *faces, make(steps=60, losses={"adversarial": 0, "perceptual": 0, "identity": 0}),
        tmp_path, on_log=log.append,
    )  # fmt: skip
    assert log[-1]["mse"] < 0.7 * log[0]["mse"]


@pytest.mark.rounding
def test_losses_are_those_recorded(make, faces, tmp_path):
    """Refactoring keeps them, to far more digits than any change of the method would."""
    log = []
    params = make(
        dropout=0.1,
        discriminator=(0.3, 5e-4),
        steps=10,
        losses={"adversarial": 1.0, "ssim": 0.1, "token": 1.0},
    )
    with in_float64():
        train_generator(*faces, params, tmp_path, on_log=log.append, log_every=5)
    for found, expected in zip(log, GOLDEN, strict=True):
        assert found == pytest.approx(expected, rel=TOLERANCE)


def test_sampled_vectors_are_distributed_as_features(make, faces):
    _, features = faces
    params = make(losses={"sampled": 1.0, "sampled_share": 1.0})
    middle, size = features.mean(0, dtype=np.float64), params.training.batch
    drawn = [sampled(params, features, middle, s, slice(0, size))[0] for s in range(400)]
    drawn = torch.cat(drawn).double().numpy()
    count = len(drawn)
    covariance = np.cov(features.T.astype(np.float64), bias=True)
    spread = np.sqrt(np.diag(covariance))
    assert (np.abs(drawn.mean(0) - middle) < 5 * spread / count**0.5).all()
    # The standard error of a covariance of normal numbers.
    error = np.sqrt((np.outer(spread, spread) ** 2 + covariance**2) / count)
    assert (np.abs(np.cov(drawn.T) - covariance) < 5 * error).all()


@pytest.mark.parametrize(("share", "count"), [(0.25, 3), (0.5, 6), (1.0, 12), (0.0, 0)])
def test_sampled_vectors_do_not_depend_on_the_cut(make, faces, share, count):
    _, features = faces
    params = make(losses={"sampled": 1.0, "sampled_share": share}) if share else make()
    middle = features.mean(0, dtype=np.float64)
    whole = sampled(params, features, middle, 7, slice(0, 12))
    parts = [sampled(params, features, middle, 7, slice(n, n + 4)) for n in (0, 4, 8)]
    for found, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert len(found) == count
        assert torch.equal(found, torch.cat(pieces))


def test_sampled_vectors_add_their_identity_loss_and_nothing_else(make, faces):
    weights = {"adversarial": 0, "identity_start": 0.0, "identity_full": 0.0, "sampled_share": 0.5}
    gradients, found = [], []
    for weight in (0.0, 2.0):
        run, drawn = start(make(clip=1e6, losses=weights | {"sampled": weight}), faces)
        batch = next(drawn)
        if weight:
            vectors, drop, mask = batch.pieces[0].sampled
            loss = losses.identity(run.recognizer(run.generator(vectors, drop, mask)), vectors)
            loss.backward()
            alone = [p.grad.clone() for p in run.generator.parameters()]
        found.append(run.step(batch))
        gradients.append([p.grad.clone() for p in run.generator.parameters()])
    assert found[1].pop("sampled") == pytest.approx(loss.item(), rel=1e-5)
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    without, with_them = (torch.cat([g.flatten() for g in flat(all_)]) for all_ in gradients)
    added = 2.0 * torch.cat([g.flatten() for g in alone])
    assert (with_them - without - added).norm() < 1e-4 * with_them.norm()


@pytest.mark.rounding
def test_micro_batches_add_up_to_the_batch(make, faces):
    # With the whole batch seen by all losses and no adversary, nothing depends on the cut.
    parts = {"adversarial": 0, "recognizer_share": 1.0, "ssim": 0.1, "token": 1.0}
    found, gradients = {}, {}
    for size in (None, 3):
        run, drawn = start(make(micro_batch=size, clip=1e6, losses=parts), faces)
        found[size] = run.step(next(drawn))
        gradients[size] = torch.cat([p.grad.flatten() for p in run.generator.parameters()])
    assert found[3] == pytest.approx(found[None], rel=1e-5)
    error = (gradients[3] - gradients[None]).norm() / gradients[None].norm()
    assert error < 1e-4


def test_the_generators_adversarial_loss_does_not_reach_the_discriminator(make, faces, monkeypatch):
    # Without a loss of its own, whatever moved the discriminator would come from the generator's.
    monkeypatch.setattr(losses, "discriminator", lambda real, fake: 0 * (real.sum() + fake.sum()))
    run, drawn = start(make(discriminator=(0.0, 5e-4), losses={"adversarial": 1.0}), faces)
    assert run.step(next(drawn))["adversarial"] != 0
    assert not any(p.grad.any() for p in run.discriminator.parameters())
    assert all(p.grad.any() for p in run.generator.to_image.parameters())


def test_the_discriminator_is_not_evaluated_before_it_counts(make, faces, monkeypatch):
    run, drawn = start(make(discriminator=(0.5, 5e-4), steps=2), faces)
    calls = []
    run.discriminator.register_forward_hook(lambda *_: calls.append(1))
    assert "discriminator" not in run.step(next(drawn))
    assert not calls
    before = flat(run.discriminator.state_dict())
    assert "discriminator" in run.step(next(drawn))
    assert len(calls) == 3
    assert not all(map(torch.equal, before, flat(run.discriminator.state_dict())))


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_adversarial_loss_is_balanced_only_if_asked(make, faces, adaptive, monkeypatch):
    asked = []
    monkeypatch.setattr(losses, "adaptive_weight", lambda *_: asked.append(1) or 0.5)
    weights = {"adversarial": 1.0, "adversarial_adaptive": adaptive}
    run, drawn = start(make(discriminator=(0.0, 5e-4), losses=weights), faces)
    run.step(next(drawn))
    assert asked == ([1] if adaptive else [])


def poison(monkeypatch, steps):
    """Make the pixel loss of micro-batch 1 of 2 not a number in some steps."""
    honest, calls = losses.mse, itertools.count()

    def mse(fake, real):
        step, piece = divmod(next(calls), 2)
        return honest(fake, real) * (float("nan") if step in steps and piece == 1 else 1)

    monkeypatch.setattr(losses, "mse", mse)


def test_a_step_that_is_not_finite_changes_nothing_and_is_reported(
    make, faces, monkeypatch, caplog
):
    poison(monkeypatch, {1})
    run, drawn = start(make(discriminator=(0.0, 5e-4), micro_batch=6), faces)
    assert run.step(next(drawn))
    before, batch = flat(run.state()), next(drawn)
    with caplog.at_level(logging.WARNING):
        assert run.step(batch) is None
    after = flat(run.state())
    assert len(after) == len(before) > 100  # weights, moments, average of both networks
    assert all(map(torch.equal, before, after))
    assert run.state()["patience"] == {"skipped": [1]}
    assert "step 1 is left out: mse nan" in caplog.text
    assert f"images {batch.chosen[6:].tolist()}" in caplog.text
    assert run.step(next(drawn))


def test_a_gradient_that_is_not_finite_is_as_bad(make, faces, caplog):
    run, drawn = start(make(), faces)
    run.generator.to_image.out.bias.register_hook(lambda grad: grad * float("inf"))
    before, batch = flat(run.generator.state_dict()), next(drawn)
    assert run.step(batch) is None
    assert f"gradient of the generator inf; on images {batch.chosen.tolist()}" in caplog.text
    assert all(map(torch.equal, before, flat(run.generator.state_dict())))


def test_repeated_failures_stop_and_single_ones_do_not(make, faces, monkeypatch, tmp_path):
    monkeypatch.setenv("VEC2FACE_CHECKPOINT_SECONDS", "0")
    poison(monkeypatch, {1, 4})
    log = []
    params = make(steps=6, micro_batch=6, losses={"adversarial": 0})
    train_generator(*faces, params, tmp_path / "twice", on_log=log.append, log_every=2)
    assert Checkpoint(tmp_path / "twice").load()[1]["run"]["patience"] == {"skipped": [1, 4]}
    assert np.isfinite([entry["mse"] for entry in log]).all()
    poison(monkeypatch, {1, 2, 3})
    with pytest.raises(InputError, match=r"step 3 .*steps \[1, 2\].*training\.lr"):
        train_generator(*faces, params, tmp_path / "thrice")


@pytest.mark.parametrize(
    "precision", [pytest.param("bfloat16", marks=pytest.mark.rounding), "float16"]
)
def test_half_precision_spares_attention_losses_and_recognizer(make, faces, precision, monkeypatch):
    seen = {}

    def watch(name, dtype):
        seen.setdefault(name, set()).add(dtype)

    run, drawn = start(make(discriminator=(0.0, 5e-4), precision=precision, dropout=0.1), faces)
    run.generator.to_map.register_forward_hook(lambda *x: watch("generator", x[2].dtype))
    run.discriminator.register_forward_hook(lambda *x: watch("discriminator", x[2].dtype))
    attention = network.F.scaled_dot_product_attention

    def watched(*rows, **options):
        watch("attention", rows[0].dtype)
        return attention(*rows, **options)

    monkeypatch.setattr(network.F, "scaled_dot_product_attention", watched)
    run.recognizer.network.register_forward_hook(lambda *x: watch("recognizer", x[2][0].dtype))
    exact = start(make(discriminator=(0.0, 5e-4), dropout=0.1), faces)[0]
    run.scaler.load_state_dict(run.scaler.state_dict() | {"scale": 2.0**8})
    for _ in range(3):
        batch = next(drawn)
        found, expected = run.step(batch), exact.step(batch)
        if batch.step == 0:  # later ones start from weights that rounding has moved apart
            assert found["mse"] == pytest.approx(expected["mse"], rel=0.02)
    half = {getattr(torch, precision)}
    assert seen == {
        "generator": half, "discriminator": half,
        "attention": {torch.float32}, "recognizer": {torch.float32},
    }  # fmt: skip
    assert {p.dtype for p in run.generator.parameters()} == {torch.float32}


def test_a_scale_too_large_for_float16_falls_and_is_no_failure(make, faces):
    run, drawn = start(make(precision="float16"), faces)
    run.scaler.load_state_dict(run.scaler.state_dict() | {"scale": 2.0**40})
    before = flat(run.generator.state_dict())
    assert run.step(next(drawn)) is None
    assert all(map(torch.equal, before, flat(run.generator.state_dict())))
    assert run.patience.skipped == []
    assert run.state()["scaler"]["scale"] == 2.0**39


def test_compiled_networks_compute_the_same(make, faces, monkeypatch):
    # The tracing is tested; the code generator behind it takes minutes and is PyTorch's own.
    compiled = []

    compile_network = torch.compile

    def compile_quickly(network):
        compiled.append(type(network).__name__)
        return compile_network(network, backend="eager")

    monkeypatch.setattr(torch, "compile", compile_quickly)
    run, drawn = start(make(compile=True, precision="bfloat16"), faces)
    assert compiled == ["Vec2Face", "PatchDiscriminator"]
    batch = next(drawn)
    assert run.step(batch) == start(make(precision="bfloat16"), faces)[0].step(batch)


def test_batches_are_whole_epochs_in_new_orders():
    count, batch = 10, 4
    drawn = np.concatenate([batch_indices(0, step, batch, count) for step in range(5)])
    first, second = drawn[:10], drawn[10:]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first.tolist() != second.tolist()


def test_what_does_not_match_is_refused(make, faces, tmp_path):
    images, features = faces
    with pytest.raises(ValueError, match="24 images, 23 features"):
        train_generator(images, features[:-1], make(), tmp_path)
    with pytest.raises(InputError, match=r"training.micro_batch: 5 does not divide"):
        train_generator(images, features, make(micro_batch=5), tmp_path)
    features = features.copy()
    features[5, 2] = np.nan
    with pytest.raises(ValueError, match="image 5 is not finite"):
        train_generator(images, features, make(), tmp_path)
