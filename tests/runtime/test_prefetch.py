"""Batches come in order, one of them ahead of its use."""

import threading

import pytest

from vec2face.runtime.prefetch import ahead


def test_steps_come_in_order_and_the_next_is_prepared_during_the_current_one():
    prepared = {step: threading.Event() for step in range(3, 7)}

    def prepare(step):
        prepared[step].set()
        return step * step

    seen = []
    for step, value in zip(range(3, 7), ahead(prepare, range(3, 7)), strict=True):
        seen.append(value)
        if step < 6:
            assert prepared[step + 1].wait(60)
        assert not any(prepared[later].is_set() for later in range(step + 2, 7))
    assert seen == [9, 16, 25, 36]
    assert not list(ahead(prepare, range(5, 5)))


def test_an_error_comes_with_its_step():
    def prepare(step):
        return 1 // (2 - step)

    batches = ahead(prepare, range(4))
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(batches)
