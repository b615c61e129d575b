"""Stage 2, subset: the faces that train the generator, and faces of other people kept apart.

    python -m stages.subset

Reads the faces at paths.faces; writes data/subset and data/held_out (FaceStores).
"""

from functools import partial

import numpy as np

from stages import run
from vec2face.faces.source import open_source
from vec2face.faces.subset import choose, copy_rows
from vec2face.params import Params


def main() -> None:
    """Choose twice, the second time among the identities left, and copy."""
    p = Params.load()
    source = open_source(p.paths.faces)
    pick = partial(
        choose,
        source.labels,
        images_per_identity=p.subset.images_per_identity,
        minimum_images=p.subset.minimum_images,
        seed=p.seed,
        where=p.paths.faces,
    )
    train = pick(identities=p.subset.identities)
    taken = np.unique(source.labels[train]).tolist()
    apart = pick(identities=p.subset.held_out, exclude=taken)
    for rows, path in ((train, "data/subset"), (apart, "data/held_out")):
        copy_rows(source, rows, path, seed=p.seed, made_by="stages/subset.py")


if __name__ == "__main__":
    run(main)
