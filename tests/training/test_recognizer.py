import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from vec2face.analysis.verification import squared_distances
from vec2face.models.recognizer import embed, untrained_recognizer
from vec2face.randomness import stream
from vec2face.training.augment import NONE, Augmentation
from vec2face.training.batches import batches
from vec2face.training.recognizer import RecognizerConfig, train_recognizer

CONFIG = RecognizerConfig(
    backbone="se_iresnet10",
    widths=(4, 8, 8, 8),
    embedding=16,
    image_size=16,
    dropout=0.2,
    scale=16.0,
    epochs=4,
    batch=16,
    schedule="cosine",
    warmup=0.5,
    augmentation=Augmentation(crop=0.1, low_resolution=0.1, erasing=0.1),
)


def people(identities=12, each=8, seed=0):
    """Coloured patterns, one per identity, with noise: easy to tell apart."""
    rng = np.random.default_rng(seed)
    base = rng.integers(40, 216, (identities, 4, 4, 3)).repeat(4, 1).repeat(4, 2)
    noise = rng.normal(0, 25, (identities, each, 16, 16, 3))
    images = np.clip(base[:, None] + noise, 0, 255).astype(np.uint8)
    return images.reshape(-1, 16, 16, 3), np.repeat(np.arange(identities), each)


def weights(module):
    return torch.cat([t.flatten().double() for t in module.state_dict().values()])


def test_learns_to_tell_identities_apart(tmp_path):
    images, labels = people()
    entries = []
    config = CONFIG.__class__(**{**vars(CONFIG), "epochs": 12, "margin": 0.2})
    net = train_recognizer(images, labels, config, 0, tmp_path, on_epoch=entries.append)
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
        weights(train_recognizer(images, labels, CONFIG, seed, tmp_path / name))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_starts_from_the_untrained_floor(tmp_path):
    images, labels = people()
    config = CONFIG.__class__(**{**vars(CONFIG), "epochs": 0})
    start = train_recognizer(images, labels, config, 5, tmp_path)
    floor = untrained_recognizer(config.architecture(), images, seed=5)
    assert all(map(torch.equal, start.parameters(), floor.parameters()))


def test_leaves_the_global_random_state_alone(tmp_path):
    images, labels = people()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train_recognizer(images, labels, CONFIG, 0, tmp_path)
    assert torch.equal(torch.rand(2), expected)


CHILD = """
import sys
from pathlib import Path
import torch
from tests.training.test_recognizer import CONFIG, people
from vec2face.training.recognizer import train_recognizer
from vec2face.models.recognizer import save_recognizer
torch.set_num_threads(1)
config = CONFIG.__class__(**{**vars(CONFIG), "epochs": 20})
epochs = []
net = train_recognizer(*people(), config, 0, sys.argv[1], save_seconds=0.05,
                       on_epoch=lambda e: epochs.append(e["epoch"]))
assert epochs == list(range(1, 21)), epochs
save_recognizer(sys.argv[2], net, config.architecture())
"""


def test_a_killed_run_ends_in_the_same_weights(tmp_path):
    def start(work, out):
        command = [sys.executable, "-c", CHILD, str(tmp_path / work), str(tmp_path / out)]
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": "."})

    assert start("whole", "whole.safetensors").wait(120) == 0
    killed = start("killed", "killed.safetensors")
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").glob("state-*.pt"))) < 2 and killed.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL  # else it was over before the kill
    assert start("killed", "killed.safetensors").wait(120) == 0
    whole, resumed = ((tmp_path / f"{n}.safetensors").read_bytes() for n in ("whole", "killed"))
    assert whole == resumed


def test_a_state_of_other_labels_is_not_continued(tmp_path, caplog):
    images, labels = people()
    train_recognizer(images, labels, CONFIG, 0, tmp_path)
    other = labels[::-1].copy()
    got = train_recognizer(images, other, CONFIG, 0, tmp_path)
    assert "starting afresh" in caplog.text
    assert torch.equal(
        weights(got), weights(train_recognizer(images, other, CONFIG, 0, tmp_path / "fresh"))
    )


def test_every_image_is_seen_once_an_epoch_in_the_order_of_the_seed():
    images, _ = people()
    got = list(batches(lambda i: images[i], 96, 16, range(3, 12), 4, NONE))
    assert [len(g[0]) for g in got] == [16] * 9
    assert np.array_equal(
        np.concatenate([i for i, _ in got[3:]]), stream(4, "order", 1).permutation(96)
    )
    indices, tensor = got[0]
    assert np.allclose(tensor.permute(0, 2, 3, 1).numpy(), images[indices] / 127.5 - 1, atol=1e-6)


def test_rates():
    paper = RecognizerConfig()
    rates = [round(paper.rate(e * 10, 10), 8) for e in (0, 11, 12, 19, 20, 23, 24, 25)]
    assert rates == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    shares = RecognizerConfig(epochs=10, milestones=(0.5, 0.8))
    assert [round(shares.rate(e, 1), 8) for e in (4, 5, 7, 8)] == [0.1, 0.01, 0.01, 0.001]
    cosine = RecognizerConfig(epochs=10, schedule="cosine", warmup=2)
    curve = [cosine.rate(s, 10) for s in range(100)]
    assert np.argmax(curve) == 20
    assert curve[20] == 0.1
    assert 0 < curve[0] < 0.01
    assert curve[-1] < 1e-4
    with pytest.raises(ValueError, match="schedule"):
        RecognizerConfig(schedule="steps").rate(0, 1)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((4, 16, 16, 3), np.uint8), np.arange(3), "4 images"),
        (np.zeros((4, 8, 8, 3), np.uint8), np.arange(4), "16, 16"),
        (np.zeros((4, 16, 16, 3), np.float32), np.arange(4), "uint8"),
        (np.zeros((4, 16, 16, 3), np.uint8), np.arange(4) - 1, ">= 0"),
    ],
)
def test_refuses(tmp_path, images, labels, said):
    with pytest.raises(ValueError, match=said):
        train_recognizer(images, labels, CONFIG, 0, tmp_path)


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path):
    images, labels = people()
    config = CONFIG.__class__(**{**vars(CONFIG), "lr": 1e30, "clip": 0.0, "schedule": "milestones"})
    with pytest.raises(FloatingPointError, match="at step"):
        train_recognizer(images, labels, config, 0, tmp_path)
