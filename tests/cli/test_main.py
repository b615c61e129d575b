import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.faces.readers import IMAGES, Rows, read_lmdb, read_rec
from tests.generator.test_released import SMALL, released_weights
from tests.parameters import PAPER, ROOT, changed
from tests.recognizers.test_released import iresnet_weights
from vec2face.cli import main
from vec2face.faces.align import TEMPLATE
from vec2face.faces.benchmarks import save_benchmark
from vec2face.faces.convert import convert
from vec2face.faces.images import decode, encode
from vec2face.faces.source import open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.generator.network import Vec2Face


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert(Rows([(i % 4, i) for i in range(12)]), "faces", form="store")
    return open_source("faces")


def test_convert_writes_what_the_name_says(store, capsys):
    np.save("features.npy", np.arange(60, dtype=np.float32).reshape(12, 5))
    np.save("mask.npy", [3, 1])
    assert main(["convert", "faces", "a.lmdb", "--features", "features.npy"]) == 0
    assert main(["convert", "a.lmdb", "out/train.rec", "--mask", "mask.npy"]) == 0
    assert main(["convert", "a.lmdb", "again", "--form", "store"]) == 0
    assert read_lmdb(store.path.parent / "a.lmdb")[2][2].tolist() == [10, 11, 12, 13, 14]
    assert read_rec("out/train.rec") == [(1, IMAGES[3]), (0, IMAGES[1])]
    again = open_source("again")
    assert [again.encoded(i) for i in range(12)] == IMAGES[:12]
    assert again.feature(2).tolist() == [10, 11, 12, 13, 14]
    assert "a.lmdb: 12 images of 4 people" in capsys.readouterr().out


def test_a_released_recognizer_is_imported_and_evaluated(store, capsys):
    weights = iresnet_weights()
    torch.save({"state_dict": dict(weights)}, "theirs.pth")
    assert main(["import-recognizer", "theirs.pth", "ours.safetensors", "--channels", "bgr"]) == 0
    assert "ours.safetensors: BGR in [-1, 1]; {'name': " in capsys.readouterr().out
    draw = np.random.default_rng(0)
    images = [encode(draw.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(20)]
    pairs = [image for image in images for _ in (0, 1)] + [*images[1:], images[0], *images]
    save_benchmark("toy.bin", pairs, [True] * 20 + [False] * 20)
    for options in ([], ["--no-flip"]):
        assert main(["evaluate", "ours.safetensors", "toy.bin", *options]) == 0
        name, accuracy, *_ = capsys.readouterr().out.split()
        assert (name, float(accuracy)) == ("toy", 100.0)


def test_the_authors_generator_is_imported(store, capsys):
    torch.save({"model_vec2face": released_weights(**SMALL)}, "theirs.pth")
    arguments = ["import-generator", "theirs.pth", "models/generator.safetensors"]
    assert main(arguments) == 2
    assert "heads are not known; state them" in capsys.readouterr().err
    assert main([*arguments, "--heads", "4", "2"]) == 0
    assert Vec2Face.load("models/generator.safetensors").config.released
    before = Path("theirs.pth").read_bytes()
    assert main([*arguments, "--heads", "4", "2"]) == 2
    assert "models/generator.safetensors: exists already" in capsys.readouterr().err
    for command in ("import-generator", "export", "import-recognizer"):
        assert main([command, "theirs.pth", "theirs.pth"]) == 2
        assert main([command, "theirs.pth", "ours.bin"]) == 2
        assert "ours.bin: name it *" in capsys.readouterr().err
    assert Path("theirs.pth").read_bytes() == before
    assert not Path("ours.bin").exists()


def test_a_generator_goes_to_the_authors_and_back(store, capsys):
    weights = released_weights(**SMALL)
    torch.save({"model_vec2face": weights}, "theirs.pth")
    main(["import-generator", "theirs.pth", "ours.safetensors", "--heads", "4", "2"])
    assert main(["export", "ours.safetensors", "again.pth"]) == 0
    again = torch.load("again.pth", weights_only=True)["model_vec2face"]
    assert set(again) == set(weights)
    used = [n for n in weights if not n.startswith(("patch_embed", "center_token"))]
    assert all(torch.equal(again[n], weights[n]) for n in used)
    assert main(["export", "none.safetensors", "again.pth"]) == 2


def test_photographs_are_aligned_by_a_list(store, capsys):
    (store.path.parent / "raw").mkdir()
    (store.path.parent / "raw/b.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (store.path.parent / "raw/a.jpg").write_bytes(encode(np.zeros((150, 150, 3), np.uint8)))
    row = ",".join(str(v) for v in (TEMPLATE + 10).ravel())
    header = "path," + ",".join(f"x{i},y{i}" for i in range(1, 6))
    (store.path.parent / "points.csv").write_text(f"{header}\na.jpg,{row}\n")
    assert main(["align", "raw", "crops", "--landmarks", "points.csv"]) == 0
    assert "0 pictures without a face, 1 files that are no" in capsys.readouterr().out
    assert decode((store.path.parent / "crops/a.jpg").read_bytes(), "a").shape == (112, 112, 3)


def test_merge_puts_sets_together(store, capsys):
    main(["convert", "faces", "other.rec"])
    capsys.readouterr()
    assert main(["merge", "both", "faces", "other.rec"]) == 0
    assert capsys.readouterr().out == "both: 24 images of 8 people\n"
    assert main(["merge", "both.lmdb", "faces", "./faces"]) == 2
    assert "given twice" in capsys.readouterr().err


def test_corrupt_entries_stop_or_are_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with FaceStoreWriter("in", image_size=8, seed=0, made_by="test") as writer:
        writer.extend([IMAGES[0], b"none"], [0, 1])
    assert main(["convert", "in", "out.rec"]) == 2
    assert "in/part-00000.rec, key 2: not a readable image" in capsys.readouterr().err
    assert main(["convert", "in", "out.rec", "--corrupt", "skip"]) == 0
    assert "out.rec: 1 images of 1 people" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.rec.skipped.json").read_text())["count"] == 1


def test_bad_input_is_one_line_on_stderr_and_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "vec2face", "convert", str(tmp_path / "no.rec"), "a.lmdb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {tmp_path}/no.rec: no such file; a record file needs its index beside it\n"
    )


def test_check_prints_inputs_costs_and_shortages(store, capsys):
    """Of faces that are there and of a dataset that fits on no disk."""
    params = changed(
        PAPER,
        paths__faces="faces",
        identities=10**9,
        subset__identities=2,
        subset__held_out=2,
        training__batch=40,
    )
    Path("params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))

    def hours(speed):
        assert main(["check", "--tflops", speed]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split(maxsplit=1) == ["ready", "paths.faces = faces: 12 images of 4 people"]
        assert re.match(
            rf"missing +paths.benchmarks = {params.paths.benchmarks}: data/README", lines[2]
        )
        assert any(line.startswith("paths.pca_faces cannot be counted yet") for line in lines)
        assert any(line.startswith("short of disk: about ") for line in lines)
        (row,) = (line.split() for line in lines if line.startswith("generator "))
        return float(row[1])

    assert hours("1") == pytest.approx(10 * hours("10"), rel=0.01)
    assert main(["check", "--params", "nowhere.yaml"]) == 2


def test_a_project_that_makes_all_of_its_inputs_lacks_none(tmp_path, monkeypatch, capsys):
    for name in ("dvc.yaml", "params.yaml", "data/rendered/dvc.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\nno_scm = True\n")
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 0
    assert "missing" not in capsys.readouterr().out
