"""What check says of a sigma that leaves its identity too far behind."""

import numpy as np
import pytest

from tests.parameters import PAPER, ROOT, changed
from vec2face.config.params import Params
from vec2face.identities.pca import PCA
from vec2face.planning.reach import out_of_reach

DEFAULT = Params.load(ROOT / "params.yaml")


def levels(p, pca):
    return [line.split()[1] for line in out_of_reach(p, pca)]


@pytest.fixture
def pca(tmp_path):
    """People in 64 dimensions, whose image features have a standard deviation of 0.1."""
    people = 0.1 * np.random.default_rng(0).standard_normal((400, 64))
    PCA.fit(people, 0.1).save(tmp_path / "pca.npz")
    return tmp_path / "pca.npz"


def test_shipped_files_reach_their_similarity(tmp_path):
    for path in (ROOT / "params.yaml", *(ROOT / "params").glob("*.yaml")):
        assert not levels(Params.load(path), tmp_path / "none.npz")


def test_before_there_is_a_distribution_the_authors_features_stand_in(tmp_path):
    """cos = 1 / sqrt(1 + r^2) of noise of r features' deviations: 0.37 at r = 2.5."""
    wide = changed(DEFAULT, sigma=[0.3, 2.5], sigma_share=[0.5, 0.5])
    assert levels(wide, tmp_path / "none.npz") == ["2.5"]
    for values, far in (
        ({"sigma_is": "variance"}, []),  # r = sqrt(2.5) = 1.58: 0.53
        ({"sigma_unit": "absolute"}, ["2.5"]),
        ({"min_similarity": 0.3}, []),
        ({"sampling__released": True}, []),
    ):
        assert levels(changed(wide, **values), tmp_path / "none.npz") == far


def test_a_level_that_no_image_gets_is_named(tmp_path):
    few = {"images_per_identity": 6, "sigma": [0.3, 0.5, 0.6], "sigma_share": [0.98, 0.01, 0.01]}
    said = list(out_of_reach(changed(DEFAULT, **few), tmp_path / "none.npz"))
    assert [line.split()[6] for line in said] == ["0.5,", "0.6,"]
    assert all(line.startswith("sigma_share: no image gets sigma") for line in said)
    enough = few | {"images_per_identity": 100}
    released = few | {"sampling__released": True}  # every image draws its level
    for fine in (enough, released):
        assert not list(out_of_reach(changed(DEFAULT, **fine), tmp_path / "none.npz"))


def test_an_angle_that_the_similarity_hardly_allows_is_named(tmp_path):
    """0.8 degrees of 180 are 0.45 %, of 53 they are 1.5 %; sigma has no part in it."""
    turned = {"perturbation": "angular", "min_similarity": 0.9999, "sigma": [9], "sigma_share": [1]}
    (line,) = out_of_reach(changed(DEFAULT, max_angle=180, **turned), tmp_path / "none.npz")
    assert line.startswith("max_angle: 180 degrees hardly reach min_similarity = 0.9999: 0.0045 ")
    assert not list(out_of_reach(changed(DEFAULT, **turned), tmp_path / "none.npz"))


def test_short_features_make_an_absolute_sigma_wide(pca, tmp_path):
    papers = changed(DEFAULT, perturbation="gaussian", sigma=[0.3, 0.5, 0.7])
    assert not levels(papers, pca)
    absolute = changed(papers, sigma_unit="absolute")
    assert not levels(absolute, tmp_path / "none.npz")
    assert levels(absolute, pca) == ["0.3", "0.5", "0.7"]
    assert levels(PAPER, pca) == ["0.3", "0.5", "0.7"]
    (line, *_) = out_of_reach(absolute, pca)
    for part in ("sigma: 0.3 (std, absolute)", "min_similarity = 0.5", "shortest identity vector"):
        assert part in line
