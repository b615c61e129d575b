"""Losses against other implementations and closed forms."""

from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torchvision.models import vgg16

from vec2face.generator import losses
from vec2face.runtime.files import InputError


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    real = torch.rand(2, 3, 24, 24, generator=generator) * 2 - 1
    return (real + 0.2 * torch.randn(real.shape, generator=generator)).clamp(-1, 1), real


def test_ssim_equals_scikit_image(pair):
    fake, real = (x.double() for x in pair)
    wanted = []
    for f, r in zip((fake.numpy() + 1) / 2, (real.numpy() + 1) / 2, strict=True):
        _, full = structural_similarity(
            f, r, channel_axis=0, data_range=1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False, full=True,
        )  # fmt: skip
        wanted.append(full[:, 5:-5, 5:-5].mean())  # where the window lies inside
    assert losses.ssim(fake, real).item() == pytest.approx(1 - np.mean(wanted), abs=1e-9)


def test_gradient_ignores_brightness_and_sees_edges(pair):
    fake, real = pair
    assert losses.gradient(real + 0.3, real).item() == pytest.approx(0, abs=1e-6)
    step = torch.zeros(1, 3, 8, 8)
    step[..., 4:] = 1  # one vertical edge of height 1 among 7 columns of differences
    assert losses.gradient(step, torch.zeros_like(step)).item() == pytest.approx(1 / 7)


def test_least_squares_discriminator_is_best_at_its_optimum():
    real, fake = torch.ones(4, 1, 3, 3), torch.zeros(4, 1, 3, 3)
    assert losses.discriminator(real, fake) == 0
    assert losses.discriminator(fake, real) == 1


def test_adaptive_weight_balances_gradients_at_the_last_layer():
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    reconstruction, adversary = 2 * weight.sum(), (weight**2).sum() / 2  # norms 2 sqrt 2 and 5
    found = losses.adaptive_weight(reconstruction, adversary, weight)
    assert found.item() == pytest.approx(0.8 * 2 * 2**0.5 / 5, rel=1e-4)
    capped = losses.adaptive_weight(1e9 * weight.sum(), 1e-9 * weight.sum(), weight)
    assert capped.item() == pytest.approx(8000)


def test_perceptual_sees_direction_not_strength():
    a = [torch.randn(2, 5, 4, 4), torch.randn(2, 7, 2, 2)]
    assert losses.perceptual([3 * x for x in a], a).item() == pytest.approx(0, abs=1e-9)
    assert losses.perceptual([-x for x in a], a).item() == pytest.approx(
        8, rel=1e-5
    )  # |2u|^2 twice


def test_token_loss_moves_the_decoded_rows_only():
    decoded, expanded = (torch.randn(2, 49, 3, requires_grad=True) for _ in range(2))
    losses.token(decoded, expanded).backward()
    assert decoded.grad is not None
    assert expanded.grad is None


def test_identity_is_zero_for_the_same_direction_and_two_for_the_opposite():
    x = torch.randn(3, 9)
    assert losses.identity(2 * x, x).item() == pytest.approx(0, abs=1e-6)
    assert losses.identity(-x, x).item() == pytest.approx(2)


@pytest.mark.parametrize(("progress", "wanted"), [(0, 0), (0.3, 0), (0.6, 0.5), (0.9, 1), (1, 1)])
def test_ramp(progress, wanted):
    assert losses.ramp(progress, 0.3, 0.9) == pytest.approx(wanted)


def test_missing_lpips_weights_are_named(tmp_path):
    with pytest.raises(InputError, match="lpips_weights.*vgg"):
        losses.load_lpips(str(tmp_path / "vgg.pth"))


@torch.no_grad()
def test_lpips_equals_the_formula_of_its_paper(tmp_path, pair):
    torch.manual_seed(0)
    vgg = vgg16(weights=None).features.eval()
    torch.save({f"features.{n}": t for n, t in vgg.state_dict().items()}, tmp_path / "vgg16.pth")
    found = losses.load_lpips(str(tmp_path / "vgg16.pth"))(*pair).mean()

    # Zhang et al., eq. 1: unit-length activations after each block's last ReLU, channels weighted
    # by the learnt layers that come with the package, squared differences averaged over places.
    package = Path(lpips.__file__).parent / "weights/v0.1/vgg.pth"
    learnt = list(torch.load(package, "cpu", weights_only=True).values())
    mean, std = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    f, r = ((x - mean[:, None, None]) / std[:, None, None] for x in pair)
    wanted, block = torch.zeros(len(f)), 0
    for number, layer in enumerate(vgg[:30]):
        f, r = layer(f), layer(r)
        if number in (3, 8, 15, 22, 29):
            a, b = (x / x.pow(2).sum(1, keepdim=True).sqrt() for x in (f, r))
            wanted += ((a - b).pow(2) * learnt[block]).sum(1).mean((1, 2))
            block += 1
    assert found == pytest.approx(wanted.mean().item(), rel=1e-5)
