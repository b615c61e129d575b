"""Stage 11, certificate of labels: is every image nearer to its own identity than to any other?

    python -m stages.labels

Reads data/generated with its vectors, data/identities.npy and both recognizers; writes
data/image_features (of all generated images under both) and reports/labels.json. It fails if a
vector is nearer to another identity though min_similarity was kept to, or more features than
certificates.mislabelled_features allows.

Several processes share features and comparisons, and a killed run goes on where it stopped.
"""

from pathlib import Path

import numpy as np

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.evaluation.labels import certify_features, certify_vectors, check
from vec2face.evaluation.quality import PREFIXES
from vec2face.faces.reading import read_array
from vec2face.faces.source import open_source
from vec2face.recognizers.features import extract_to, open_recognizer
from vec2face.runtime.files import link, whole_folder, write_json
from vec2face.runtime.processes import processes
from vec2face.runtime.resume import resume


def main() -> None:
    """Prove, write, and refuse a set with wrong labels."""
    p = Params.load(artifacts.params)
    recognizers = dict(
        zip(PREFIXES, map(Path, (p.paths.recognizer, p.paths.second_recognizer)), strict=True)
    )
    generated = open_source(artifacts.generated, verify=processes().main)
    vectors, identities = artifacts.generated_vectors, artifacts.identities
    inputs = [artifacts.generated, vectors, identities, *recognizers.values()]
    with resume("labels", [], inputs, artifacts.work) as work:
        labels = generated.labels
        people = np.array(read_array(identities))
        record = certify_vectors(read_array(vectors), labels, people, work / "vectors")
        for prefix, file in recognizers.items():
            found = work / f"{prefix}features.npy"
            extract_to(found, open_recognizer(file), generated)
            record |= certify_features(read_array(found), labels, work / f"{prefix}judged", prefix)
        if processes().main:
            with whole_folder(artifacts.image_features) as folder:
                for prefix in recognizers:
                    name = artifacts.features_of_images(prefix).name
                    link(work / f"{prefix}features.npy", folder / name)
            write_json(artifacts.labels, record)
            check(record, p)  # what was found stays for a rerun


if __name__ == "__main__":
    run(main, shared=True)
