"""Muon: orthogonal updates of AdamW's size."""

import pytest
import torch

from vec2face.generator.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(8, 8), (8, 14), (5, 40), (40, 5)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = u.T @ orthogonalise(matrix) @ v.T  # diagonal in the same singular vectors
    values = found.diag()
    assert values.min() > 0.5
    assert values.max() < 1.3
    assert (found - torch.diag(values)).abs().max() < 1e-8


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6])
def test_products_of_polynomials_are_the_plain_iteration(spread):
    """In float32, on matrices whose singular values spread as gradients' do."""
    torch.manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(n, 24, dtype=torch.float64))[0] for n in (24, 96))
    matrix = u * torch.logspace(0, torch.tensor(spread).log10(), 24, dtype=torch.float64) @ v.T
    x = matrix / matrix.norm()
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    found = orthogonalise(matrix.float()).double()
    assert torch.cosine_similarity(found.flatten(), x.flatten(), dim=0) > 0.9999
    assert (found - x).norm() < 0.01 * x.norm()


def test_a_step_agrees_with_pytorchs_bfloat16_one():
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(24, 48)) for _ in range(2))
    options = {"lr": 0.01, "momentum": 0.95, "weight_decay": 0.1}
    mine = Muon([ours], **options)
    peer = torch.optim.Muon([theirs], **options, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.grad = torch.randn(24, 48)
        theirs.grad = ours.grad.clone()
        mine.step()
        peer.step()
    moved = (ours - 1).detach().flatten()
    cosine = torch.cosine_similarity(moved, (theirs - 1).detach().flatten(), dim=0)
    assert cosine > 0.98  # bfloat16 carries three digits through five iterations
    assert moved.norm() == pytest.approx(float((theirs - 1).norm()), rel=0.05)
