"""Stage 12, certificate of leaks: do generated people resemble real ones?

    python -m stages.leaks

Reads the generator, its training and held-out faces with their features, data/identities.npy, the
generated images' features, the faces of the PCA and the benchmarks, and paths.recognizer; writes
reports/leaks.json.

Several processes share features and comparisons, and a killed run goes on where it stopped.
"""

from functools import partial
from pathlib import Path

import numpy as np

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.dataset.generate import generate_images
from vec2face.evaluation.leaks import Baseline, Known, draw_alike, find_leaks, membership, overlaps
from vec2face.evaluation.reconstruction import feature_cosine
from vec2face.faces.benchmarks import BenchmarkFaces
from vec2face.faces.reading import read_array
from vec2face.faces.source import open_readable, open_source
from vec2face.generator.masks import masks
from vec2face.generator.released import open_generator
from vec2face.identities.nearest import Crowd
from vec2face.recognizers.features import extract_to, open_recognizer
from vec2face.recognizers.statistics import identity_means
from vec2face.runtime.blocks import Arrays, Blocks
from vec2face.runtime.files import write_json
from vec2face.runtime.processes import processes
from vec2face.runtime.resume import resume

FACES = 2000  # at most, of training and of held-out people each, for the membership test
BLOCK = 128  # of them at a time


def main() -> None:
    """Search everybody everywhere."""
    p = Params.load(artifacts.params)
    rate, ratios = p.certificates.false_alarm_rate, p.sampling.masks.model_dump()
    recognizer, pca_faces, benchmarks, generator = map(
        Path, (p.paths.recognizer, p.paths.pca_faces, p.paths.benchmarks, p.paths.generator)
    )
    image_features = artifacts.features_of_images("")
    trained, held_out, generated = (
        open_source(store, verify=processes().main)
        for store in (artifacts.subset, artifacts.held_out, artifacts.generated)
    )
    training, apart = map(read_array, (artifacts.train_features, artifacts.held_out_features))
    inputs = [
        *(artifacts.subset, artifacts.train_features, artifacts.held_out),
        *(artifacts.held_out_features, artifacts.identities, artifacts.generated, image_features),
        *(recognizer, pca_faces, benchmarks, generator),
    ]
    with resume("leaks", [p.seed, ratios, rate, p.subset.corrupt], inputs, artifacts.work) as work:
        judge = open_recognizer(recognizer)
        others, marks = (
            open_readable(pca_faces, corrupt=p.subset.corrupt),
            BenchmarkFaces(benchmarks),
        )
        extract_to(work / "pca.npy", judge, others)
        extract_to(work / "benchmarks.npy", judge, marks)
        baseline = Baseline(training, trained.labels)
        known = {
            "training": Known(Crowd.of(baseline.means)),
            "pca": Known(Crowd.of(identity_means(read_array(work / "pca.npy"), others.labels))),
            "benchmark": Known(Crowd.of(read_array(work / "benchmarks.npy")), faces=True),
        }
        images = read_array(image_features)
        people = {
            "vector": np.array(read_array(artifacts.identities)),
            "identity": identity_means(images, generated.labels),
            "image": images,
        }
        record: dict[str, float] = {**find_leaks(people, known, baseline, rate, work)}
        record |= overlaps(known, baseline, rate, work)

        rows = draw_alike([trained.labels, held_out.labels], p.seed, FACES)
        originals = np.concatenate([training[rows[0]], apart[rows[1]]])
        network = open_generator(generator).to(processes().device)
        drawn = partial(masks, p.seed, purpose="membership mask", **ratios)

        def make(first: int) -> Arrays:
            faces = originals[first : first + BLOCK]
            copies = judge.features(generate_images(network, faces, drawn, first))
            return {"cosine": feature_cosine(faces, copies)}

        blocks, firsts = Blocks(work / "membership", make), range(0, len(originals), BLOCK)
        blocks.finish(firsts, "membership")
        if processes().main:
            cosine = blocks.join(firsts)["cosine"]
            members = len(rows[0])
            record |= membership(
                *(cosine[:members], trained.labels[rows[0]]),
                *(cosine[members:], held_out.labels[rows[1]]),
            )
            write_json(artifacts.leaks, record)


if __name__ == "__main__":
    run(main, shared=True)
