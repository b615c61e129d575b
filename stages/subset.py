"""Stage 2, subset: the faces that train the generator, and faces of other people kept apart.

    python -m stages.subset

Reads the faces at paths.faces; writes data/subset and data/held_out (FaceStores), whose manifests
count the entries that could not be read, if subset.corrupt lets them be skipped. Several processes
share the copying, and a killed run keeps the shards it has finished.
"""

import hashlib
import shutil
from functools import partial

import numpy as np

from stages import run
from vec2face.config import Params
from vec2face.faces.source import open_source, readable
from vec2face.faces.subset import choose, choose_released, copy_rows
from vec2face.runtime.blocks import code, stamp
from vec2face.runtime.checkpoint import work_folder
from vec2face.runtime.processes import processes

CODE = code(  # what decides which image a row is, and the bytes of a store
    *("faces/source", "faces/listing", "faces/archive", "faces/database"),
    *("faces/record", "faces/store", "faces/store_writer", "faces/subset"),
)


def main() -> None:
    """Choose twice, the second time among the identities left, and copy."""
    p = Params.load()
    source = open_source(p.paths.faces, verify=processes().main, corrupt=p.subset.corrupt)
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
    chosen = [hashlib.sha256(rows.tobytes()).hexdigest() for rows, _ in found]
    work = work_folder("subset", p.seed, chosen, stamp(p.paths.faces), *CODE)
    for (rows, skipped), name in zip(found, ("subset", "held_out"), strict=True):
        copy_rows(
            source,
            rows,
            f"data/{name}",
            work=work / name,
            seed=p.seed,
            made_by="stages/subset.py",
            skipped=skipped,
        )
    if processes().main:
        shutil.rmtree(work)


if __name__ == "__main__":
    run(main, shared=True)
