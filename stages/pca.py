"""Stage 5, PCA: the distribution of identity features, on people the generator never saw.

    python -m stages.pca

Reads the faces at paths.pca_faces; writes models/pca.npz. Several processes share the extraction of
features, and a killed run goes on where it stopped.
"""

import shutil
from pathlib import Path

import numpy as np

from stages import run
from vec2face.config import Params
from vec2face.faces.source import open_readable
from vec2face.identities.pca import PCA
from vec2face.recognizers.features import CODE, extract_to, open_recognizer
from vec2face.recognizers.statistics import feature_scale, identity_means
from vec2face.runtime.blocks import stamp
from vec2face.runtime.checkpoint import work_folder
from vec2face.runtime.processes import as_if_alone, processes


def main() -> None:
    """Extract, average per identity, fit."""
    p = Params.load()
    source = open_readable(p.paths.pca_faces, corrupt=p.subset.corrupt)
    recognizer = Path(p.paths.recognizer)
    work = work_folder("pca", recognizer, p.subset.corrupt, stamp(p.paths.pca_faces), *CODE)
    extract_to(work / "features.npy", open_recognizer(recognizer), source)
    if processes().main:
        features = np.asarray(np.load(work / "features.npy", mmap_mode="r"))
        with as_if_alone():
            people = identity_means(features, source.labels)
            PCA.fit(people, feature_scale(features)).save(Path("models/pca.npz"))
        del features
        shutil.rmtree(work)


if __name__ == "__main__":
    run(main, shared=True)
