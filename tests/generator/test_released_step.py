"""A step under ``training.released``, against a plain account; the size of each difference."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from tests.parameters import PAPER, changed
from tests.rounding import in_float64
from vec2face.generator.batches import draw_masks, masked_batches
from vec2face.generator.discriminator import PatchDiscriminator
from vec2face.generator.optimizers import rate
from vec2face.generator.step import GeneratorRun
from vec2face.randomness import torch_seed
from vec2face.runtime.processes import processes

WEIGHTS = {"mse": 1.0, "ssim": 0.1, "token": 1.0, "identity": 1.0, "adversarial": 1.0}
OFF = {"gradient": 0.0, "perceptual": 0.0, "adversarial_adaptive": False}
PACE = {"identity_start": 0.0, "identity_full": 0.0, "recognizer_share": 1.0}
STEPS = 4


def judge(w, images):
    """The authors' discriminator of the smoke test's size, from its weights."""
    stem = [
        F.conv2d(images, w[f"stem.{i}.weight"], w[f"stem.{i}.bias"], padding="same")
        for i in (0, 1, 2)
    ]
    y = F.leaky_relu(torch.cat(stem, 1), 0.1)
    for block in (0, 4, 8):

        def normed(x, name):
            return F.group_norm(x, 8, w[f"{name}.weight"], w[f"{name}.bias"])

        conv, inner = f"body.{block}", f"body.{block + 3}.branch"
        y = F.leaky_relu(F.conv2d(y, w[f"{conv}.weight"], w[f"{conv}.bias"], 2, 1), 0.1)
        y = normed(y, f"body.{block + 2}")
        z = F.leaky_relu(normed(y, f"{inner}.0"), 0.1)
        y = y + F.conv2d(z, w[f"{inner}.2.weight"], w[f"{inner}.2.bias"], padding=1)
    y = F.leaky_relu(F.conv2d(y, w["head.0.weight"], w["head.0.bias"]), 0.1)
    return F.conv2d(y, w["head.2.weight"], w["head.2.bias"])


def similarity(one, other):
    """Mean SSIM on [0, 1], window by window."""
    line = torch.exp(-((torch.arange(11.0) - 5) ** 2) / 4.5)
    window = (line[:, None] * line).flatten()[:, None] / line.sum() ** 2
    a, b = (
        F.unfold(((x + 1) / 2).flatten(0, 1)[:, None], 11) for x in (one, other)
    )  # (images x channels, 121, windows)
    ma, mb = (a * window).sum(1, keepdim=True), (b * window).sum(1, keepdim=True)
    va, vb = (window * (a - ma) ** 2).sum(1), (window * (b - mb) ** 2).sum(1)
    both = (window * (a - ma) * (b - mb)).sum(1)
    top = (2 * (ma * mb)[:, 0] + 1e-4) * (2 * both + 9e-4)
    return (top / ((ma**2 + mb**2)[:, 0] + 1e-4) / (va + vb + 9e-4)).mean()


class Plain:
    """The released step, written down: equations and two optimisers by their formulas."""

    def __init__(self, run, params):
        self.generator, self.recognizer = copy.deepcopy(run.generator), run.recognizer
        self.judge = {n: p.detach().clone() for n, p in run.discriminator.named_parameters()}
        self.weights = list(self.generator.parameters())
        self.hyper, self.moments = params.training, {}

    def step(self, batch):
        (piece,) = batch.pieces
        real, v = piece.real.double(), piece.features.double()
        torch.manual_seed(torch_seed(0, "dropout", batch.step, 0))
        fake, rows = self.generator(v, piece.drop, piece.mask, with_rows=True)
        whole = self.generator.expand(self.generator.embed(v)[:, :, None]).transpose(1, 2)
        for p in self.judge.values():
            p.requires_grad_()
        found = self.recognizer(fake)
        cosine = (found * v).sum(1) / found.norm(dim=1) / v.norm(dim=1)
        total = ((fake - real) ** 2).mean() + 0.1 * (1 - similarity(fake, real))
        total = total + ((rows - whole.detach()) ** 2).mean() + (1 - cosine).mean()
        total = total - judge(self.judge, fake).mean()  # its gradient reaches both networks
        first = torch.autograd.grad(total, [*self.weights, *self.judge.values()])
        to_real, to_fake = judge(self.judge, real), judge(self.judge, fake.detach())
        loss = ((to_real - 1) ** 2).mean() / 2 + (to_fake**2).mean() / 2
        second = torch.autograd.grad(loss, list(self.judge.values()))
        own = len(self.weights)
        pairs = [a + b for a, b in zip(first[own:], second, strict=True)]
        lr = self.hyper.lr * (1 + math.cos(math.pi * batch.step / STEPS)) / 2
        with torch.no_grad():
            self.take("generator", self.weights, first[:own], lr, batch.step + 1)
            judges = [p.detach_() for p in self.judge.values()]
            self.take("judge", judges, pairs, self.hyper.discriminator.lr, batch.step + 1)

    def take(self, name, weights, gradients, lr, count):
        """AdamW: betas 0.9 and 0.99, decay 0.01 of everything; norms above 2 are cut to 2."""
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        for i, (w, g) in enumerate(zip(weights, gradients, strict=True)):
            g = g * min(1, 2 / (norm + 1e-6))
            m, s = self.moments.get((name, i), (0, 0))
            m, s = 0.9 * m + 0.1 * g, 0.99 * s + 0.01 * g**2
            self.moments[name, i] = m, s
            w.mul_(1 - 0.01 * lr)
            w.sub_(lr * m / (1 - 0.9**count) / ((s / (1 - 0.99**count)).sqrt() + 1e-8))


def distance(found, expected):
    """Relative, of all weights together."""
    a, b = (torch.cat([p.flatten() for p in ps]) for ps in (found, expected))
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.rounding
def test_a_released_step_is_that_of_a_plain_account(make, faces):
    images, features = faces
    params = make(
        dropout=0.1, discriminator=(0.0, 5e-4), losses=WEIGHTS | OFF | PACE, released=True,
        steps=STEPS, warmup=0, optimizer="adamw", lr=1e-3, weight_decay=0.5, clip=2.0, ema=0.0,
        betas=(0.9, 0.99),
    )  # fmt: skip
    with in_float64():
        torch.manual_seed(0)
        run = GeneratorRun(params, features, processes())
        plain = Plain(run, params)
        start = [p.detach().clone() for p in run.discriminator.parameters()]
        for batch in masked_batches(images.__getitem__, features, params, processes(), range(3)):
            assert len(batch.pieces[0].mask.sum(1).unique()) == 1  # one ratio a batch
            run.step(batch)
            plain.step(batch)
            assert distance(run.generator.parameters(), plain.weights) < 1e-9
            assert distance(run.discriminator.parameters(), plain.judge.values()) < 1e-9
    assert distance(run.discriminator.parameters(), start) > 1e-4


def count(released):
    with torch.device("meta"):
        judge = PatchDiscriminator(64, (3, 7, 15), released=released)
    return sum(p.numel() for p in judge.parameters())


def test_the_released_discriminator_is_two_thirds_as_large():
    assert count(released=True) / 1e6 == pytest.approx(6.14, abs=0.005)
    assert count(released=False) / 1e6 == pytest.approx(9.24, abs=0.005)


@pytest.mark.parametrize(("released", "optimum"), [(False, 0.0), (True, 1.0)])
def test_the_released_discriminator_learns_to_give_generated_images_what_it_gives_real_ones(
    make, faces, released, optimum
):
    """For its generator's loss of weight 1 pulls at it too: f^2 / 2 - f is least at 1."""
    images, features = faces
    params = make(
        discriminator=(0.0, 5e-3), losses=WEIGHTS | OFF | PACE | {"identity": 0.0},
        released=released, optimizer="adamw", steps=30, warmup=0, lr=1e-12, clip=1e6,
    )  # fmt: skip
    torch.manual_seed(0)
    run = GeneratorRun(params, features, processes())
    for batch in masked_batches(images.__getitem__, features, params, processes(), range(30)):
        found = run.step(batch)
    assert -found["adversarial"] == pytest.approx(optimum, abs=0.4)


def test_one_ratio_a_batch_varies_as_much_as_a_single_image():
    spread = {}
    for released in (False, True):
        params = changed(PAPER, training__released=released)
        part = slice(0, PAPER.training.batch)
        shares = [draw_masks(params, step, part)[1].double().mean() for step in range(40)]
        spread[released] = torch.stack(shares).std().item()
    assert spread[True] == pytest.approx(0.14, abs=0.03)  # of the truncated normal
    assert spread[True] / spread[False] == pytest.approx(math.sqrt(PAPER.training.batch), rel=0.3)


def test_decay_on_all_parameters_takes_a_sixth_off_an_idle_norm_in_the_released_schedule():
    hyper = changed(PAPER.training, steps=312500, lr=4e-5 * 320 / 112)
    kept = math.exp(sum(math.log1p(-0.01 * hyper.lr * rate(s, hyper)) for s in range(hyper.steps)))
    assert kept == pytest.approx(0.835, abs=0.005)
