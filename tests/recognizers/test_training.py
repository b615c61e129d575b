import copy
import json
import os
import resource
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy

from tests import ranks
from tests.parameters import NONE, PAPER, changed
from tests.rounding import TOLERANCE, in_float64
from vec2face.evaluation.verification import squared_distances
from vec2face.randomness import stream, torch_seed
from vec2face.recognizers import training as recognizer
from vec2face.recognizers.backbones import architecture, build_backbone
from vec2face.recognizers.batches import augmented_batches, reader
from vec2face.recognizers.heads import build_head
from vec2face.recognizers.network import embed, save_recognizer, untrained_recognizer
from vec2face.recognizers.step import RecognizerRun, rate
from vec2face.recognizers.training import train_recognizer
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import processes

SIZE = 16
CONFIG = changed(
    PAPER.fr,
    backbone="se_iresnet10",
    widths=(4, 8, 8, 8),
    embedding=16,
    dropout=0.2,
    scale=16.0,
    epochs=4,
    batch=16,
    micro_batch=None,
    schedule="cosine",
    warmup=0.5,
    precision="float32",
    augment__crop=0.1,
    augment__low_resolution=0.1,
    augment__erasing=0.1,
)


def people(identities=12, each=8, seed=0):
    """Coloured patterns, one per identity, with noise: easy to tell apart."""
    rng = np.random.default_rng(seed)
    base = rng.integers(40, 216, (identities, 4, 4, 3)).repeat(4, 1).repeat(4, 2)
    noise = rng.normal(0, 25, (identities, each, 16, 16, 3))
    images = np.clip(base[:, None] + noise, 0, 255).astype(np.uint8)
    return images.reshape(-1, 16, 16, 3), np.repeat(np.arange(identities), each)


def weights(module):
    return vector(module.state_dict())


def vector(state):
    """All but the counters, which would hide how small a difference is."""
    return torch.cat([t.flatten().double() for t in state.values() if t.is_floating_point()])


def test_learns_to_tell_identities_apart(tmp_path):
    images, labels = people()
    entries = []
    config = changed(CONFIG, epochs=12, margin=0.2)
    net = train_recognizer(images, labels, config, SIZE, 0, tmp_path, on_epoch=entries.append)
    assert [e["epoch"] for e in entries] == list(range(1, 13))
    assert entries[-1]["loss"] < 0.6 * entries[0]["loss"]
    # The training identities under fresh noise: pairs of one nearer than pairs of two.
    again = np.random.default_rng(9).normal(0, 25, images.shape)
    noisy = np.clip(images[::8].repeat(8, 0) + again, 0, 255).astype(np.uint8)
    pair = np.stack([noisy, np.roll(noisy, 1, 0)], 1).reshape(-1, 16, 16, 3)
    distances = squared_distances(embed(net, pair))
    same = labels == np.roll(labels, 1)
    assert distances[same].mean() < 0.5 * distances[~same].mean()


