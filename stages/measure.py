"""Stage 7b, quality of the generated images: separable, consistent, and true to held-out people?

    python -m stages.measure

Reads data/generated with its vectors, data/identities.npy, data/held_out with its features, the
generator and both recognizers; writes data/generated_features.npy (under the loss's recognizer) and
reports/quality.json (docs/measures.md describes its keys).

Several processes share generation and features, and a killed run goes on where it stopped.
"""

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from stages import run
from vec2face.config import Params
from vec2face.evaluation.quality import Subject, extract, measure
from vec2face.faces.source import open_source
from vec2face.generator.masks import masks
from vec2face.generator.released import open_generator
from vec2face.recognizers import features
from vec2face.recognizers.features import open_recognizer
from vec2face.runtime.blocks import code, stamp
from vec2face.runtime.checkpoint import work_folder
from vec2face.runtime.files import whole_file, write_json
from vec2face.runtime.processes import as_if_alone, processes

GENERATED, HELD_OUT = Path("data/generated"), Path("data/held_out")
VECTORS, IDENTITIES = Path("data/generated_vectors.npy"), Path("data/identities.npy")
HELD_OUT_FEATURES = Path("data/features/held_out.npy")
FEATURES, QUALITY = Path("data/generated_features.npy"), Path("reports/quality.json")
CODE = [
    *features.CODE,
    *code("randomness", "generator/network", "generator/released", "generator/masks"),
    *code("dataset/generate", "evaluation/quality"),
]


def main() -> None:
    """Measure everything under both recognizers."""
    p = Params.load()
    paths = [Path(p.paths.recognizer), Path(p.paths.second_recognizer)]
    recognizer, second = map(open_recognizer, paths)
    settings = p.sampling.masks.model_dump()
    subject = Subject(
        generator=open_generator(p.paths.generator).to(processes().device),
        masks=partial(masks, p.seed, **settings),
        identities=np.load(IDENTITIES),
        generated=open_source(GENERATED, verify=processes().main),
        vectors=np.load(VECTORS, mmap_mode="r"),
        held_out=open_source(HELD_OUT, verify=processes().main),
        held_out_features=np.load(HELD_OUT_FEATURES),
    )
    files = [Path(p.paths.generator), IDENTITIES, HELD_OUT_FEATURES, *paths, *CODE]
    work = work_folder("measure", p.seed, settings, stamp(GENERATED), stamp(HELD_OUT), *files)

    found = extract(subject, recognizer, second, work)
    if processes().main:
        with as_if_alone():
            quality = measure(subject, found)
        with whole_file(FEATURES) as temporary, temporary.open("wb") as file:
            np.save(file, found["generated"]["features"])
        write_json(QUALITY, quality)
        shutil.rmtree(work)


if __name__ == "__main__":
    run(main, shared=True)
