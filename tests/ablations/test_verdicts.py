"""Verdicts on made-up tables whose answer is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import t

from ablations.verdicts import Claim, Statement, chances, judge, sample


def tables(**rows):
    return {"t": {name: {"avg": dict(enumerate(values))} for name, values in rows.items()}}


def verdict(claims, **rows):
    return judge(Statement(where="", says="", claims=claims), tables(**rows))


LOW, HIGH, WIDE = [80.0, 80.2, 80.1], [85.0, 85.1, 85.3], [70.0, 82.0, 90.0]


@pytest.mark.parametrize(
    ("claim", "outcome"),
    [
        ({"more": ["t.high.avg", "t.low.avg"]}, "holds"),
        ({"more": ["t.low.avg", "t.high.avg"]}, "does not hold"),
        ({"more": ["t.wide.avg", "t.low.avg"]}, "within noise"),
        ({"no_more": ["t.low.avg", "t.high.avg"]}, "holds"),
        ({"no_more": ["t.wide.avg", "t.low.avg"]}, "holds"),
        ({"no_more": ["t.high.avg", "t.low.avg"]}, "does not hold"),
        ({"rises": ["t.low.avg", "t.high.avg"]}, "holds"),
        ({"rises": ["t.high.avg", "t.low.avg"]}, "does not hold"),
        ({"rises": ["t.low.avg", "t.low.avg", "t.low.avg"]}, "within noise"),
        ({"more": ["t.high.avg - t.low.avg", "t.low.avg - t.high.avg"]}, "holds"),
        ({"more": ["t.alone.avg", "t.low.avg"]}, "cannot be tested here"),
        ({"more": ["t.nowhere.avg", "t.low.avg"]}, "cannot be tested here"),
    ],
)
def test_outcomes(claim, outcome):
    found = verdict([claim], low=LOW, high=HIGH, wide=WIDE, alone=[99.0])
    assert found.outcome == outcome
    assert found.because


def test_one_claim_that_fails_decides():
    good, bad = {"more": ["t.high.avg", "t.low.avg"]}, {"more": ["t.low.avg", "t.high.avg"]}
    open_ = {"more": ["t.wide.avg", "t.low.avg"]}
    rows = {"low": LOW, "high": HIGH, "wide": WIDE}
    assert verdict([good, open_], **rows).outcome == "within noise"
    assert verdict([good, open_, bad], **rows).outcome == "does not hold"


def test_differences_are_between_the_same_seeds():
    found = tables(a=[5.0, 6.0, 7.0], b=[1.0, 2.0])
    found["t"]["b"]["avg"] = {2: 1.0, 0: 3.0}
    assert sample("t.a.avg - t.b.avg", found) == {0: 2.0, 2: 6.0}


def test_the_test_is_welchs():
    a, b = np.array(HIGH), np.array(WIDE)
    va, vb = a.var(ddof=1) / 3, b.var(ddof=1) / 3
    degrees = (va + vb) ** 2 / (va**2 / 2 + vb**2 / 2)
    expected = t.sf((a.mean() - b.mean()) / np.sqrt(va + vb), degrees)
    assert chances("more", [HIGH, WIDE])[0] == pytest.approx(expected)


seeds = st.lists(st.integers(0, 100).map(float), min_size=3, max_size=3)


@given(seeds, seeds)
def test_both_sides_are_judged_alike(a, b):
    there, back = chances("more", [a, b]), chances("more", [b, a])
    assert there == pytest.approx(back[::-1], abs=1e-9)


@given(st.lists(seeds, min_size=3, max_size=4), st.integers(-50, 50))
def test_a_rise_knows_no_level(rows, shift):
    moved = [[value + shift for value in row] for row in rows]
    if len({*itertools.chain(*rows)}) > 1:
        assert chances("rises", rows) == pytest.approx(chances("rises", moved), abs=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [{}, {"more": ["a.b.c", "a.b.c"], "rises": ["a.b.c"]}, {"less": ["a.b.c", "a.b.c"]}],
)
def test_a_claim_is_one_thing(wrong):
    with pytest.raises(ValidationError):
        Claim.model_validate(wrong)


def test_a_statement_is_tested_or_says_why_not():
    for wrong in ({}, {"cannot": "x", "claims": [{"rises": ["t.a.avg", "t.b.avg"]}]}):
        with pytest.raises(ValidationError):
            Statement.model_validate({"where": "", "says": "", **wrong})
    because = judge(Statement(where="", says="", cannot="no card"), {})
    assert because == ("cannot be tested here", "no card")
