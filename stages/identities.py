"""Stage 6, identity sampling: vectors of people who do not exist and do not resemble one another.

    python -m stages.identities

Reads models/pca.npz; writes data/identities.npy (identities, D) float32 and the certificate
reports/sampling.json.
"""

from functools import partial
from pathlib import Path

import numpy as np

from stages import run
from vec2face.files import whole_file, write_json
from vec2face.params import Params
from vec2face.sampling.identities import certificate, sample_identities
from vec2face.sampling.pca import PCA


def main() -> None:
    """Sample, prove, write."""
    p = Params.load()
    pca = PCA.load(Path("models/pca.npz"))
    sampled = sample_identities(partial(pca.sample, p.seed, "identity"), p.identities, p.tau)
    record = certificate(sampled, p.tau, p.seed)
    spectrum = {f"pca_{key}": value for key, value in pca.spectrum().items()}
    with whole_file("data/identities.npy") as temporary, temporary.open("wb") as file:
        np.save(file, sampled.vectors)
    write_json("reports/sampling.json", record | spectrum | {"feature_scale": pca.feature_scale})


if __name__ == "__main__":
    run(main)