def test_is_a_function_of_the_seed(tmp_path):
    images, labels = people()
    first, again, other = (
        weights(train_recognizer(images, labels, CONFIG, SIZE, seed, tmp_path / name))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_starts_from_the_untrained_floor(tmp_path):
    images, labels = people()
    config = changed(CONFIG, epochs=1, lr=1e-30)  # hardly moves
    start = train_recognizer(images, labels, config, SIZE, 5, tmp_path)
    floor = untrained_recognizer(architecture(config, SIZE), images, seed=5)
    for found, expected in zip(start.parameters(), floor.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-20)


def test_leaves_the_global_random_state_alone(tmp_path):
    images, labels = people()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train_recognizer(images, labels, CONFIG, SIZE, 0, tmp_path)
    assert torch.equal(torch.rand(2), expected)


def train(folder, config=CONFIG, vanish=0, hold=False):
    """Train in this process or with others; write weights and curve of the first.

    With ``hold`` it never ends, so that a kill comes in time however slow the machine is.
    """
    torch.set_num_threads(1)
    curve = []

    def follow(entry):
        curve.append(entry)
        if entry["epoch"] == vanish:
            os._exit(1)
        while hold and entry["epoch"] == config.epochs:
            time.sleep(0.1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEC2FACE_CHECKPOINT_SECONDS", "0.05")
        net = train_recognizer(*people(), config, SIZE, 0, folder, on_epoch=follow)
    if processes().main:
        save_recognizer(folder / "net.safetensors", net, architecture(config, SIZE))
        (folder / "curve.json").write_text(json.dumps(curve))


def test_a_run_killed_at_random_points_ends_in_the_same_weights(tmp_path):
    config = changed(CONFIG, epochs=10)
    for name in ("warm", "whole", "killed"):
        (tmp_path / name).mkdir()
    ranks.finish(ranks.start(train, tmp_path / "warm", changed(CONFIG, epochs=1)))  # warms up
    began = time.monotonic()
    assert ranks.finish(ranks.start(train, tmp_path / "whole", config)) == [0]
    seconds = time.monotonic() - began
    rng = np.random.default_rng()  # other points in every run of this test
    for _ in range(3):
        (process,) = ranks.start(train, tmp_path / "killed", config, 0, True)
        process.join(rng.uniform(0.1, 0.5) * seconds)  # the clock of a busy machine
        process.kill()
        assert ranks.finish([process]) == [-signal.SIGKILL]
    assert ranks.finish(ranks.start(train, tmp_path / "killed", config)) == [0]
    for name in ("net.safetensors", "curve.json"):
        whole, resumed = ((tmp_path / n / name).read_bytes() for n in ("whole", "killed"))
        assert whole == resumed


SHARED = changed(CONFIG, sample_rate=0.6, lr=0.002)  # rounding grows with lr


def shared(folder, config):
    train(folder / "two", config)
    train(folder / "elastic", config, vanish=2)


@pytest.mark.rounding
@pytest.mark.parametrize("micro_batch", [None, 4])
def test_two_processes_train_what_one_trains_and_one_continues_what_two_began(
    tmp_path, micro_batch
):
    """They share the batch, whose batch norms see all of it, or micro-batches."""
    config = changed(SHARED, micro_batch=micro_batch)
    for name in ("one", "two", "elastic"):
        (tmp_path / name).mkdir()
    codes = ranks.finish(ranks.start(shared, tmp_path, config, size=2))
    assert all(codes)  # the first vanished after two epochs, so the second could not go on
    assert not (tmp_path / "elastic" / "net.safetensors").exists()
    train(tmp_path / "one", config)
    train(tmp_path / "elastic", config)
    net, curve = (
        load_file(tmp_path / "one" / "net.safetensors"),
        json.loads((tmp_path / "one" / "curve.json").read_text()),
    )
    for name in ("two", "elastic"):
        other = load_file(tmp_path / name / "net.safetensors")
        assert (vector(other) - vector(net)).norm() < 1e-5 * vector(net).norm()
        lines = json.loads((tmp_path / name / "curve.json").read_text())
        for line, expected in zip(lines, curve, strict=True):
            assert line == pytest.approx(expected, rel=1e-4)


RUNNING = [
    changed(SHARED, head=head, margin=0.4, micro_batch=micro_batch)
    for head in ("adaface", "curricularface")
    for micro_batch in (None, 4)
]


def six_steps(folder, begun=None):
    """States after three steps and after six, or after six from what another has begun."""
    torch.set_num_threads(1)
    with in_float64(), torch.random.fork_rng():
        for number, config in enumerate(RUNNING):
            torch.manual_seed(0)
            run = RecognizerRun(config, SIZE, people()[1], 0, processes())
            if begun:
                run.load(torch.load(begun / f"{number}-2.pt"))
            parts = [part for _, part in run.rounds]
            for batch in drawn(config, parts, range(3 if begun else 0, 6)):
                assert run.step(replace(batch, pieces=[p.double() for p in batch.pieces]))
                state = run.state()
                if batch.step in (2, 5) and processes().main:
                    torch.save(state, folder / f"{number}-{batch.step}.pt")


@pytest.mark.rounding
def test_running_means_of_heads_are_those_of_one_process_and_continued(tmp_path):
    one, two, elastic = folders = [tmp_path / name for name in ("one", "two", "elastic")]
    for folder in folders:
        folder.mkdir()
    assert ranks.finish(ranks.start(six_steps, two, size=2)) == [0, 0]
    six_steps(one)
    six_steps(elastic, begun=two)
    for number in range(len(RUNNING)):
        states = [torch.load(folder / f"{number}-5.pt") for folder in folders]
        moved = states[0]["head"]["running"]
        assert not torch.equal(moved, torch.load(one / f"{number}-2.pt")["head"]["running"])
        for state in states[1:]:
            for part in ("head", "backbone"):
                wanted = vector(states[0][part])
                assert (vector(state[part]) - wanted).norm() < TOLERANCE * wanted.norm()
            torch.testing.assert_close(state["head"]["running"], moved, rtol=TOLERANCE, atol=0)


def drawn(config, parts=(slice(None),), steps=range(5), seed=0):
    """The batches of some steps."""
    images, labels = people()
    read = reader(images, labels, SIZE)
    return augmented_batches(read, labels, config.batch, config.augment, seed, parts, steps)


def steps_by_hand(config, seed, steps):
    """Plain PyTorch, micro-batch by micro-batch: the weights after each step."""
    torch.manual_seed(torch_seed(seed, "recognizer"))
    net = build_backbone(**architecture(config, SIZE)).to(memory_format=torch.channels_last).train()
    head = build_head(config.head, config.embedding, 12, scale=config.scale, margin=config.margin)
    every = [p for m in (net, head) for p in m.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in every if p.ndim > 1]},
        {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0, momentum=0.9, weight_decay=config.weight_decay)
    batches = drawn(config, steps=range(steps), seed=seed)
    micro = config.micro_batch or config.batch
    for batch in batches:
        step, (pictures,) = batch.step, batch.pieces
        for group in optimizer.param_groups:
            group["lr"] = rate(step, 96 // config.batch, config)
        before = copy.deepcopy(net.state_dict())
        start = copy.deepcopy([*head.buffers()])
        after, gradients = [], []
        for number, first in enumerate(range(0, config.batch, micro)):
            net.load_state_dict(before)
            for buffer, value in zip(head.buffers(), start, strict=True):
                buffer.copy_(value)
            optimizer.zero_grad()
            torch.manual_seed(torch_seed(seed, "dropout", step, number))
            target = batch.labels[first : first + micro]
            logits, penalty = head(net(pictures[first : first + micro]), target)
            (cross_entropy(logits, target) + penalty).backward()
            gradients.append([p.grad.clone() for p in every])
            after.append([b.clone() for m in (net, head) for b in m.buffers()])
        for buffer, *values in zip([*net.buffers(), *head.buffers()], *after, strict=True):
            buffer.copy_(torch.stack(values).double().mean(0))
        for p, *values in zip(every, *gradients, strict=True):
            p.grad = torch.stack(values).mean(0)
        torch.nn.utils.clip_grad_norm_(every, config.clip)
        optimizer.step()
        yield net.state_dict() | {"head": head.weight.detach(), **dict(head.named_buffers())}


@pytest.mark.rounding
@pytest.mark.parametrize(
    ("head", "margin"),
    [
        ("arcface", 0.5),
        ("magface", 0.5),
        ("adaface", 0.4),
        ("curricularface", 0.5),
        ("sphereface", 1.35),
    ],
)
@pytest.mark.parametrize("micro_batch", [None, 4])
def test_a_step_is_that_of_plain_pytorch(tmp_path, head, margin, micro_batch):
    """Bit by bit without micro-batches, but for rounding with them."""
    config = changed(CONFIG, head=head, margin=margin, micro_batch=micro_batch, lr=0.01)
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(0, "recognizer"))
        run = RecognizerRun(config, SIZE, people()[1], 0, processes())
        taken = []
        for batch in drawn(config, [part for _, part in run.rounds]):
            run.step(batch)
            buffers = dict(run.head.head.named_buffers())
            state = run.backbone.state_dict() | {"head": run.head.weight} | buffers
            taken.append({name: value.clone() for name, value in state.items()})
        by_hand = [copy.deepcopy(state) for state in steps_by_hand(config, 0, 5)]
    for mine, theirs in zip(taken, by_hand, strict=True):
        if micro_batch:
            assert (vector(mine) - vector(theirs)).norm() < 1e-6 * vector(theirs).norm()
        else:
            assert all(torch.equal(mine[name], value) for name, value in theirs.items())


def test_every_image_is_seen_once_an_epoch_in_the_order_of_the_seed():
    images, labels = people()
    got = list(drawn(changed(CONFIG, augment=NONE), steps=range(3, 12), seed=4))
    assert [len(batch.chosen) for batch in got] == [16] * 9
    assert np.array_equal(
        np.concatenate([batch.chosen for batch in got[3:]]), stream(4, "order", 1).permutation(96)
    )
    (tensor,), chosen = got[0].pieces, got[0].chosen
    assert np.allclose(tensor.permute(0, 2, 3, 1).numpy(), images[chosen] / 127.5 - 1, atol=1e-6)
    assert got[0].labels.tolist() == labels[chosen].tolist()


def test_rates():
    rates = [round(rate(e * 10, 10, PAPER.fr), 8) for e in (0, 11, 12, 19, 20, 23, 24, 25)]
    assert rates == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    shares = changed(PAPER.fr, epochs=10, milestones=(0.5, 0.8))
    assert [round(rate(e, 1, shares), 8) for e in (4, 5, 7, 8)] == [0.1, 0.01, 0.01, 0.001]
    cosine = changed(PAPER.fr, epochs=10, schedule="cosine", warmup=2)
    curve = [rate(s, 10, cosine) for s in range(100)]
    assert np.argmax(curve) == 20
    assert curve[20] == 0.1
    assert 0 < curve[0] < 0.01
    assert curve[-1] < 1e-4


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((4, 16, 16, 3), np.uint8), np.arange(3), "4 images"),
        (np.zeros((4, 8, 8, 3), np.uint8), np.arange(4), "16, 16"),
        (np.zeros((4, 16, 16, 3), np.float32), np.arange(4), "uint8"),
        (np.zeros((4, 16, 16, 3), np.uint8), np.arange(4) - 1, ">= 0"),
        (np.zeros((4, 16, 16, 3), np.uint8), np.full(4, 3), "fewer than two people"),
    ],
)
def test_refuses(tmp_path, images, labels, said):
    with pytest.raises(ValueError, match=said):
        train_recognizer(images, labels, CONFIG, SIZE, 0, tmp_path)


