"""Rendered world, benchmarks: pairs of people whom no store holds.

    python -m stages.rendered_benchmarks

Reads data/rendered/head.npz; writes data/rendered/benchmarks/<name>.bin and
data/rendered/benchmarks-attributes/<name>/*.npy (person, sex, pose, ... of every picture). A killed
run continues.
"""

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.rendered.benchmarks import write_benchmark
from vec2face.rendered.produce import save_attributes
from vec2face.runtime.files import whole_folder
from vec2face.runtime.resume import resume


def main() -> None:
    """Render every benchmark that params name."""
    p = Params.load(artifacts.params)
    size, wanted = p.rendered.image_size, p.rendered.benchmarks
    with (
        resume("rendered_benchmarks", [p.seed, size], [artifacts.head], artifacts.work) as work,
        whole_folder(artifacts.rendered_benchmarks) as folder,
        whole_folder(artifacts.rendered_benchmarks_attributes) as attributes,
    ):
        for name, pairs in wanted.items():
            known = write_benchmark(
                artifacts.head,
                folder / f"{name}.bin",
                name=name,
                seed=p.seed,
                pairs=pairs,
                size=size,
                work=work / f"{name}-{pairs}",
            )
            save_attributes(attributes / name, known)


if __name__ == "__main__":
    run(main)
