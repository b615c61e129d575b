"""Stage 5, PCA: the distribution of identity features, on people the generator never saw.

    python -m stages.pca

Reads the faces at paths.pca_faces; writes models/pca.npz. Several processes share the extraction of
features, and a killed run goes on where it stopped.
"""

from pathlib import Path

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.faces.reading import read_array
from vec2face.faces.source import open_readable
from vec2face.identities.pca import PCA
from vec2face.recognizers.features import extract_to, open_recognizer
from vec2face.recognizers.statistics import feature_scale, identity_means, within_covariance
from vec2face.runtime.processes import as_if_alone, processes
from vec2face.runtime.resume import resume


def main() -> None:
    """Extract, average per identity, fit."""
    p = Params.load(artifacts.params)
    faces, recognizer = Path(p.paths.pca_faces), Path(p.paths.recognizer)
    source = open_readable(faces, corrupt=p.subset.corrupt)
    with resume("pca", [p.subset.corrupt], [faces, recognizer], artifacts.work) as work:
        extract_to(work / "features.npy", open_recognizer(recognizer), source)
        if processes().main:
            features = read_array(work / "features.npy")
            with as_if_alone():
                people = identity_means(features, source.labels)
                within = within_covariance(features, source.labels)
                PCA.fit(people, feature_scale(features), within).save(artifacts.pca)


if __name__ == "__main__":
    run(main, shared=True)
