"""The evaluate stage on small networks, after a training set has left the parameters."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import evaluate
from vec2face.evaluation import verification
from vec2face.evaluation.comparison import figures
from vec2face.faces.benchmarks import load_benchmark, save_benchmark
from vec2face.faces.images import encode
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.network import embed, load_recognizer, save_recognizer

ROOT = Path(__file__).parents[2]
SETS = ("generated", "real", "dcface")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Recognizers of three training sets and of one that is gone; another is the second judge."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    images = [encode(draw.integers(0, 256, (56, 56, 3), np.uint8)) for _ in range(48)]
    with FaceStoreWriter("data/subset", image_size=56, seed=0, made_by="test") as writer:
        for i in range(8):
            writer.append(images[i], i // 2)
    save_benchmark("benchmarks/toy.bin", images, [True, False] * 12)
    shape = {"name": "se_iresnet10", "image_size": 56, "embedding": 8, "widths": (4, 4, 4, 4)}
    Path("reports/curves").mkdir(parents=True)
    for name in (*SETS, "gone", "judge"):
        save_recognizer(f"models/fr/{name}.safetensors", build_backbone(**shape), shape)
        Path(f"reports/curves/fr_{name}.csv").write_text("epoch,loss\n1,2\n")
    Path("reports/curves/generator.csv").write_text("step,mse\n1,2\n")
    params = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    params["paths"] |= {
        "benchmarks": "benchmarks",
        "recognizer": "models/fr/real.safetensors",
        "second_recognizer": "models/fr/judge.safetensors",
    }
    params["training_sets"] = dict.fromkeys(SETS, "data/subset")
    Path("params.yaml").write_text(yaml.safe_dump(params))
    return tmp_path


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_set_that_is_gone_leaves_nothing_behind(folder, caplog):
    evaluate.main()
    curves = {f"fr_{name}.csv" for name in SETS} | {"generator.csv", "roc.csv"}
    assert names(folder / "reports/curves") == curves
    kept = {f"{name}.safetensors" for name in (*SETS, "judge")}  # the judge is no set, but in use
    assert names(folder / "models/fr") == kept
    removed = ("models/fr/gone.safetensors", "reports/curves/fr_gone.csv")
    assert all(any(path in message for message in caplog.messages) for path in removed)

    evaluation = json.loads(Path("reports/evaluation.json").read_text())
    assert evaluation.keys() == {*SETS, "untrained", "estimator", "second"}
    assert evaluation["estimator"] == evaluation["real"]  # one file in two roles
    roc = pd.read_csv("reports/curves/roc.csv")
    assert {*roc["recognizer"]} == evaluation.keys()
    assert not list(folder.glob("work/*"))


def test_mirror_images_count_as_the_parameters_say(folder):
    benchmark = load_benchmark("benchmarks/toy.bin")
    embedding = partial(embed, load_recognizer("models/fr/real.safetensors"))
    for flip in (True, False):
        params = yaml.safe_load(Path("params.yaml").read_text())
        params["evaluation"]["flip"] = flip
        Path("params.yaml").write_text(yaml.safe_dump(params))
        evaluate.main()
        found = json.loads(Path("reports/evaluation.json").read_text())["real"]["toy"]
        expected = figures(verification.evaluate(embedding, benchmark, flip=flip))
        assert found == pytest.approx(expected)
    assert expected != figures(verification.evaluate(embedding, benchmark))
