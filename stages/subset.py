"""Stage 2, subset: the faces that train the generator, and faces of other people kept apart.

    python -m stages.subset

Reads the faces at paths.faces; writes data/subset and data/held_out (FaceStores), whose manifests
count the entries that could not be read, if subset.corrupt lets them be skipped. Several processes
share the copying, and a killed run keeps the shards it has finished.
"""

from functools import partial
from pathlib import Path

import numpy as np

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.faces.source import open_source, readable
from vec2face.faces.subset import choose, choose_released, copy_rows
from vec2face.runtime.processes import processes
from vec2face.runtime.resume import resume


def main() -> None:
    """Choose twice, the second time among the identities left, and copy."""
    p = Params.load(artifacts.params)
    s, faces = p.subset, Path(p.paths.faces)
    source = open_source(faces, verify=processes().main, corrupt=s.corrupt)
    pick = partial(
        choose,
        source.labels,
        images_per_identity=s.images_per_identity,
        minimum_images=s.minimum_images,
        seed=p.seed,
        where=p.paths.faces,
    )
    if s.rule == "released":
        train = choose_released(
            source.labels, identities=s.identities, seed=p.seed, where=p.paths.faces
        )
    else:
        train = pick(identities=s.identities)
    apart = pick(identities=s.held_out, exclude=np.unique(source.labels[train]).tolist())
    found = [readable(source, rows, corrupt=s.corrupt) for rows in (train, apart)]
    settings = [p.seed, s.model_dump(mode="json")]
    with resume("subset", settings, [faces], artifacts.work) as work:
        stores = (artifacts.subset, artifacts.held_out)
        for (rows, skipped), store in zip(found, stores, strict=True):
            copy_rows(
                source,
                rows,
                store,
                work=work / store.name,
                seed=p.seed,
                made_by="stages/subset.py",
                skipped=skipped,
            )


if __name__ == "__main__":
    run(main, shared=True)
