"""The cost of a run as text, stage by stage."""

from vec2face.planning.cost import CPU_GFLOPS, StageCost

WIDTHS = (15, 12, 10, 11, 11)


def table(costs: list[StageCost], tflops: float) -> str:
    """Return the stages as text; ``tflops``: 10^12 operations a second that a device sustains."""

    def seconds(cost: StageCost) -> tuple[float, float]:
        return cost.flop / (tflops * 1e12), cost.cpu_flop / (CPU_GFLOPS * 1e9)

    every = StageCost(
        "all",
        sum(c.flop for c in costs),
        sum(c.disk_bytes for c in costs),
        max(c.memory_bytes for c in costs),
        max(c.device_bytes for c in costs),
        sum(c.cpu_flop for c in costs),
    )
    unit, length = ("hours", 3600) if sum(seconds(every)) >= 3600 else ("minutes", 60)
    head = ("stage", f"device {unit}", f"CPU {unit}", "disk GB", "memory GB", "device GB")
    lines = [_row(*head)]
    for cost in [*costs, every]:
        times = (second / length for second in seconds(cost))
        sizes = (cost.disk_bytes, cost.memory_bytes, cost.device_bytes)
        amounts = (*times, *(size / 1e9 for size in sizes))
        cells = ["<0.1" if 0 < a < 0.05 else f"{a:.1f}" for a in amounts]
        lines.append(_row(cost.stage, *cells))
    lines.append(
        f"{unit} at {tflops:g} TFLOP/s, which --tflops sets, and at {CPU_GFLOPS / 1e3:g} of one "
        "process's products on the processor; device GB are those of a whole batch, which several "
        "devices share"
    )
    return "\n".join(lines)


def _row(stage: str, *cells: str) -> str:
    return f"{stage:22}" + "".join(f"{c:>{w}}" for c, w in zip(cells, WIDTHS, strict=True))
