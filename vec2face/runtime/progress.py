"""Progress of long work: a bar on a terminal, otherwise a line of the log now and then.

    with Progress(what="generator", total=3000, unit="step") as progress:
        ...
        progress.set_postfix(mse=0.02)
        progress.update()

Without a terminal that writes lines such as

    INFO generator: 1200/3000, 4 step/s, 07:30 left, mse=0.02
"""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch.distributed as dist
from tqdm import tqdm

SECONDS = 30.0  # between two lines

log = logging.getLogger(__name__)


class Progress(tqdm):
    """A bar of tqdm, or lines of the log where stderr is no terminal.

    A line comes at most every ``SECONDS`` seconds, and at the end of work that took longer. Of
    several processes, only rank 0 shows anything.

    Args:
        items: yielded one by one; without them the caller counts with ``update``.
        what: the name of the work.
        total: the number of items, if ``items`` has no length.
        initial: the items that were done before.
        unit: of the count.
    """

    def __init__(
        self,
        items: Iterable[Any] = (),
        what: str = "",
        *,
        total: int | None = None,
        initial: int = 0,
        unit: str = "it",
    ) -> None:
        main = not dist.is_initialized() or dist.get_rank() == 0
        disable = None if main else True  # None leaves it to whether stderr is a terminal
        super().__init__(items, what, total, unit=unit, initial=initial, disable=disable)
        self._lines = main and self.disable
        self._what, self._unit = what, unit
        self._initial = initial
        self._written: float = initial
        self._start = self._last = time.monotonic()

    def __iter__(self) -> Iterator[Any]:
        """Yield the items."""
        if not self._lines:
            yield from super().__iter__()
            return
        with self:
            for item in self.iterable:
                yield item
                self.update()

    def update(self, n: Any = 1) -> bool | None:
        """Count ``n`` more items."""
        if not self._lines:
            return super().update(n)
        self.n += n
        if time.monotonic() - self._last >= SECONDS:
            self._write()
        return None

    def close(self) -> None:
        """End the bar."""
        super().close()
        if self._lines and self._written != self.n and time.monotonic() - self._start >= SECONDS:
            self._write()
        self._lines = False

    def _write(self) -> None:
        self._last, self._written = time.monotonic(), self.n
        elapsed = self._last - self._start
        rate = (self.n - self._initial) / elapsed
        line = f"{self.n}/{self.total or '?'}, {rate:.3g} {self._unit}/s"
        if self.total == self.n:
            line += f", {self.format_interval(elapsed)} in all"
        elif self.total and rate:
            line += f", {self.format_interval((self.total - self.n) / rate)} left"
        if postfix := getattr(self, "postfix", None):
            line += f", {postfix}"
        log.info("%s: %s", self._what, line)
