import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vec2face.recognizers.heads import MagFaceHead, MarginHead, build_head


def at_angle(angle: float, norm: float = 3.0) -> torch.Tensor:
    """An embedding at ``angle`` to the first of two orthogonal identities."""
    return norm * torch.tensor([[math.cos(angle), math.sin(angle)]])


def logits(head: MarginHead, angle: float, norm: float = 3.0) -> torch.Tensor:
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 0.5]]))
    return head(at_angle(angle, norm), torch.tensor([0]))[0][0]


@given(st.floats(0.05, 2.5))
def test_arcface_turns_the_angle(angle):
    got = logits(build_head("arcface", 2, 2, scale=10), angle)
    assert got[0].item() == pytest.approx(10 * math.cos(angle + 0.5), abs=1e-3)
    assert got[1].item() == pytest.approx(10 * math.sin(angle), abs=1e-4)


@given(st.floats(0.0, 3.1))
def test_cosface_subtracts(angle):
    got = logits(build_head("cosface", 2, 2, scale=10, margin=0.2), angle)
    assert got[0].item() == pytest.approx(10 * (math.cos(angle) - 0.2), abs=1e-4)


@given(st.floats(0.1, 1.2))
def test_combined_margin(angle):
    head = MarginHead(2, 2, scale=1, angle_factor=1.5, angle_margin=0.3, cosine_margin=0.1)
    got = logits(head, angle)[0].item()
    assert got == pytest.approx(math.cos(1.5 * angle + 0.3) - 0.1, abs=1e-4)


def test_softmax_is_the_cosine():
    assert logits(build_head("softmax", 2, 2, scale=1), 1.0)[0].item() == pytest.approx(
        math.cos(1.0), abs=1e-6
    )


def test_the_true_logit_falls_all_the_way_to_pi():
    head = build_head("arcface", 2, 2, scale=1)
    values = [logits(head, a)[0].item() for a in torch.linspace(0.01, math.pi - 0.01, 200).tolist()]
    assert all(a > b for a, b in pairwise(values))


def test_magface_margin_grows_with_the_norm_and_the_penalty_is_least_at_the_top():
    head = MagFaceHead(2, 2, scale=1)
    for norm, margin in [(5, 0.45), (10, 0.45), (60, 0.625), (110, 0.8), (500, 0.8)]:
        assert logits(head, 0.5, norm)[0].item() == pytest.approx(math.cos(0.5 + margin), abs=1e-4)
    penalties = [head.penalty(torch.tensor([a])).item() for a in (10.0, 50.0, 100.0, 110.0)]
    assert penalties == sorted(penalties, reverse=True)
    assert penalties[0] == pytest.approx(35 * (10 / 110**2 + 1 / 10))


def test_gradients_are_finite_at_the_poles():
    head = build_head("arcface", 2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    head(x, torch.tensor([0, 0]))[0].sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("sphere", {}, "no head"),
        ("softmax", {"margin": 0.1}, "no margin"),
        ("arcface", {"scale": 0}, "positive"),
    ],
)
def test_refuses(name, more, said):
    with pytest.raises(ValueError, match=said):
        build_head(name, 2, 2, **more)
