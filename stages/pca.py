"""Stage 5, PCA: the distribution of identity features, on people the generator never saw.

    python -m stages.pca

Reads the faces at paths.pca_faces; writes models/pca.npz.
"""

from pathlib import Path

from stages import run
from vec2face.faces.source import open_readable
from vec2face.models.features import extract, open_recognizer
from vec2face.params import Params
from vec2face.sampling.pca import PCA, feature_scale, identity_means


def main() -> None:
    """Extract, average per identity, fit."""
    p = Params.load()
    source = open_readable(p.paths.pca_faces, corrupt=p.subset.corrupt)
    features = extract(open_recognizer(p.paths.recognizer), source)
    people = identity_means(features, source.labels)
    PCA.fit(people, feature_scale(features)).save(Path("models/pca.npz"))


if __name__ == "__main__":
    run(main)
