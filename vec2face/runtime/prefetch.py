"""Preparing the next batch while the current one is computed."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(prepare: Callable[[int], T], steps: range) -> Iterator[T]:
    """Yield ``prepare(step)`` of each step; a thread prepares the next during the current one."""
    with ThreadPoolExecutor(1) as pool:
        following = [pool.submit(prepare, step) for step in steps[:1]]
        for step in steps:
            current = following.pop().result()
            following = [pool.submit(prepare, s) for s in (step + 1,) if s in steps]
            yield current
