"""Some rows alone have the bytes that they have in the whole set, in the small world of AttrOP."""

from functools import partial

import numpy as np
import pytest

from tests.dataset.test_aims import IDENTITIES, MIXTURE, aims, run
from tests.dataset.test_attrop import NETWORKS
from vec2face.dataset import generate, rows
from vec2face.dataset.recipe import Recipe
from vec2face.dataset.rows import Rows
from vec2face.faces.source import open_source
from vec2face.generator.masks import masks

RECIPE = Recipe(
    NETWORKS.generator,
    partial(masks, 4, minimum=0.1, maximum=1.0, mean=0.15),
    quality=95,
    truncated=False,
    batch=4,
)


@pytest.mark.parametrize(
    "wanted",
    [None, aims(), aims(unconverged="drop", steps=2), aims(mode="printed", steps=2)],
    ids=["plain", "ours", "dropping", "printed"],
)
def test_rows_are_those_of_the_set(tmp_path, monkeypatch, wanted):
    monkeypatch.setattr(generate, "BLOCK", 16)
    monkeypatch.setattr(rows, "BLOCK", 16)
    summary = run(tmp_path, wanted, batch=4)
    store, vectors = open_source(tmp_path / "generated"), np.load(tmp_path / "vectors.npy")
    whole = Rows(RECIPE, MIXTURE, IDENTITIES, wanted)
    made = list(whole.make(range(60)))
    assert [row.jpeg for row in made] == [store.encoded(i) for i in range(len(store))]
    assert np.array_equal(np.stack([row.vector for row in made]), vectors)
    assert [row.sample // 10 for row in made] == store.labels.tolist()
    if wanted is not None:
        found = wanted.summary(whole.counts)
        assert {name: summary[name] for name in found} == found
    by_number = {row.sample: row for row in made}
    for samples in ([59], [3, 17, 18, 40], [33, 32, 33]):
        for row in Rows(RECIPE, MIXTURE, IDENTITIES, wanted).make(samples):
            assert row.jpeg == by_number[row.sample].jpeg
            assert np.array_equal(row.vector, by_number[row.sample].vector)


def test_a_row_costs_its_batch_alone(monkeypatch):
    drawn = []

    def count(generator, vectors, *arguments, **options):
        drawn.append(len(vectors))
        return draw(generator, vectors, *arguments, **options)

    draw = rows.generate_images
    monkeypatch.setattr(rows, "generate_images", count)
    assert [row.sample for row in Rows(RECIPE, MIXTURE, IDENTITIES).make([37])] == [37]
    assert drawn == [4]
