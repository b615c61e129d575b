"""Images made again by their numbers, against those of the stage ``dataset``."""

import json
from pathlib import Path

import pytest
import yaml

from stages import dataset, identities, pca
from tests.benchmarks.test_attrop import folder as attrop_folder  # noqa: F401 - a fixture
from tests.parameters import ROOT, changed
from tests.stages.test_sampling import folder  # noqa: F401 - a fixture
from vec2face.cli import main
from vec2face.config.params import Params
from vec2face.dataset import aims as aims_module
from vec2face.dataset.hashes import Hashes, write_hashes
from vec2face.dataset.origin import Origin
from vec2face.faces.source import open_source
from vec2face.runtime.files import InputError

PLACES = Path("data/identities.npy"), Path("models/pca.npz")


def check(p):
    """Make the set, then its images again: alone, some, and all from nothing but its hashes."""
    dataset.main()
    made = open_source("data/generated")
    stored = dict(enumerate(made.encoded(i) for i in range(len(made))))
    origin = Origin(p, *PLACES)
    number = len(made) - 3
    assert dict(origin.make([number])) == {number: stored[number]}
    write_hashes("hashes.txt", made, origin)
    hashes = Hashes("hashes.txt")
    assert dict(hashes.make(hashes.origin(p, *PLACES), range(len(made)))) == stored
    return hashes


@pytest.mark.parametrize(
    "changes",
    [{}, {"perturbation": "within"}, {"sampling__released": True, "sigma_unit": "absolute"}],
)
def test_images_of_the_set_come_again(folder, changes):  # noqa: F811
    p = folder(**changes)
    for stage in (pca, identities):
        stage.main()
    hashes = check(p)
    assert Path("hashes.txt").stat().st_size < 40 * 33 + 1000
    another = folder(**{"seed": 4, "sigma": [1.0, 0.1], "images_per_identity": 2, **changes})
    assert len(dict(hashes.make(hashes.origin(another, *PLACES), range(0, 40, 7)))) == 6


@pytest.mark.parametrize(
    "attrop",
    [
        {"steps": 1, "unconverged": "again", "attempts": 2, "slots": 2},
        {"steps": 1, "mode": "printed", "rate": 0.1, "slots": 2},
    ],
)
@pytest.mark.usefixtures("attrop_folder")
def test_images_with_attributes_come_again(attrop, monkeypatch):
    p = changed(
        Params.load("params.yaml"), **{f"attrop__{key}": value for key, value in attrop.items()}
    )
    Path("params.yaml").write_text(yaml.safe_dump(p.model_dump(mode="json")))
    hashes = check(p)
    # Percentiles are noted as numbers: the real faces need not go along.
    monkeypatch.setattr(aims_module, "_seen", None)
    assert dict(hashes.make(hashes.origin(p, *PLACES), [5]))


@pytest.fixture
def shipped(folder):  # noqa: F811
    p = folder()
    for stage in (pca, identities, dataset):
        stage.main()
    write_hashes("hashes.txt", open_source("data/generated"), Origin(p, *PLACES))
    return p


def test_all_that_decides_an_image_is_noted(shipped):
    """The stage's parameters, but for paths; of those, the files."""
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["dataset"]
    noted = {*Hashes("hashes.txt").parameters, "estimators"}
    assert noted == {key for key in stage["params"] if "." not in key}


def test_another_file_or_image_is_named(shipped):
    hashes = Hashes("hashes.txt")
    text = Path("hashes.txt").read_text()
    lines = text.splitlines()
    lines[4] = "0" * 32
    Path("other.txt").write_text("\n".join([*lines, ""]))
    other = Hashes("other.txt")
    origin = other.origin(shipped, *PLACES)
    assert dict(other.make(origin, [2, 4]))
    with pytest.raises(InputError, match=r"other\.txt, image 3: came out otherwise"):
        list(other.make(origin, [2, 3]))
    with pytest.raises(InputError, match=r"image 40: the set has numbers 0 to 39"):
        list(other.make(origin, [40]))
    data = Path("models/pca.npz").read_bytes()
    Path("models/pca.npz").write_bytes(data + b"\0" * 8)
    with pytest.raises(InputError, match=r"pca\.npz: (is not the pca|cannot be read)"):
        hashes.origin(shipped, *PLACES)


ELSEWHERE = '{"images": 0, "files": {}, "parameters": {"paths": {}}}\n'


@pytest.mark.parametrize(
    "content", ["", "{}\n", '{"images": 3}\n', "[1]\n", "0\n" * 9, "x" * 99, ELSEWHERE]
)
def test_what_is_no_file_of_hashes_is_refused(tmp_path, content):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(InputError, match=r"a\.txt"):
        Hashes(tmp_path / "a.txt")


def test_a_cut_or_foreign_file_is_refused(shipped):
    text = Path("hashes.txt").read_text()
    Path("hashes.txt").write_text(text[:-33])
    with pytest.raises(InputError, match="for 40 images; copy it again"):
        Hashes("hashes.txt")
    first, _, rest = text.partition("\n")
    about = json.loads(first)
    about["parameters"]["sigma"] = "much"
    Path("hashes.txt").write_text(json.dumps(about) + "\n" + rest)
    with pytest.raises(InputError, match="sigma"):
        Hashes("hashes.txt").origin(shipped, *PLACES)


@pytest.mark.usefixtures("shipped")
def test_a_set_of_another_run_has_no_such_hashes(shipped):
    origin = Origin(changed(shipped, images_per_identity=4), *PLACES)
    with pytest.raises(InputError, match="40 images, but identities x images_per_identity are 32"):
        write_hashes("hashes.txt", open_source("data/generated"), origin)


@pytest.mark.usefixtures("shipped")
def test_the_commands_write_and_follow_a_file_of_hashes(capsys):
    assert main(["hashes", "data/generated", "own.txt"]) == 0
    assert Path("own.txt").read_bytes() == Path("hashes.txt").read_bytes()
    assert main(["hashes", "data/generated", "own.txt"]) == 2
    made = open_source("data/generated")
    assert main(["remake", "own.txt", "some", "--row", "33", "2"]) == 0
    found = {file.name: file.read_bytes() for file in Path("some").iterdir()}
    assert found == {f"{row:08d}.jpg": made.encoded(row) for row in (2, 33)}
    assert main(["remake", "own.txt", "all"]) == 0
    again = open_source("all")
    assert again.labels.tolist() == made.labels.tolist()
    assert [again.encoded(i) for i in range(40)] == [made.encoded(i) for i in range(40)]
    assert main(["remake", "own.txt", "none", "--row", "40"]) == 2
    assert not Path("none").exists()
