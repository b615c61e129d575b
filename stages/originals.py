"""Stage 8, originals: as many of the training faces as there are generated ones.

    python -m stages.originals

Reads data/subset; writes data/originals (a FaceStore): people at random with all their images,
identities * images_per_identity in all. A recognizer trained on them is what one trained on the
generated set is compared with. Several processes share the copying, and a killed run goes on.
"""

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.faces.source import open_source
from vec2face.faces.subset import copy_rows, whole_people
from vec2face.runtime.processes import processes
from vec2face.runtime.resume import resume


def main() -> None:
    """Choose and copy."""
    p = Params.load(artifacts.params)
    count = p.identities * p.images_per_identity
    source = open_source(artifacts.subset, verify=processes().main)
    with resume("originals", [p.seed, count], [artifacts.subset], artifacts.work) as work:
        rows = whole_people(source.labels, count, seed=p.seed)
        copy_rows(
            source, rows, artifacts.originals, work=work, seed=p.seed, made_by="stages/originals.py"
        )


if __name__ == "__main__":
    run(main, shared=True)
