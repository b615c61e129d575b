"""The certificate of labels against all pairs in float64, and what it must find."""

import logging

import numpy as np
import pytest

from tests.parameters import PAPER, SMOKE, changed
from vec2face.evaluation import labels as certificate
from vec2face.evaluation.labels import certify_features, certify_vectors, check
from vec2face.identities import cosines, products
from vec2face.runtime.files import InputError


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(certificate, "BLOCK", 30)
    monkeypatch.setattr(cosines, "BLOCK", 16)
    monkeypatch.setattr(products, "BLOCK", 16)
    monkeypatch.setattr(products, "TILE", 8)


def unit(rows):
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def crowd(noise, people=25, images=7, seed=0):
    rng = np.random.default_rng(seed)
    identities = rng.normal(size=(people, 20)).astype(np.float32)
    labels = np.repeat(np.arange(people), images)
    vectors = identities[labels] + noise * rng.normal(size=(len(labels), 20))
    return vectors.astype(np.float32), labels, identities


@pytest.mark.parametrize("noise", [0.2, 1.5])
def test_vectors_are_counted_as_in_all_pairs(tmp_path, noise):
    vectors, labels, identities = crowd(noise)
    record = certify_vectors(vectors, labels, identities, tmp_path / "vectors")
    gram = unit(vectors) @ unit(identities).T
    rows = np.arange(len(labels))
    own = gram[rows, labels]
    gram[rows, labels] = -2
    margin = own - gram.max(1)
    among = unit(identities) @ unit(identities).T
    half = np.degrees(np.arccos(among[np.triu_indices(25, 1)].max())) / 2
    assert record["mislabelled_vectors"] == (margin < 0).sum()
    assert (record["mislabelled_vectors"] > 0) == (noise > 1)
    assert record["vector_margin"] == pytest.approx(margin.min(), abs=1e-14)
    assert record["vector_margin_pair"] == [margin.argmin(), gram[margin.argmin()].argmax()]
    angle = np.degrees(np.arccos(own))
    assert record["vector_angle_max"] == pytest.approx(angle.max())
    assert record["automatic_angle"] == pytest.approx(half)
    assert record["automatic_share"] == pytest.approx((angle < half).mean())
    assert (margin[angle < half] > 0).all()


@pytest.mark.parametrize("names", [range(25), range(100, 50, -2)])
def test_features_are_compared_with_the_mean_of_the_others(tmp_path, names):
    features, labels, _ = crowd(1.2)
    named = np.array(names)[labels]
    record = certify_features(features, named, tmp_path / "features", "second_")
    margin, pair = np.inf, None
    wrong = 0
    for i, feature in enumerate(features):
        cosine = {}
        for person in set(named.tolist()):
            rows = (named == person) & (np.arange(len(labels)) != i)
            mean = features[rows].astype(np.float64).mean(0)
            cosine[person] = float(unit(feature[None])[0] @ mean / np.linalg.norm(mean))
        own = cosine.pop(int(named[i]))
        rival = max(cosine, key=cosine.__getitem__)
        wrong += cosine[rival] > own
        if own - cosine[rival] < margin:
            margin, pair = own - cosine[rival], [i, rival]
    assert 0 < wrong < len(labels)
    assert record["second_mislabelled_features"] == wrong
    assert record["second_mislabelled_share"] == pytest.approx(wrong / len(labels))
    assert record["second_feature_margin"] == pytest.approx(margin, abs=1e-6)
    assert record["second_feature_margin_pair"] == pair


def test_one_mislabelled_vector_is_found_with_its_pair(tmp_path):
    vectors, labels, identities = crowd(0.1)
    alike = {f"{prefix}mislabelled_share": 0.0 for prefix in ("", "second_")}
    sound = certify_vectors(vectors, labels, identities, tmp_path / "sound")
    check(sound | alike, SMOKE)
    vectors[99] = identities[3] + 0.01 * vectors[99]
    record = certify_vectors(vectors, labels, identities, tmp_path / "wrong")
    assert (record["mislabelled_vectors"], record["vector_margin_pair"]) == (1, [99, 3])
    with pytest.raises(InputError, match=r"1 image vectors .* image 99 most \(to identity 3\)"):
        check(record | alike, SMOKE)


