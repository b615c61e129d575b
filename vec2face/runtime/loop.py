"""The loop of every training: steps, their curve, checkpoints, progress.

    run = GeneratorRun(params, features, processes())
    batches = partial(masked_batches, read, features, params, processes())
    curve = Curve(20, means, print)
    loop("generator", run, batches, 3000, Checkpoint("work/generator"), curve, processes())

A killed run continues from its last checkpoint and ends in the same weights, if a step is a
function of the run's state and the step's batch alone.
"""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.processes import Group
from vec2face.runtime.progress import Progress

Sums = dict[str, tuple[float, int]]
"""What several steps found: of each value, the sum and the number of steps that had it."""

Line = dict[str, float]
"""A line of the curve, with ``step`` and means of what was found since the line before."""


class Run(Protocol):
    """Networks and optimisers, and one step of their training."""

    def step(self, batch: Any) -> dict[str, float] | None:
        """Take a step; return what it found, None if it was left out."""

    def state(self) -> dict[str, Any]:
        """Return all that a continued run needs, on the first process; all call this together."""

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned, maybe to another number of processes."""


def loop(
    what: str,
    run: Run,
    batches: Callable[[range], Iterable[Any]],
    steps: int,
    checkpoint: Checkpoint,
    curve: "Curve",
    group: Group,
) -> None:
    """Train to the end, from the last checkpoint on; all processes call this together.

    Args:
        what: name of the work, for its progress.
        run: what is trained.
        batches: from the numbers of steps to their batches.
        steps: of the whole training.
        checkpoint: the folder of this run's states.
        curve: gets what the steps find.
        group: this process among the others.

    Raises:
        InputError: the processes find different checkpoints, or one cannot be written.
    """
    first, state = checkpoint.resume(group)
    if state:
        run.load(state["run"])
        curve.load(state["curve"])
    numbers = range(first, steps)
    with Progress(what=what, total=steps, initial=first, unit="step") as progress:
        for step, batch in zip(numbers, batches(numbers), strict=True):
            curve.add(run.step(batch))
            done = step + 1
            progress.update()
            if done % curve.every == 0 or done == steps:
                progress.set_postfix(curve.close(done))
            if checkpoint.due(group):
                state = {"run": run.state(), "curve": curve.state()}
                if group.main:
                    checkpoint.save(done, state)


def means(step: int, sums: Sums) -> Line:
    """Return a line of the mean of each value over the steps that had it."""
    return {"step": step} | {name: total / count for name, (total, count) in sums.items()}


class Curve:
    """What the steps found, in lines of several steps each.

    Args:
        every: steps in a line.
        line: from the step and the sums since the last line to the line.
        report: called with each line; when a run continues, with the earlier ones again first.
    """

    def __init__(
        self,
        every: int,
        line: Callable[[int, Sums], Line],
        report: Callable[[Line], None] | None = None,
    ) -> None:
        self.every = every
        self._line = line
        self._report = report or (lambda _: None)
        self._lines: list[Line] = []
        self._sums: Sums = {}

    def add(self, found: dict[str, float] | None) -> None:
        """Take in what a step found; None for a step that was left out."""
        for name, value in (found or {}).items():
            total, steps = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, steps + 1)

    def close(self, done: int) -> Line:
        """End a line after ``done`` steps; report and return it."""
        self._lines.append(self._line(done, self._sums))
        self._sums = {}
        self._report(self._lines[-1])
        return self._lines[-1]

    def state(self) -> dict[str, Any]:
        """Return what a continued run needs."""
        return {"lines": self._lines, "sums": self._sums}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned, and report its lines."""
        self._lines, self._sums = state["lines"], state["sums"]
        for line in self._lines:
            self._report(line)
