"""Rendered world, faces: one store of rendered people.

    python -m stages.rendered_faces faces

Reads data/rendered/head.npz; writes data/rendered/<store> (a FaceStore) and, beside it,
data/rendered/<store>-attributes (person, sex, pose, ... of every row). A killed run continues.
"""

import sys

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.rendered.stores import write_store
from vec2face.runtime.files import InputError
from vec2face.runtime.resume import resume


def main(name: str) -> None:
    """Render the store that params call ``rendered.stores.<name>``."""
    p = Params.load(artifacts.params)
    if name not in p.rendered.stores:
        raise InputError(
            f"params.yaml: rendered.stores.{name} is missing; say its people and images"
        )
    store = p.rendered.stores[name]
    size = p.rendered.image_size
    settings = [name, p.seed, size, store.model_dump()]
    with resume("rendered_faces", settings, [artifacts.head], artifacts.work) as work:
        write_store(
            artifacts.head,
            artifacts.rendered_store(name),
            seed=p.seed,
            people=store.people,
            images=store.images,
            size=size,
            work=work,
            regime=store.regime,
            made_by="stages/rendered_faces.py",
        )


if __name__ == "__main__":
    run(main, *sys.argv[1:])
