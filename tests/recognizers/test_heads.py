import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vec2face.recognizers.heads import build_head
from vec2face.recognizers.margins import MagFaceHead, MarginHead


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


@given(st.floats(1, 4), st.floats(0.01, 0.99))
def test_sphereface_multiplies_the_angle_and_falls_on_by_two_a_turn(factor, share):
    """psi is cos(m theta) up to pi / m; each further pi / m takes off 2."""
    head = build_head("sphereface", 2, 2, scale=10, margin=factor)
    stretch = math.pi / factor
    for turns in range(math.ceil(factor)):
        angle = (turns + share) * stretch
        if angle < math.pi - 0.01:
            expected = math.cos(factor * share * stretch) - 2 * turns
            got = logits(head, angle)
            assert got[0].item() == pytest.approx(10 * expected, abs=0.02)
            assert got[1].item() == pytest.approx(10 * math.sin(angle), abs=1e-4)


DIRECTIONS = np.random.default_rng(0).normal(size=(5, 7))
EMBEDDINGS = (
    np.random.default_rng(1).normal(size=(2, 6, 7)) * np.array([1, 3, 5, 9, 14, 30])[:, None]
)
LABELS = np.array([4, 0, 1, 2, 3, 3])


def in_two_calls(head):
    """Logits (2, 6, 5), with what the first call leaves in the second."""
    head = head.double()
    head.weight.data = torch.from_numpy(DIRECTIONS)
    calls = [head(torch.from_numpy(x), torch.from_numpy(LABELS))[0] for x in EMBEDDINGS]
    return torch.stack(calls).detach().numpy()


def angles():
    cosines = EMBEDDINGS @ DIRECTIONS.T
    lengths = np.linalg.norm(EMBEDDINGS, axis=2)[:, :, None] * np.linalg.norm(DIRECTIONS, axis=1)
    return np.arccos(cosines / lengths)


def test_adaface_asks_less_of_images_whose_norm_is_small_for_their_time():
    head = build_head("adaface", 7, 5, scale=10, margin=0.4)
    head.running.copy_(torch.tensor([8.0, 10.0]))
    got, theta = in_two_calls(head), angles()
    mean, deviation = 8.0, 10.0
    for call, embeddings in enumerate(EMBEDDINGS):
        norms = [math.sqrt(sum(x * x)) for x in embeddings]
        average = sum(norms) / 6
        spread = math.sqrt(sum((n - average) ** 2 for n in norms) / 5)
        mean, deviation = 0.99 * mean + 0.01 * average, 0.99 * deviation + 0.01 * spread
        for image, label in enumerate(LABELS):
            quality = min(1, max(-1, 0.333 * (norms[image] - mean) / (deviation + 0.001)))
            expected = [math.cos(angle) for angle in theta[call, image]]
            turned = min(math.pi, max(0, theta[call, image, label] - 0.4 * quality))
            expected[label] = math.cos(turned) - 0.4 * quality - 0.4
            assert got[call, image] == pytest.approx([10 * x for x in expected])
    assert head.running.tolist() == pytest.approx([mean, deviation])


def test_curricularface_weighs_hard_negatives_by_the_stage_of_training():
    head = build_head("curricularface", 7, 5, scale=10, margin=0.5)
    head.running.fill_(0.3)
    got, theta = in_two_calls(head), angles()
    t, hard = 0.3, 0
    for call in range(2):
        own = [theta[call, image, label] for image, label in enumerate(LABELS)]
        t = 0.99 * t + 0.01 * sum(map(math.cos, own)) / 6
        for image, label in enumerate(LABELS):
            bar = math.cos(own[image] + 0.5)
            if own[image] + 0.5 > math.pi:  # continued as in ArcFace
                bar = math.cos(own[image]) - 0.5 * math.sin(0.5)
            for identity in range(5):
                cosine = math.cos(theta[call, image, identity])
                expected = bar
                if identity != label:
                    hard += cosine > bar
                    expected = cosine * (t + cosine) if cosine > bar else cosine
                assert got[call, image, identity] == pytest.approx(10 * expected)
    assert 0 < hard < 48
    assert head.running.item() == pytest.approx(t)


@pytest.mark.parametrize("name", ["adaface", "curricularface"])
def test_micro_batches_of_one_call_are_those_of_calls_from_the_same_start(name):
    labels = torch.from_numpy(LABELS)
    together, *apart = (build_head(name, 7, 5).double() for _ in range(3))
    for head in (together, *apart):
        head.weight.data = torch.from_numpy(DIRECTIONS)
    found, _ = together(torch.from_numpy(EMBEDDINGS.reshape(12, 7)), labels.repeat(2), parts=2)
    alone = [
        head(torch.from_numpy(x), labels)[0] for head, x in zip(apart, EMBEDDINGS, strict=True)
    ]
    torch.testing.assert_close(found, torch.cat(alone))
    mean = (apart[0].running + apart[1].running) / 2
    torch.testing.assert_close(together.running, mean)


@pytest.mark.parametrize("name", ["arcface", "sphereface", "adaface", "curricularface"])
def test_gradients_are_finite_at_the_poles(name):
    head = build_head(name, 2, 2)
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
        ("sphereface", {"margin": 0.3}, "factor"),
        ("arcface", {"scale": 0}, "positive"),
    ],
)
def test_refuses(name, more, said):
    with pytest.raises(ValueError, match=said):
        build_head(name, 2, 2, **more)
