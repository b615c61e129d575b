"""Masks: a pure function of (seed, sample), with the counts and the law of the paper."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, truncnorm

from vec2face.generator.masks import RATIO_STD, ROWS, masks

RATIOS = [(0.5, 1.0, 0.75), (0.1, 1.0, 0.15), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.3, 0.3, 0.9)]


@given(st.integers(0, 1000), st.integers(0, 9), st.integers(1, 9), st.sampled_from(RATIOS))
def test_batches_of_any_size_give_the_same_masks(first, split, rest, ratios):
    whole = masks(3, first, split + rest, *ratios)
    parts = [masks(3, first + i, 1, *ratios) for i in range(split + rest)]
    for i in (0, 1):
        assert torch.equal(whole[i], torch.cat([part[i] for part in parts]))


def test_a_shared_ratio_masks_equally_many_rows_of_a_batch_in_other_orders():
    _, alone = masks(4, 5, 40, 0.1, 1.0, 0.5)
    _, mask = masks(4, 5, 40, 0.1, 1.0, 0.5, ratio_shared_by=8)
    counts = mask.sum(1)
    for i in range(5, 45):
        leader = i // 8 * 8
        assert counts[i - 5] == masks(4, leader, 1, 0.1, 1.0, 0.5)[1].sum()
        if leader >= 5 and i != leader:
            assert not torch.equal(mask[i - 5], mask[leader - 5])
    assert len(set(counts.tolist())) < len(set(alone.sum(1).tolist()))


@pytest.mark.parametrize("ratios", RATIOS)
def test_dropped_rows_are_masked_and_counted_as_in_the_paper(ratios):
    minimum, maximum, _ = ratios
    drop, mask = masks(0, 0, 500, *ratios)
    assert (drop.sum(1) == math.ceil(ROWS * minimum)).all()
    assert not (drop & ~mask).any()
    assert mask.sum(1).min() >= math.ceil(ROWS * minimum)
    assert mask.sum(1).max() <= math.ceil(ROWS * maximum)


def test_ratios_follow_the_truncated_normal():
    minimum, maximum, mean = 0.5, 1.0, 0.75
    counts = masks(1, 0, 4000, minimum, maximum, mean)[1].sum(1).numpy()
    law = truncnorm((minimum - mean) / RATIO_STD, (maximum - mean) / RATIO_STD, mean, RATIO_STD)
    edges = np.arange(math.ceil(ROWS * minimum), ROWS + 1)
    # P(ceil(49 r) <= k) = P(r <= k / 49)
    found = (counts[:, None] <= edges).mean(0)
    assert np.abs(found - law.cdf(edges / ROWS)).max() < 1.63 / math.sqrt(4000)  # KS at 1 %


def test_every_row_is_masked_equally_often():
    share = masks(2, 0, 4000, 0.1, 1.0, 0.15)[1].double().mean(0).numpy()
    spread = math.sqrt(share.mean() * (1 - share.mean()) / 4000)
    assert kstest((share - share.mean()) / spread, "norm").pvalue > 1e-3


def test_impossible_ratios_are_refused():
    with pytest.raises(ValueError, match="ratios"):
        masks(0, 0, 1, 0.8, 0.5, 0.6)
