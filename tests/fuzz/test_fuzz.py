"""A short run of ``python -m tests.fuzz`` over every reader."""

import pytest

from tests.fuzz.__main__ import READERS, try_all

COUNT = 100
PASSED_OVER = ("left-over", "lock")  # whatever they hold, a run goes on


@pytest.mark.parametrize("name", READERS)
def test_damaged_inputs_are_read_or_refused(name):
    counts, faults = try_all(name, range(COUNT))
    assert not faults
    assert counts.total() == COUNT
    assert counts["refused"] or name in PASSED_OVER, "no input was damaged"
