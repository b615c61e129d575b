"""What files and folders are said to hold."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.benchmarks.test_attrop import folder  # noqa: F401 - a fixture
from tests.faces.readers import IMAGES
from vec2face.cli import main
from vec2face.faces.benchmarks import save_benchmark
from vec2face.faces.images import decode, encode
from vec2face.faces.record_writer import RecordWriter
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.network import load_recognizer
from vec2face.recognizers.onnx_export import export_recognizer
from vec2face.runtime.checkpoint import Checkpoint

pytestmark = pytest.mark.usefixtures("folder")


def inspect(capsys, path, *options, code=0):
    capsys.readouterr()
    assert main(["inspect", path, *options, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_store(capsys):
    found = inspect(capsys, "faces", "--sheet", "sheet.png")
    assert (found["kind"], found["images"], found["people"]) == ("faces", 2, 2)
    assert found["sizes"] == {"jpeg 56 x 56": 2}
    assert decode(Path("sheet.png").read_bytes(), "sheet").shape[0] == pytest.approx(227, abs=1)
    with Path("faces/part-00000.rec").open("r+b") as file:
        file.seek(100)
        file.write(b"\0\1\2\3")
    assert main(["inspect", "faces"]) == 2
    assert "part-00000.rec: the content was altered" in capsys.readouterr().err


def test_damaged_images_are_named_and_counted(capsys):
    with RecordWriter("train.rec") as writer:
        for number in range(30):
            writer.append(IMAGES[0][: None if number % 10 else len(IMAGES[0]) // 2], number // 10)
    found = inspect(capsys, "train.rec", code=1)
    assert (found["unreadable"], found["decoded"], sum(found["sizes"].values())) == (3, 30, 27)
    assert "train.rec, key 1: not a readable image" in found["unreadable_first"][0]
    assert found["images_of_a_person"] == {"least": 10, "median": 10.0, "most": 10}
    sampled = inspect(capsys, "train.rec", "--sample", "3", code=1)
    assert sampled["decoded"] == 3
    assert main(["inspect", "train.rec", "--all"]) == 1
    assert "unreadable: 3" in capsys.readouterr().out


def test_benchmarks(capsys):
    draw = np.random.default_rng(0)
    images = [encode(draw.integers(0, 256, (16, 16, 3), np.uint8)) for _ in range(40)]
    flags = [n % 2 == 0 for n in range(20)]
    save_benchmark("marks/lfw.bin", images, flags)
    save_benchmark("marks/own.bin", images[:39] + [b"\xff\xd8 no"], flags)
    found = inspect(capsys, "marks", code=1)["benchmarks"]
    assert [found["lfw"][key] for key in ("pairs", "of_one_person", "folds")] == [20, 10, 10]
    assert (found["lfw"]["unreadable"], found["own"]["unreadable"]) == (0, 1)
    alone = inspect(capsys, "marks/lfw.bin", "--sheet", "pairs.png")
    assert list(alone["benchmarks"]) == ["lfw"]
    assert decode(Path("pairs.png").read_bytes(), "sheet").shape[0] == pytest.approx(112, abs=1)


def test_arrays(capsys):
    features = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    np.save("f.npy", features)
    found = inspect(capsys, "f.npy")
    assert found["shape"] == [9, 4]
    lengths = np.sqrt((features**2).sum(1))
    assert found["lengths"]["mean"] == pytest.approx(lengths.mean(), rel=1e-5)
    features[3, 1], features[5] = np.nan, 0
    np.save("f.npy", features)
    found = inspect(capsys, "f.npy", code=1)
    assert (found["not_finite"], found["zero"]) == (1, 1)
    np.save("mask.npy", np.arange(3))
    assert inspect(capsys, "mask.npy")["kind"] == "array"
    assert inspect(capsys, "models/pca.npz")["people"] == 20


def test_weights(capsys):
    found = inspect(capsys, "models/generator.safetensors")
    assert (found["kind"], found["takes"]) == ("generator", "12 numbers")
    assert found["gives"] == "56 x 56 pixels"
    found = inspect(capsys, "first.safetensors")
    assert (found["kind"], found["gives"]) == ("recognizer", "12 numbers")
    network = build_backbone(**found["architecture"])
    assert found["parameters"] == sum(
        value.numel() for value in network.state_dict().values() if value.is_floating_point()
    )
    export_recognizer(load_recognizer("first.safetensors"), "first.onnx")
    found = inspect(capsys, "first.onnx")
    assert found["inputs"] == {"images": "(batch, 3, 56, 56)"}
    assert found["takes"] == "56 pixels, RGB in [-1, 1]"
    assert main(["export", "models/generator.safetensors", "g.onnx"]) == 0
    found = inspect(capsys, "g.onnx")
    assert found["outputs"] == {"images": "(batch, 3, 56, 56)"}
    assert "3 inputs" in found["as_a_recognizer"]


def test_checkpoints(capsys):
    Checkpoint("work").save(20, {"net": {"w": torch.ones(3, 2)}, "moments": [torch.zeros(4)]})
    found = inspect(capsys, "work")
    assert (found["kind"], found["step"], found["checksum"]) == ("checkpoint", "20", "right")
    assert (found["tensors"], found["parameters"]) == (2, 10)
    shutil.copy("work/state-0000000020.pt", "state-0000000021.pt")
    assert inspect(capsys, "state-0000000021.pt")["checksum"] == "none beside it"
    Path("work/state-0000000020.pt.sha256").write_text("0" * 64)
    assert inspect(capsys, "work", code=1)["checksum"] == "wrong"


@pytest.mark.parametrize("path", ["nothing", "text.txt", "empty"])
def test_what_is_nothing_known_is_refused(path, capsys):
    Path("text.txt").write_text("hello")
    Path("empty").mkdir()
    assert main(["inspect", path]) == 2
    assert f"error: {path}" in capsys.readouterr().err
    np.save("f.npy", np.ones((2, 2), np.float32))
    assert main(["inspect", "f.npy", "--sheet", "no.png"]) == 2
    assert "no faces to show" in capsys.readouterr().err
