"""Drawing faces from the command line, on random networks."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from stages import dataset, identities
from tests.benchmarks.test_attrop import folder  # noqa: F401 - a fixture
from tests.parameters import ROOT, changed
from vec2face.cli import main
from vec2face.config.params import Params
from vec2face.dataset.recipe import Recipe
from vec2face.faces.images import decode, encode
from vec2face.faces.source import load_images, open_source
from vec2face.identities.pca import PCA
from vec2face.recognizers.features import open_recognizer

pytestmark = pytest.mark.usefixtures("folder")
OWN = ("--vectors", "data/identities.npy")


def set_params(**values):
    p = changed(Params.load("params.yaml"), **values)
    Path("params.yaml").write_text(yaml.safe_dump(p.model_dump(mode="json")))


def result(capsys, *arguments):
    """Run a command that ends well; return its result."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def images(store):
    source = open_source(store)
    return [source.encoded(i) for i in range(len(source))]


def test_the_bytes_are_those_of_the_pipeline(capsys):
    set_params(attrop__groups=[{"share": 0.5, "aims": {"yaw": 1}}], attrop__steps=1)
    dataset.main()
    whole, vectors = images("data/generated"), np.load("data/generated_vectors.npy")
    of = (*OWN, "--attrop")
    found = result(capsys, "generate", "new", "--people", 2, *of)
    assert (found["images"], found["people"]) == (8, 2)
    assert images("new") == whole[:8]
    assert np.array_equal(np.load("new_vectors.npy"), vectors[:8])
    result(capsys, "generate", "rows", "--row", 10, 5, *of)
    assert images("rows") == [whole[5], whole[10]]
    assert open_source("rows").labels.tolist() == [1, 2]
    assert main(["generate", "more", "--row", "12", *of]) == 2
    assert "--row: 12 of rows 0 .. 11" in capsys.readouterr().err


def test_sampled_people_are_the_first_of_the_run(capsys):
    set_params(attrop=None, tau=0.9, identities=3)
    identities.main()
    dataset.main()
    result(capsys, "generate", "new", "--people", 2)
    assert images("new") == images("data/generated")[:8]
    result(capsys, "generate", "row", "--row", 9)
    assert images("row") == images("data/generated")[9:10]
    found = result(capsys, "generate", "other", "--people", 2, "--seed", 7)
    assert found["seed"] == 7
    assert images("other") != images("new")
    set_params(away_from=["faces"])
    assert main(["generate", "away"]) == 2
    assert "away_from in params.yaml" in capsys.readouterr().err


def test_photographs_give_the_mean_feature_of_each_person(capsys):
    Path("me.jpg").write_bytes(open_source("faces").encoded(1))
    result(capsys, "features", "faces", "f.npy")
    result(capsys, "features", "me.jpg", "me.npy")
    alike = ("--sigma", 0, "--images", 1)
    found = result(capsys, "generate", "new", "--faces", "faces", "me.jpg", *alike)
    assert (found["images"], found["sigma"]) == (3, [0.0])
    expected = np.concatenate([np.load("f.npy"), np.load("me.npy")])
    assert np.load("new_vectors.npy") == pytest.approx(expected, rel=1e-5)
    main(["generate", "sheet.png", "--faces", "faces", "--images", "3", "--sigma", "0.1", "0.2"])
    height, width, _ = decode(Path("sheet.png").read_bytes(), "sheet").shape
    assert height == pytest.approx(30 + 2 * 115 - 3, abs=1)
    assert width > 4 * 115  # the photograph and three images


def test_features_are_those_of_the_recognizer(capsys):
    found = result(capsys, "features", "faces", "f.npy", "--recognizer", "second.safetensors")
    assert found["shape"] == [2, 12]
    recognizer, pictures = (
        open_recognizer("second.safetensors"),
        load_images(open_source("faces"), 56),
    )
    plain = recognizer.features(pictures)
    assert np.array_equal(np.load("f.npy"), plain)
    result(capsys, "features", "faces", "g.npy", "--flip", "--recognizer", "second.safetensors")
    flipped = plain + recognizer.features(np.ascontiguousarray(pictures[:, :, ::-1]))
    assert np.array_equal(np.load("g.npy"), flipped)
    assert main(["features", "faces", "g.npy"]) == 2