def first_steps(config, count=2):
    """A run, and the batches of its first steps."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        run = RecognizerRun(config, SIZE, people()[1], 0, processes())
    return run, list(drawn(config, [part for _, part in run.rounds], range(count)))


def everything(run):
    """All tensors of a run's state."""
    found = []

    def collect(part):
        if isinstance(part, torch.Tensor):
            found.append(part.clone())
        for inner in part.values() if isinstance(part, dict) else ():
            collect(inner)

    collect(run.state())
    return found


@pytest.mark.parametrize("head", ["arcface", "adaface"])
@pytest.mark.parametrize("where", ["pictures", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(where, head):
    config = changed(CONFIG, head=head, micro_batch=8, sample_rate=0.5)
    run, (first, second) = first_steps(config)
    assert run.step(first)
    before = everything(run)
    if where == "pictures":
        bad = [second.pieces[0], torch.full_like(second.pieces[1], torch.nan)]
        assert run.step(replace(second, pieces=bad)) is None
    else:
        hook = run.parameters[3].register_hook(lambda g: g * torch.inf)
        assert run.step(second) is None
        hook.remove()
    after = everything(run)
    assert len(after) > 100
    assert all(map(torch.equal, before, after))
    assert run.step(second)
    assert not all(map(torch.equal, before, everything(run)))


def poisoned(monkeypatch, *steps):
    """From now on the images of these steps are not numbers."""

    def with_poison(*arguments, **options):
        for batch in augmented_batches(*arguments, **options):
            bad = [p * torch.nan for p in batch.pieces]
            yield replace(batch, pieces=bad) if batch.step in steps else batch

    monkeypatch.setattr(recognizer, "augmented_batches", with_poison)


def test_a_step_that_is_not_finite_is_reported_and_left_out(tmp_path, monkeypatch, caplog):
    poisoned(monkeypatch, 3)
    curve = []
    net = train_recognizer(*people(), CONFIG, SIZE, 0, tmp_path, on_epoch=curve.append)
    bad = stream(0, "order", 0).permutation(96)[48:64].tolist()
    assert f"step 3 is left out: loss nan, gradient norm nan; on images {bad}" in caplog.text
    assert torch.isfinite(weights(net)).all()
    assert len(curve) == 4
    assert all(np.isfinite([*e.values()]).all() for e in curve)


def test_many_steps_that_are_not_finite_stop_the_run(tmp_path, monkeypatch):
    poisoned(monkeypatch, 2, 3, 5)
    with pytest.raises(InputError, match=r"step 5 is left out.*so were steps \[2, 3\]"):
        train_recognizer(*people(), CONFIG, SIZE, 0, tmp_path)


@pytest.mark.parametrize(
    "precision", [pytest.param("bfloat16", marks=pytest.mark.rounding), "float16"]
)
def test_low_precision_is_near_the_full_one(precision):
    plain, batches = first_steps(changed(CONFIG, lr=0.01))
    low, _ = first_steps(changed(CONFIG, lr=0.01, precision=precision))
    for number, batch in enumerate(batches):
        expected, found = plain.step(batch), low.step(batch)
        if number == 0:  # later ones start from weights that rounding has moved apart
            assert found["loss"] == pytest.approx(expected["loss"], rel=0.02)
            norms = [
                nn.utils.get_total_norm([p.grad for p in run.parameters]).item()
                for run in (plain, low)
            ]
            assert norms[1] == pytest.approx(norms[0], rel=0.2)
    factor = low.scaler.get_scale()
    assert factor < 65536 if precision == "float16" else factor == 1


def test_float16_finds_its_factor_and_keeps_it(tmp_path):
    run, (first, second) = first_steps(changed(CONFIG, precision="float16"))
    assert run.step(first)
    run.scaler.update(2.0**40)
    assert run.step(first)
    factor = run.scaler.get_scale()
    assert 1 <= factor < 2.0**40
    other, _ = first_steps(changed(CONFIG, precision="float16"))
    other.load(run.state())
    assert other.scaler.get_scale() == factor
    assert run.step(second) == other.step(second)


def test_a_full_disk_keeps_the_last_states_and_the_next_run_ends_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("VEC2FACE_CHECKPOINT_SECONDS", "0")
    expected = train_recognizer(*people(), CONFIG, SIZE, 0, tmp_path / "whole")
    fill = []

    def follow(entry):
        if entry["epoch"] == 2:  # from now on no file may grow beyond a kilobyte
            fill.append(resource.getrlimit(resource.RLIMIT_FSIZE))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1024, fill[0][1]))

    try:
        with pytest.raises(InputError, match=r"state-0000000012\.pt"):
            train_recognizer(*people(), CONFIG, SIZE, 0, tmp_path / "full", on_epoch=follow)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, fill[0])
    assert [p.name for p in sorted((tmp_path / "full").glob("*.pt"))] == [
        "state-0000000010.pt",
        "state-0000000011.pt",
    ]
    again = train_recognizer(*people(), CONFIG, SIZE, 0, tmp_path / "full")
    assert torch.equal(weights(again), weights(expected))