WRONG = {
    "mislabelled_vectors": 2, "vector_margin_pair": [1, 2], "mislabelled_share": 0.0,
    "second_mislabelled_share": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"sampling__released": True},
        {"attrop": changed(PAPER.attrop, mode="printed")},
        {"attrop": changed(PAPER.attrop, mode="released")},
    ],
    ids=["released sampling", "printed AttrOP", "released AttrOP"],
)
def test_where_no_similarity_is_promised_wrong_vectors_are_warned_of(changes, caplog):
    with caplog.at_level(logging.WARNING):
        check(WRONG, changed(SMOKE, **changes))
    (message,) = caplog.messages
    assert message.startswith("2 image vectors are nearer to another identity")


def test_where_it_is_promised_the_error_names_what_can_be_changed():
    with pytest.raises(InputError, match="raise min_similarity, or lower sigma or tau"):
        check(WRONG, changed(SMOKE, attrop=PAPER.attrop))
    with pytest.raises(InputError, match="raise min_similarity, or lower max_angle or tau"):
        check(WRONG, changed(SMOKE, perturbation="angular"))


def test_features_beyond_the_limit_are_refused_under_either_recognizer():
    strict, lenient = (
        changed(SMOKE, certificates__mislabelled_features=share) for share in (0.01, 0.02)
    )
    record = {"mislabelled_vectors": 0, "mislabelled_share": 0.02, "feature_margin_pair": [1, 2]}
    second = {f"second_{key}": value for key, value in record.items()}
    check(record | second, lenient)
    with pytest.raises(InputError, match=r"2\.00% .* paths\.recognizer, image 1"):
        check(record | second, strict)
    with pytest.raises(InputError, match=r"paths\.second_recognizer"):
        check({"mislabelled_vectors": 0, "mislabelled_share": 0.0} | second, strict)


def test_people_of_one_image_have_nothing_to_be_compared_with(tmp_path):
    features, labels, identities = crowd(0.1, images=1)
    assert certify_features(features, labels, tmp_path / "features") == {}
    record = certify_vectors(features, labels, identities, tmp_path / "vectors")
    check(record, changed(SMOKE, images_per_identity=1))
    with pytest.raises(InputError, match="25 identities have one image, 0 none"):
        check(record, changed(SMOKE, images_per_identity=5))


def test_an_image_that_is_alone_is_left_out_and_the_others_are_compared(tmp_path):
    features, labels, identities = crowd(1.2)
    first, gone = np.flatnonzero(labels == 4)[0], labels == 9
    kept = np.flatnonzero(((labels != 4) | (np.arange(len(labels)) == first)) & ~gone)
    features, labels = features[kept], labels[kept]
    record = certify_features(features, labels, tmp_path / "features")
    margins = {}
    for i in np.flatnonzero(labels != 4):
        cosine = {}
        for person in set(labels.tolist()):
            rows = (labels == person) & (np.arange(len(labels)) != i)
            mean = features[rows].astype(np.float64).mean(0)
            cosine[person] = float(unit(features[i][None])[0] @ mean / np.linalg.norm(mean))
        own = cosine.pop(int(labels[i]))
        rival = max(cosine, key=cosine.__getitem__)
        margins[i, rival] = own - cosine[rival]
    wrong = sum(margin < 0 for margin in margins.values())
    assert record["mislabelled_features"] == wrong > 0
    assert record["mislabelled_share"] == pytest.approx(wrong / len(margins))
    assert record["feature_margin_pair"] == list(min(margins, key=margins.__getitem__))
    counted = certify_vectors(features, labels, identities, tmp_path / "vectors")
    assert (counted["images_alone"], counted["identities_without_images"]) == (1, 1)
