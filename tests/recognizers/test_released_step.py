"""A step under ``fr.released``, against a plain account of it; the size of each difference."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.parameters import PAPER, changed
from tests.recognizers.test_augment import IMAGES, INDICES, USUAL
from tests.recognizers.test_training import CONFIG, SIZE, people
from tests.rounding import in_float64
from vec2face.randomness import torch_seed
from vec2face.recognizers.augment import augment
from vec2face.recognizers.backbones import architecture, build_backbone
from vec2face.recognizers.batches import augmented_batches, reader
from vec2face.recognizers.heads import build_head
from vec2face.recognizers.iresnet import IResNet
from vec2face.recognizers.step import RecognizerRun, rate
from vec2face.runtime.processes import processes

RELEASED = changed(
    CONFIG, released=True, schedule="milestones", milestones=[2], warmup=0, lr=0.01, clip=0.5
)
STEPS = 8  # of six an epoch, so that the rate falls


def batches():
    images, labels = people()
    read = reader(images, labels, SIZE)
    found = augmented_batches(
        read, labels, 16, CONFIG.augment, 0, [slice(None)], range(STEPS), released=True
    )
    return [replace(b, pieces=[p.double() for p in b.pieces]) for b in found]


def arcface(embeddings, labels, weight):
    """Loss whose values have the margin, and whose gradient takes the logits for cosines."""
    cosines = F.normalize(embeddings) @ F.normalize(weight).T
    rows = torch.arange(len(labels))
    angles = torch.acos(cosines.detach()[rows, labels])
    cosines.data[rows, labels] = torch.cos(angles + CONFIG.margin)
    return F.cross_entropy(CONFIG.scale * cosines, labels)


def account(net, weight, drawn):
    """The state after each step: SGD by its formula."""
    weights = [p for p in net.parameters() if p.requires_grad]
    speeds = [torch.zeros_like(p) for p in [*weights, weight]]
    for batch in drawn:
        lr = 0.01 if batch.step < 6 else 0.001  # the milestone is 2; the second epoch is number 1
        torch.manual_seed(torch_seed(0, "dropout", batch.step, 0))
        weight = weight.detach().requires_grad_()
        gradients = torch.autograd.grad(
            arcface(net(batch.pieces[0]), batch.labels, weight), [*weights, weight]
        )
        norm = torch.cat([g.flatten() for g in gradients[:-1]]).norm()
        assert norm > 0.5  # so it is clipped
        factors = [0.5 / (norm + 1e-6)] * len(weights) + [1.0]
        with torch.no_grad():
            for p, g, v, factor in zip([*weights, weight], gradients, speeds, factors, strict=True):
                v.mul_(0.9).add_(factor * g + 5e-4 * p)
                p.sub_(lr * v)
        yield torch.cat([p.detach().flatten() for p in [*net.parameters(), *net.buffers(), weight]])


@pytest.mark.rounding
def test_a_released_step_is_that_of_a_plain_account():
    with in_float64(), torch.random.fork_rng():
        torch.manual_seed(0)
        run = RecognizerRun(RELEASED, SIZE, people()[1], 0, processes())
        net = IResNet((1,) * 4, (4, 8, 8, 8), 16, SIZE, "shortcut", dropout=0.2).train()
        net.load_state_dict(run.backbone.state_dict())
        net = net.to(memory_format=torch.channels_last)
        drawn = batches()
        expected = account(net, run.head.weight.clone(), drawn)
        for batch, wanted in zip(drawn, expected, strict=True):
            assert run.step(batch)
            parts = [*run.backbone.parameters(), *run.backbone.buffers(), run.head.weight]
            found = torch.cat([p.detach().flatten() for p in parts])
            assert (found - wanted).norm() < 1e-9 * wanted.norm(), batch.step


@pytest.mark.parametrize(
    ("cosine", "ratio"), [(0.2, 0.976), (0.4, 1.087), (0.6, 1.237), (0.7, 1.348)]
)
def test_the_true_gradient_of_arcface_over_the_released_one(cosine, ratio):
    """cos m + sin m cot theta, of the true identity's logit at margin 0.5."""
    found = []
    for released in (False, True):
        head = build_head("arcface", 2, 1, margin=0.5, released=released).double()
        c = torch.tensor([cosine], dtype=torch.float64, requires_grad=True)
        value = head.with_margin(c, c.new_ones(1))
        assert value.item() == pytest.approx(math.cos(math.acos(cosine) + 0.5))
        found.append(torch.autograd.grad(value.sum(), c)[0].item())
    assert found[1] == 1
    assert found[0] == pytest.approx(ratio, abs=1e-3)


def test_without_the_head_the_norm_that_is_clipped_is_smaller():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        run = RecognizerRun(changed(CONFIG, clip=1e9), SIZE, people()[1], 0, processes())
        images, labels = people()
        read = reader(images, labels, SIZE)
        drawn = augmented_batches(read, labels, 16, CONFIG.augment, 0, [slice(None)], range(6))
        shares = []
        for batch in drawn:
            run.step(batch)
            backbone = torch.cat([p.grad.flatten() for p in run.parameters]).norm()
            shares.append((backbone / torch.hypot(backbone, run.head.rows.grad.norm())).item())
    assert shares[0] == pytest.approx(0.52, abs=0.1)
    assert 0.95 < min(shares[1:]) < 1


def test_rates_fall_an_epoch_earlier():
    lr = {r: [rate(e, 1, changed(PAPER.fr, released=r)) for e in range(26)] for r in (False, True)}
    assert lr[True][:25] == lr[False][1:]
    falls = [e for e in range(1, 26) if lr[True][e] < lr[True][e - 1]]
    assert falls == [11, 19, 23]


def test_more_of_the_images_is_erased_and_with_the_middle_grey():
    images = np.zeros((2000, 32, 32, 3), np.uint8)
    share = {}
    for released in (False, True):
        settings = changed(USUAL, flip=0, crop=0, low_resolution=0, photometric=0)
        got = augment(images, np.arange(2000), 0, 0, settings, released=released)[..., 0] > 0
        share[released] = got.mean(), got.any((1, 2)).mean(), got.mean((1, 2)).max()
    # A chance times the mean of a uniform share; the chance itself; the largest share.
    assert share[False] == pytest.approx((0.3 * 0.11, 0.3, 0.2), rel=0.1)
    assert share[True] == pytest.approx((0.5 * 0.175, 0.5, 0.33), rel=0.1)
    changed_pixels = augment(IMAGES, INDICES, 0, 0, changed(USUAL, flip=0, crop=0), released=True)
    erased = (changed_pixels == 128).all(3)
    assert (erased.sum((1, 2)) > 0.02 * 32 * 24 * 0.8).mean() > 0.3


def test_released_networks():
    millions = {}
    for name in ("se_iresnet50", "iresnet200"):
        for released in (False, True):
            config = changed(PAPER.fr, backbone=name, released=released)
            with torch.device("meta"):
                net = build_backbone(**architecture(config, 112))
            millions[name, released] = sum(p.numel() for p in net.parameters()) / 1e6
    expected = {"se_iresnet50": (43.8, 43.6), "iresnet200": (118.8, 65.2)}
    for name, pair in expected.items():
        found = [millions[name, released] for released in (False, True)]
        assert found == pytest.approx(pair, abs=0.05)
