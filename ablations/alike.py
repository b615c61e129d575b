"""Identity vectors that resemble one another (paper, Table 7): the sampled ones, drawn together.

    python -m ablations.alike 0.88

In the place of the stage ``identities``, whose files it writes. The paper does not say how its
similar identities were drawn. Here they share a direction: that of one more sampled vector.
"""

import sys

import numpy as np

from stages import identities, run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.faces.reading import read_array
from vec2face.identities.cosines import largest_cosine, norms
from vec2face.identities.pca import PCA
from vec2face.report.tables import read_json
from vec2face.runtime.files import whole_file, write_json


def drawn_together(vectors: np.ndarray, direction: np.ndarray, cosine: float) -> np.ndarray:
    """Turn vectors (n, D) towards a direction (D,) until that share of each is common to all.

    A vector of length 1 becomes sqrt(cosine) of the direction plus sqrt(1 - cosine) of what the
    vector has across it. The cosine of two is ``cosine`` plus (1 - ``cosine``) times that of what
    they have across it. Lengths stay.

    Args:
        vectors: of any lengths.
        direction: of any length.
        cosine: in [0, 1].

    Returns:
        (n, D) float32.
    """
    common = direction.astype(np.float64) / np.linalg.norm(direction)
    across = vectors - np.outer(vectors @ common, common)
    across /= norms(across)[:, None]
    unit = np.sqrt(cosine) * common + np.sqrt(1 - cosine) * across
    return (norms(vectors)[:, None] * unit).astype(np.float32)


def main(cosine: str) -> None:
    """Sample as the stage does, then turn."""
    p = Params.load(artifacts.params)
    identities.main()
    vectors = np.array(read_array(artifacts.identities))
    direction = PCA.load(artifacts.pca).sample(p.sampling_seed, "common direction", 0, 1)[0]
    vectors = drawn_together(vectors, direction, float(cosine))
    with whole_file(artifacts.identities) as temporary, temporary.open("wb") as file:
        np.save(file, vectors)
    record = read_json(artifacts.certificate)
    largest, *pair = largest_cosine(vectors)
    record |= {"largest_cosine": largest, "largest_cosine_pair": pair}
    write_json(artifacts.certificate, record)


if __name__ == "__main__":
    run(main, *sys.argv[1:])
