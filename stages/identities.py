"""Stage 6, identity sampling: vectors of people who do not exist and do not resemble one another.

    python -m stages.identities

Reads models/pca.npz, and with away_from those sets and paths.recognizer; writes data/identities.npy
(identities, D) float32 and the certificate reports/sampling.json, and says how long it took. A run
that was killed, or found too few, keeps the features it has finished, whatever tau is next.
"""

import contextlib
import logging
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.faces.reading import read_array
from vec2face.faces.source import open_readable
from vec2face.identities.cosines import Kept
from vec2face.identities.filter import certificate, keep_away, sample_identities
from vec2face.identities.pca import PCA
from vec2face.recognizers.features import extract_to, open_recognizer
from vec2face.recognizers.statistics import identity_means
from vec2face.runtime.files import whole_file, write_json
from vec2face.runtime.resume import resume

log = logging.getLogger(__name__)


def main() -> None:
    """Sample, prove, write."""
    p = Params.load(artifacts.params)
    pca = PCA.load(artifacts.pca)
    with real_people(p) as away:
        started = time.perf_counter()
        sampled = sample_identities(
            partial(pca.sample, p.sampling_seed, "identity"), p.identities, p.tau, away=away
        )
        done = time.perf_counter()
        record = certificate(sampled, p.tau, p.sampling_seed, away)
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


@contextlib.contextmanager
def real_people(p: Params) -> Iterator[Kept | None]:
    """Yield the people of away_from, by their mean features, which stay unless the block ends well.

    They depend on neither tau nor away_cosine, and are found again when one of these is changed.
    """
    if not p.away_from:
        yield None
        return
    sets, recognizer = list(map(Path, p.away_from)), Path(p.paths.recognizer)
    people = []
    with resume(
        "identities", [p.away_from, p.subset.corrupt], [*sets, recognizer], artifacts.work
    ) as work:
        judge = open_recognizer(recognizer)
        for number, path in enumerate(sets):
            source = open_readable(path, corrupt=p.subset.corrupt)
            features = work / f"{number}.npy"
            extract_to(features, judge, source)
            people.append(identity_means(read_array(features), source.labels))
        yield keep_away(np.concatenate(people), p.away_cosine)


if __name__ == "__main__":
    run(main)
