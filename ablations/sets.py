"""A training set made of the generated one: its first identities, some images of each, others too.

    python -m ablations.sets first_100 --people 100
    python -m ablations.sets mixed --beside data/rendered/real

Reads data/generated; writes data/sets/<name>, a FaceStore, in the current folder.
"""

import argparse
from pathlib import Path

import numpy as np

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.faces.convert import merge
from vec2face.faces.source import open_source
from vec2face.faces.subset import copy_rows
from vec2face.randomness import stream
from vec2face.runtime.files import InputError
from vec2face.runtime.resume import resume


def chosen(labels: np.ndarray, people: int | None, images: int | None, seed: int) -> np.ndarray:
    """Return the rows of the first identities and of some images of each, in order.

    Args:
        labels: (n,), every row's identity.
        people: how many identities; None for all.
        images: how many images of each, drawn at random: fewer are among more. None for all.
        seed: of the draw.

    Raises:
        InputError: there are not so many.
    """
    found = np.unique(labels)
    if people is not None and people > len(found):
        raise InputError(f"--people {people}: only {len(found)} identities were generated")
    rows = []
    for label in found[:people]:
        own = np.flatnonzero(labels == label)
        if images is not None and images > len(own):
            raise InputError(f"--images {images}: identity {label} has {len(own)}")
        order = stream(seed, "images of a set", int(label)).permutation(len(own))
        rows.append(np.sort(own[order[:images]]))
    return np.concatenate(rows)


def main() -> None:
    """Write a set."""
    given = arguments()
    p = Params.load(artifacts.params)
    source = open_source(artifacts.generated)
    rows = chosen(source.labels, given.people, given.images, p.sampling_seed)
    destination = artifacts.root / "data/sets" / given.name
    settings = ["set", p.sampling_seed, given.people, given.images]
    added = [Path(given.beside)] if given.beside else []
    with resume("subset", settings, [artifacts.generated, *added], artifacts.work) as work:
        first = work / "first" if added else destination
        made_by = "ablations/sets.py"
        copy_rows(source, rows, first, work=work / "rows", seed=p.sampling_seed, made_by=made_by)
        if added:
            both = [open_source(path) for path in (first, *added)]
            merge(both, destination, form="store", made_by=made_by)


def arguments() -> argparse.Namespace:
    """Read what the program is given."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--people", type=int)
    parser.add_argument("--images", type=int)
    parser.add_argument("--beside")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
