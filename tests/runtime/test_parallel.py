"""Micro-batches are shared without gaps, gradients are clipped alike, failures are survived."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests import ranks
from vec2face.runtime.files import InputError
from vec2face.runtime.parallel import Patience, agree, clip, last_round, rounds, synchronised
from vec2face.runtime.processes import Group, processes

ALONE = Group(0, 1, torch.device("cpu"))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 6))
def test_every_image_is_computed_once_and_in_the_same_micro_batch(size, per_rank, processes):
    batch = size * per_rank * processes
    alone = rounds(batch, size, ALONE)
    shared = [
        rounds(batch, size, Group(rank, processes, torch.device("cpu")))
        for rank in range(processes)
    ]
    assert sorted(part for parts in shared for part in parts) == alone
    assert {len(parts) for parts in shared} == {per_rank}
    covered = [i for _, part in alone for i in range(batch)[part]]
    assert covered == list(range(batch))


def test_without_micro_batches_a_step_is_one_piece():
    assert rounds(7, None, ALONE) == [(0, slice(0, 7))]


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "message"),
    [
        (12, 5, 1, "fr.micro_batch: 5 does not divide fr.batch = 12"),
        (12, None, 2, "fr.micro_batch: 2 processes cannot share 1 micro-batch of 12.*set it to 6"),
        (12, 4, 2, "3 micro-batches of 4.*set it to 6 or a divisor"),
        (7, 7, 2, "fr.batch to a multiple of 2"),
    ],
)
def test_what_cannot_be_shared_is_refused_with_the_remedy(batch, micro, processes, message):
    with pytest.raises(InputError, match=message):
        rounds(batch, micro, Group(0, processes, torch.device("cpu")), "fr")


def parameters(*shapes):
    torch.manual_seed(0)
    made = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    for parameter in made[:-1]:  # the last one has no gradient
        parameter.grad = torch.randn_like(parameter)
    return made


@pytest.mark.parametrize("largest", [0.5, 1e3])
def test_alone_clipping_is_pytorchs(largest):
    shapes = [(3, 4), (5,), (2, 2, 2), (6,), (1,)]
    expected, found = parameters(*shapes), parameters(*shapes)
    norm = nn.utils.clip_grad_norm_(expected, largest)
    assert clip(found[:2], found[2:], largest, ALONE) == norm.item()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(expected[:-1], found[:-1], strict=True))


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_gradients_without_a_finite_norm_are_not_touched(bad):
    one, other, _ = parameters((3,), (2,), (1,))
    one.grad[0] = bad
    kept = [one.grad.clone(), other.grad.clone()]
    assert not torch.tensor(clip([one], [other], 1.0, ALONE)).isfinite()
    torch.testing.assert_close([one.grad, other.grad], kept, rtol=0, atol=0, equal_nan=True)


def compare_with_one_process(folder):
    """Two processes average gradients, clip those that they share, and agree."""
    place = processes()
    torch.manual_seed(0)
    images, whole = torch.randn(8, 3), nn.Linear(3, 2)
    alone = nn.Linear(3, 2)
    alone.load_state_dict(whole.state_dict())
    alone(images).square().mean().backward()
    with torch.no_grad():
        whole.weight.add_(place.rank)  # rank 0 decides where it starts
    network = synchronised(whole, place, compiled=False)
    parts = rounds(8, 2, place)
    for number, part in parts:
        with last_round(network, is_last=number == parts[-1][0]):
            (network(images[part]).square().mean() / len(parts)).backward()
    torch.testing.assert_close(whole.weight.grad, alone.weight.grad)

    own = nn.Parameter(torch.zeros(2))
    own.grad = torch.tensor([3.0, 4.0]) * (1 + place.rank)
    every = [p.grad.flatten() for p in alone.parameters()]
    every = torch.cat([*every, torch.tensor([3.0, 4.0, 6.0, 8.0])])
    norm = clip(whole.parameters(), [own], 1.0, place)
    torch.testing.assert_close(norm, every.norm().item())
    torch.testing.assert_close(own.grad.norm().item(), 5.0 * (1 + place.rank) / norm)
    own.grad[0] = float("nan") if place.rank else 1.0
    assert clip(whole.parameters(), [own], 1.0, place) != norm
    assert own.grad[1] != 0
    assert agree(place, fine=True)
    assert not agree(place, fine=place.main)
    folder.joinpath(str(place.rank)).touch()


def test_two_processes_compute_what_one_does(tmp_path):
    assert ranks.finish(ranks.start(compare_with_one_process, tmp_path, size=2)) == [0, 0]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_skipped_step_is_reported_and_repeated_ones_stop(caplog):
    patience = Patience("fr", limit=3, window=10)
    with caplog.at_level(logging.WARNING):
        patience.skip(4, [7, 8], {"mse": float("nan")})
        patience.skip(9, [1], {"mse": 1.0, "norm": float("inf")})
    assert [r.message for r in caplog.records] == [
        "step 4 is left out: mse nan; on images [7, 8]",
        "step 9 is left out: mse 1, norm inf; on images [1]",
    ]
    patience.skip(14, [2], {})  # step 4 is long ago
    continued = Patience("fr", limit=3, window=10)
    continued.load_state_dict(patience.state_dict())
    with pytest.raises(InputError, match=r"step 15 .*steps \[9, 14\].*learning rate \(fr\.lr\)"):
        continued.skip(15, [3], {})
