"""What a table will cost, before anything of it runs: its stages' runs times their planned seconds.

The plan of a stage is that of ``vec2face.planning.cost``.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ablations.roots import Root
from ablations.study import Set
from vec2face.planning.check import expect, sustained
from vec2face.planning.cost import CPU_GFLOPS

ASSUMED = (
    "minutes of one device, as `python -m vec2face check` counts them: all images of AttrOP are "
    "assumed to take all their steps, and rendering is not counted"
)


@dataclass(frozen=True)
class Run:
    """A stage that is to run, for one or several variants."""

    stage: str
    mark: str
    seconds: float  # 0 where it is not counted


def runs(
    roots: Iterable[tuple[Root, tuple[str, ...], Mapping[str, Set]]], tflops: float | None = None
) -> list[Run]:
    """Return what would run, each once.

    Args:
        roots: folders of variants, what is asked of them, and their further training sets.
        tflops: 10^12 operations a second that a device sustains; by default a guess.
    """
    found: dict[str, Run] = {}
    for root, targets, sets in roots:
        left = [stage for stage in root.left(targets) if root.marks[stage.name] not in found]
        if not left:
            continue
        seconds = planned(root, sets, tflops)
        for stage in left:
            mark = root.marks[stage.name]
            found[mark] = Run(stage.name, mark, seconds.get(stage.name, 0.0))
    return list(found.values())


_planned: dict[str, dict[str, float]] = {}


def planned(root: Root, sets: Mapping[str, Set], tflops: float | None) -> dict[str, float]:
    """Return the seconds of each stage of a variant."""
    p = root.params
    # Counting networks takes seconds, and all seeds cost the same.
    same = re.sub(r"'seed': \w+", "", f"{root.content} {sets} {tflops}")
    if same in _planned:
        return _planned[same]
    rate = (tflops or sustained(p)) * 1e12
    seconds = {
        cost.stage: cost.flop / rate + cost.cpu_flop / (CPU_GFLOPS * 1e9) for cost in expect(p)[0]
    }
    made = p.identities * p.images_per_identity
    store = p.rendered.stores["real"]
    real = store.people * store.images if p.world == "rendered" else made
    sizes = {"real": real}
    for name, few in sets.items():
        some = (few.people or p.identities) * (few.images or p.images_per_identity)
        sizes[name] = some + (real if few.beside else 0)
    for name, size in sizes.items():
        seconds[f"recognizer@{name}"] *= size / made
    _planned[same] = seconds
    return seconds


def summary(found: Iterable[Run]) -> str:
    """Return how often which stage would run, and how long, as text."""
    stages: dict[str, list[Run]] = {}
    for run in found:
        stages.setdefault(run.stage.partition("@")[0], []).append(run)
    lines = [f"{'stage':14}{'runs':>6}{'minutes':>10}"]
    for stage, some in stages.items():
        seconds = sum(run.seconds for run in some)
        counted = f"{seconds / 60:10.1f}" if seconds else f"{'-':>10}"
        lines.append(f"{stage:14}{len(some):6}{counted}")
    every = [run for some in stages.values() for run in some]
    minutes = sum(run.seconds for run in every) / 60
    return "\n".join(
        [*lines, f"{'all':14}{len(every):6}{minutes:10.1f} = {minutes / 60:.1f} hours"]
    )