def test_attributes_are_aimed_at_in_all_images(capsys):
    found = result(
        capsys, "generate", "new", "--people", 1, "--yaw", "1", "--vectors", "data/identities.npy"
    )
    assert found["attrop"]["attrop_0_images"] == 4
    assert "attrop_0_yaw_error" in found["attrop"]
    assert not [name for name in found["attrop"] if "quality" in name]
    for arguments, message in {
        ("--aim", "mood=1"): "has no 'mood' in attrop.attributes; known are quality, yaw",
        ("--aim", "yaw=left"): "--aim yaw=left: ",
        ("--yaw", "nan"): "--aim yaw=nan: ",
    }.items():
        assert main(["generate", "none", *OWN, *arguments]) == 2
        assert message in capsys.readouterr().err
    set_params(attrop=None)
    assert main(["generate", "none", *OWN, "--yaw", "1"]) == 2
    assert "attrop is null" in capsys.readouterr().err
    assert not Path("none").exists()


def test_what_cannot_be_is_refused_before_anything_is_written(capsys):
    np.save("short.npy", np.ones((2, 5)))
    np.save("zero.npy", np.zeros((2, 12)))
    np.save("nan.npy", np.full((2, 12), np.nan))
    before = sorted(Path().rglob("*"))
    for arguments, message in {
        ("new", "--vectors", "short.npy"): "takes (n, 12)",
        ("new", "--vectors", "zero.npy"): "a vector is zero",
        ("new", "--vectors", "nan.npy"): "row 0 holds a value that is not finite",
        ("new", "--faces", "nobody"): "nobody: no faces there",
        ("new", "--share", "1"): "--share: of the levels of --sigma",
        ("new", "--sigma", "0.1", "0.2", "--share", "1"): "sigma_share",
        ("faces",): "faces: exists already",
        ("sheet.png", *OWN, "--images", "201"): "too many for a sheet",
        ("new", "--generator", "no.safetensors"): "no.safetensors: no such file",
        ("new", "--pca", "no.npz"): "no.npz: no such file",
    }.items():
        assert main(["generate", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert sorted(Path().rglob("*")) == before


def test_reconstructions_are_measured(capsys):
    draw = np.random.default_rng(1)
    for number in range(5):
        Path(f"in/{number}").mkdir(parents=True)
        noise = draw.integers(0, 256, (7, 7, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        Path(f"in/{number}/a.jpg").write_bytes(encode(noise))
    found = result(capsys, "reconstruct", "in", "again", "--judge", "second.safetensors")
    source, again = open_source("in"), open_source("again")
    assert again.labels.tolist() == source.labels.tolist()
    features = open_recognizer("first.safetensors").features(load_images(source, 56))
    recipe = Recipe.load("params.yaml")
    expected = [encode(image, recipe.quality) for image in recipe.images(features)]
    assert images("again") == expected
    judge = open_recognizer("second.safetensors")
    one, other = (torch.from_numpy(judge.features(load_images(s, 56))) for s in (source, again))
    cosines = torch.nn.functional.cosine_similarity(one, other)
    assert found["cosine"] == pytest.approx(float(cosines.mean()), abs=1e-5)
    assert found["least"] == pytest.approx(float(cosines.min()), abs=1e-5)
    result(capsys, "reconstruct", "in", "sheet.png", "--number", 3)
    shape = decode(Path("sheet.png").read_bytes(), "sheet").shape
    assert shape == pytest.approx((2 * 134 - 22, 3 * 134 - 22, 3), abs=1)


def test_the_six_lines_of_the_readme_show_people():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    *lines, last = filter(None, code.splitlines())
    assert len(lines) == 5
    names: dict = {}
    exec("\n".join(lines), names)
    shown = eval(last, names)
    people = PCA.load("models/pca.npz").sample(1, "identity", 0, 8)
    expected = Recipe.load("params.yaml").images(people)
    assert np.array_equal(np.asarray(shown), np.hstack(expected))
