"""Rendered world, benchmarks: pairs of people whom no store holds.

    python -m stages.rendered_benchmarks

Reads data/rendered/head.npz; writes data/rendered/benchmarks/<name>.bin.
"""

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.rendered.benchmarks import write_benchmark
from vec2face.runtime.files import whole_folder


def main() -> None:
    """Render every benchmark that params name."""
    p = Params.load(artifacts.params)
    chosen = p.rendered.benchmarks
    with whole_folder(artifacts.rendered_benchmarks) as folder:
        for name in chosen.names:
            write_benchmark(
                artifacts.head,
                folder / f"{name}.bin",
                name=name,
                seed=p.seed,
                pairs=chosen.pairs,
                size=p.rendered.image_size,
            )


if __name__ == "__main__":
    run(main)
