"""Training sets made of others, and identity vectors drawn together."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations import sets
from ablations.alike import drawn_together
from stages.artifacts import Artifacts
from tests.parameters import SMOKE, changed
from vec2face.faces.images import encode
from vec2face.faces.source import open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.runtime.files import InputError

LABELS = np.repeat([3, 1, 0, 5], [4, 6, 5, 4])


@given(st.integers(1, 4), st.integers(1, 3))
def test_smaller_sets_are_parts_of_larger_ones(people, images):
    rows = sets.chosen(LABELS, people, images, seed=1)
    assert sorted({*LABELS[rows]}) == [0, 1, 3, 5][:people]
    assert np.unique(LABELS[rows], return_counts=True)[1].tolist() == [images] * people
    assert {*rows} <= {*sets.chosen(LABELS, people, images + 1, seed=1)}
    assert {*rows} <= {*sets.chosen(LABELS, None, images, seed=1)}
    assert len(sets.chosen(LABELS, None, None, seed=1)) == len(LABELS)


def test_more_than_there_are_is_refused():
    with pytest.raises(InputError, match="--people 5: only 4"):
        sets.chosen(LABELS, 5, None, 0)
    with pytest.raises(InputError, match="--images 5: identity 3 has 4"):
        sets.chosen(LABELS, None, 5, 0)


def store(path, count, shade):
    rng = np.random.default_rng(shade)
    images = rng.integers(0, 256, (count * 4, 14, 14, 3), np.uint8)
    with FaceStoreWriter(path, image_size=14, seed=0, made_by="test") as faces:
        faces.extend([encode(image, 95) for image in images], np.repeat(np.arange(count), 4))


def test_a_set_has_the_first_people_and_others_beside_them(tmp_path, monkeypatch):
    files = Artifacts(tmp_path)
    files.params.write_text(changed(SMOKE, attrop=None).model_dump_json())
    store(files.generated, 5, 0)
    store(tmp_path / "others", 3, 1)
    monkeypatch.setattr(sets, "artifacts", files)
    arguments = ["sets", "mixed", "--people", "2", "--beside", str(tmp_path / "others")]
    monkeypatch.setattr(sys, "argv", arguments)
    sets.main()
    made = open_source(tmp_path / "data/sets/mixed")
    assert made.labels.tolist() == np.repeat(np.arange(5), 4).tolist()
    own, others = open_source(files.generated), open_source(tmp_path / "others")
    expected = [own.encoded(i) for i in range(8)] + [others.encoded(i) for i in range(12)]
    assert [made.encoded(i) for i in range(20)] == expected


@given(st.sampled_from([0.0, 0.56, 0.7, 0.88]))
def test_vectors_drawn_together_have_the_mean_cosine(cosine):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 256)) * rng.uniform(1, 3, (60, 1))
    made = drawn_together(vectors, rng.normal(size=256), cosine)
    length = np.linalg.norm(made, axis=1)
    assert length == pytest.approx(np.linalg.norm(vectors, axis=1), rel=1e-5)
    products = (made / length[:, None]) @ (made / length[:, None]).T
    among = products[np.triu_indices(60, 1)]
    assert among.mean() == pytest.approx(cosine, abs=0.01)
    assert among.std() == pytest.approx((1 - cosine) / 16, rel=0.2)  # of random directions


def test_vectors_drawn_apart_only_lose_the_common_direction():
    vectors = np.eye(4)[1:]
    made = drawn_together(vectors, np.eye(4)[0] * 7, 0.0)
    np.testing.assert_allclose(made, vectors, atol=1e-6)
