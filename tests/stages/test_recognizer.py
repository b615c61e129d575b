"""FR training on sets made by others: every form, labels with gaps, end to end at tiny size."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import msgpack
import numpy as np
import pandas as pd
import pytest
import yaml

from stages import recognizer
from tests import ranks
from tests.faces.readers import Rows, lmdb_of
from vec2face.faces.convert import convert
from vec2face.faces.images import encode
from vec2face.faces.record_writer import RecordWriter
from vec2face.runtime.files import InputError

ROOT = Path(__file__).parents[2]
LABELS = [3, 3, 3, 70, 70, 70, 500, 500, 500, 3, 70, 500]  # of no dense range
rng = np.random.default_rng(0)
IMAGES = [
    encode(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) // 2 + label % 128) for label in LABELS
]


def write(form: str) -> str:
    pairs = list(zip(IMAGES, LABELS, strict=True))
    if form == "rec":
        with RecordWriter("set.rec") as writer:
            for image, label in pairs:
                writer.append(image, label)
        return "set.rec"
    if form == "lmdb":
        lmdb_of(Path("set.lmdb"), [msgpack.dumps(pair) for pair in pairs])
        return "set.lmdb"
    for i, (image, label) in enumerate(pairs):
        Path(f"set/id_{label}").mkdir(parents=True, exist_ok=True)
        Path(f"set/id_{label}/{i}.jpg").write_bytes(image)
    if form == "csv":
        lines = [f"id_{label}/{i}.jpg,{label}\n" for i, label in enumerate(LABELS)]
        Path("set/list.csv").write_text("path,label\n" + "".join(lines))
        return "set/list.csv"
    if form == "tar":
        with tarfile.open("set.tar", "w") as archive:
            archive.add("set")
        return "set.tar"
    if form == "zip":
        with zipfile.ZipFile("set.zip", "w") as archive:
            for path in Path("set").rglob("*.jpg"):
                archive.write(path)
        return "set.zip"
    return "set"


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Write params for a set, run the stage, return the curve's text."""
    monkeypatch.chdir(tmp_path)

    def run(path: str, corrupt: str = "stop", size: int = 1, **fr) -> str:
        params = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
        params["training_sets"]["dcface"] = path
        params["subset"]["corrupt"] = corrupt
        params["fr"] |= {"widths": [4, 4, 4, 4], "embedding": 8, "batch": 6, "epochs": 1} | fr
        Path("params.yaml").write_text(yaml.safe_dump(params))
        if size == 1:
            recognizer.main("dcface")
        else:
            assert ranks.finish(ranks.start(recognizer.main, "dcface", size=size)) == [0] * size
        return Path("reports/curves/fr_dcface.csv").read_text()

    return run


@pytest.mark.parametrize("form", ["rec", "lmdb", "folder", "csv", "zip", "tar"])
def test_a_recognizer_is_trained_on_every_form(train, form):
    curve = train(write(form)).splitlines()
    assert len(curve) == 2
    assert Path("models/fr/dcface.safetensors").stat().st_size > 1000
    assert not list(Path("work").iterdir())


def test_the_form_changes_nothing(train):
    """Rows in the same order give the same network, bit by bit."""
    curves, weights = [], []
    for form in ("rec", "lmdb"):
        curves.append(train(write(form)))
        weights.append(Path("models/fr/dcface.safetensors").read_bytes())
    assert curves[0] == curves[1]
    assert weights[0] == weights[1]
    shutil.rmtree("work")


def test_a_corrupt_image_stops_or_is_left_out(train):
    path = Path(write("folder"))
    (path / "id_70/4.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"id_70/4\.jpg: not a readable image"):
        train("set")
    left_out = train("set", corrupt="skip")
    (path / "id_70/4.jpg").unlink()
    assert train("set") == left_out


def test_a_released_dataset_goes_through_convert(train):
    """A set of ours, handed to others as .rec and back, trains the same network."""
    source = Rows([(label, i) for i, label in enumerate(LABELS)])
    convert(source, "ours", form="store")
    convert(source, "out/train.rec")
    curve = train("ours")
    assert train("out") == curve
    assert train("out/train.rec") == curve


@pytest.mark.parametrize("rows", [[2, 0, 1, 8, 9, 11], [0, 1, 2, 8, 9, 11]])
def test_a_mask_leaves_the_rows_that_it_names_and_numbers_their_people_anew(train, rows):
    write("rec")
    np.save("rows.npy", np.array(rows, np.uint16))
    with RecordWriter("few.rec") as writer:
        for row in sorted(rows):
            writer.append(IMAGES[row], LABELS[row])
    alone = train("few.rec")
    weights = Path("models/fr/dcface.safetensors").read_bytes()
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["masked_sets"] = {"some": {"path": "set.rec", "rows": "rows.npy"}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    recognizer.main("some")
    assert Path("reports/curves/fr_some.csv").read_text() == alone
    assert Path("models/fr/some.safetensors").read_bytes() == weights
    assert not list(Path("work").iterdir())


def test_two_processes_train_together_and_write_once(train):
    path = write("rec")
    alone = pd.read_csv(io.StringIO(train(path, micro_batch=3)))
    two = pd.read_csv(io.StringIO(train(path, micro_batch=3, size=2)))
    assert two.to_numpy() == pytest.approx(alone.to_numpy(), rel=1e-4)
    assert not list(Path("work").iterdir())
    with pytest.raises(InputError, match=r"fr\.micro_batch: 4 does not divide fr\.batch = 6"):
        train(path, micro_batch=4)
