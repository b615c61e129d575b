"""Stage 6, identity sampling: vectors of people who do not exist and do not resemble one another.

    python -m stages.identities

Reads models/pca.npz; writes data/identities.npy (identities, D) float32 and the certificate
reports/sampling.json, and says how long it took.
"""

import logging
import time
from functools import partial

import numpy as np

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.identities.filter import certificate, sample_identities
from vec2face.identities.pca import PCA
from vec2face.runtime.files import whole_file, write_json

log = logging.getLogger(__name__)


def main() -> None:
    """Sample, prove, write."""
    p = Params.load(artifacts.params)
    pca = PCA.load(artifacts.pca)
    seed = p.sampling_seed
    started = time.perf_counter()
    sampled = sample_identities(partial(pca.sample, seed, "identity"), p.identities, p.tau)
    done = time.perf_counter()
    record = certificate(sampled, p.tau, seed)
    took = done - started, time.perf_counter() - done
    log.info(
        "sampled %d of %d candidates in %.1f s, proved it in %.1f s",
        len(sampled.vectors),
        sampled.drawn,
        *took,
    )
    spectrum = {f"pca_{key}": value for key, value in pca.spectrum().items()}
    with whole_file(artifacts.identities) as temporary, temporary.open("wb") as file:
        np.save(file, sampled.vectors)
    write_json(artifacts.certificate, record | spectrum | {"feature_scale": pca.feature_scale})


if __name__ == "__main__":
    run(main)
