"""Stage 10, quality of the generated images: separable, consistent, and true to held-out people?

    python -m stages.measure

Reads data/generated with its vectors, data/identities.npy, data/held_out with its features, the
generator and both recognizers; writes data/generated_features.npy (under the loss's recognizer) and
reports/quality.json (docs/measures.md describes its keys).

Several processes share generation and features, and a killed run goes on where it stopped.
"""

from functools import partial
from pathlib import Path

import numpy as np

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.evaluation.quality import Subject, extract, measure
from vec2face.faces.reading import read_array
from vec2face.faces.source import open_source
from vec2face.generator.masks import masks
from vec2face.generator.released import open_generator
from vec2face.recognizers.features import open_recognizer
from vec2face.runtime.files import whole_file, write_json
from vec2face.runtime.processes import as_if_alone, processes
from vec2face.runtime.resume import resume


def main() -> None:
    """Measure everything under both recognizers."""
    p = Params.load(artifacts.params)
    stores = [artifacts.generated, artifacts.held_out]
    generator, *recognizers = map(
        Path, (p.paths.generator, p.paths.recognizer, p.paths.second_recognizer)
    )
    ratios = p.sampling.masks.model_dump()
    generated, held_out = (open_source(store, verify=processes().main) for store in stores)
    subject = Subject(
        generator=open_generator(generator).to(processes().device),
        masks=partial(masks, p.sampling_seed, **ratios),
        identities=np.array(read_array(artifacts.identities)),
        generated=generated,
        vectors=read_array(artifacts.generated_vectors),
        held_out=held_out,
        held_out_features=np.array(read_array(artifacts.held_out_features)),
    )
    inputs = [*stores, artifacts.identities, artifacts.held_out_features, generator, *recognizers]
    with resume("measure", [p.sampling_seed, ratios], inputs, artifacts.work) as work:
        judge, second = map(open_recognizer, recognizers)
        found = extract(subject, judge, second, work)
        if processes().main:
            with as_if_alone():
                quality = measure(subject, found)
            with whole_file(artifacts.generated_features) as temporary, temporary.open("wb") as f:
                np.save(f, found["generated"]["features"])
            write_json(artifacts.quality, quality)


if __name__ == "__main__":
    run(main, shared=True)
