"""Stage 2, subset: the faces that train the generator, and faces of other people kept apart.

    python -m stages.subset

Reads the faces at paths.faces; writes data/subset and data/held_out (FaceStores), whose manifests
count the entries that could not be read, if subset.corrupt lets them be skipped.
"""

from functools import partial

import numpy as np

from stages import run
from vec2face.faces.source import open_source, readable
from vec2face.faces.subset import choose, choose_released, copy_rows
from vec2face.params import Params


def main() -> None:
    """Choose twice, the second time among the identities left, and copy."""
    p = Params.load()
    source = open_source(p.paths.faces, corrupt=p.subset.corrupt)
    pick = partial(
        choose,
        source.labels,
        images_per_identity=p.subset.images_per_identity,
        minimum_images=p.subset.minimum_images,
        seed=p.seed,
        where=p.paths.faces,
    )
    if p.subset.rule == "released":
        train = choose_released(
            source.labels, identities=p.subset.identities, seed=p.seed, where=p.paths.faces
        )
    else:
        train = pick(identities=p.subset.identities)
    taken = np.unique(source.labels[train]).tolist()
    apart = pick(identities=p.subset.held_out, exclude=taken)
    found = [readable(source, rows, corrupt=p.subset.corrupt) for rows in (train, apart)]
    for (rows, skipped), path in zip(found, ("data/subset", "data/held_out"), strict=True):
        copy_rows(source, rows, path, seed=p.seed, made_by="stages/subset.py", skipped=skipped)


if __name__ == "__main__":
    run(main)
