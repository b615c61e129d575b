"""The generator's losses (paper, section 3.1; released weights: docs/method.md).

Images are (B, 3, S, S) in [-1, 1]. Every loss is a mean over the batch, so that weights do not
depend on its size.
"""

import lpips
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vec2face.recognizers.weights import read_state_dict
from vec2face.runtime.files import InputError


def mse(fake: Tensor, real: Tensor) -> Tensor:
    """Mean squared pixel difference (equation 1, L_rec)."""
    return F.mse_loss(fake, real)


def gradient(fake: Tensor, real: Tensor) -> Tensor:
    """Mean absolute difference of the images' horizontal and vertical finite differences."""
    return sum(F.l1_loss(fake.diff(dim=d), real.diff(dim=d)) for d in (2, 3))  # type: ignore[return-value]


def ssim(fake: Tensor, real: Tensor) -> Tensor:
    """1 - structural similarity (Wang et al., 2004): 11 x 11 Gaussian, std 1.5, range 2."""
    place = torch.arange(11, dtype=fake.dtype, device=fake.device) - 5
    line = torch.exp(-(place**2) / (2 * 1.5**2))
    line = line / line.sum()
    window = (line[:, None] * line[None]).expand(3, 1, 11, 11)

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(x, window, groups=3)

    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    mean_f, mean_r = blur(fake), blur(real)
    var_f, var_r = blur(fake**2) - mean_f**2, blur(real**2) - mean_r**2
    cov = blur(fake * real) - mean_f * mean_r
    top = (2 * mean_f * mean_r + c1) * (2 * cov + c2)
    bottom = (mean_f**2 + mean_r**2 + c1) * (var_f + var_r + c2)
    return 1 - (top / bottom).mean()


def token(decoded: Tensor, expanded: Tensor) -> Tensor:
    """Mean squared difference of the decoded rows (B, 49, W) from the expanded map."""
    return F.mse_loss(decoded, expanded.detach())


def perceptual(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Squared distance of unit-length activations, averaged over places and summed over layers.

    The form of LPIPS (Zhang et al., 2018) without learnt channel weights, on the inner layers of
    the frozen recognizer: what stands for LPIPS where its backbone cannot be had.
    """
    pairs = zip(fake, real, strict=True)
    distances = [
        (F.normalize(f, dim=1) - F.normalize(r, dim=1)).pow(2).sum(1).mean() for f, r in pairs
    ]
    return torch.stack(distances).sum()


def identity(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - cosine between features (B, D) of the output and the wanted ones (equation 2, L_id)."""
    return 1 - F.cosine_similarity(found, wanted).mean()


def adversarial(logits_fake: Tensor) -> Tensor:
    """The generator's side: -mean D(fake)."""
    return -logits_fake.mean()


def discriminator(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    """Least squares: half of mean (D(real) - 1)^2 + mean D(fake)^2."""
    return 0.5 * ((logits_real - 1).pow(2).mean() + logits_fake.pow(2).mean())


def adaptive_weight(
    reconstruction: Tensor, adversary: Tensor, last_layer: Tensor, scale: float = 1.0
) -> Tensor:
    """Ratio of the two losses' gradient norms at the last layer, at most 1e4, times 0.8.

    From VQGAN (Esser et al., 2021, eq. 7). Both losses keep their graphs, and come multiplied by
    ``scale``, so that float16 can hold their gradients.
    """
    (a,) = torch.autograd.grad(reconstruction, last_layer, retain_graph=True)
    (b,) = torch.autograd.grad(adversary, last_layer, retain_graph=True)
    return 0.8 * (a.norm() / (b.norm() + 1e-4 * scale)).clamp(0, 1e4).detach()


def load_lpips(weights: str) -> nn.Module:
    """Return LPIPS (VGG16), frozen: from two image batches to a distance (B, 1, 1, 1).

    Args:
        weights: torchvision's VGG16 weights (``vgg16-397923af.pth``); the linear layers on top come
            with the package.

    Raises:
        InputError: the weights are missing or not VGG16's.
    """
    model = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval().requires_grad_(False)
    try:
        state = read_state_dict(weights)
        layers = {n: v for n, v in state.items() if n.startswith("features.")}
        names = list(model.net.state_dict())  # slice1.0.weight ...: the numbers are VGG's own
        model.net.load_state_dict({n: layers["features." + n.split(".", 1)[1]] for n in names})
    except (InputError, KeyError, RuntimeError) as error:
        raise InputError(
            f"training.lpips_weights: {weights}: not torchvision's VGG16 weights ({error}); "
            "name that file, or set losses.lpips to 0 and use losses.perceptual"
        ) from error
    return model


def ramp(progress: float, start: float, full: float) -> float:
    """Rise from 0 at ``start`` to 1 at ``full`` (shares of the training), linearly."""
    if progress < start:
        return 0.0
    return 1.0 if progress >= full else (progress - start) / (full - start)
