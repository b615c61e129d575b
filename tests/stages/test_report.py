"""The report stage on a small made-up run: every output is there, complete, and the same again."""

import csv
import json
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.parameters import SMOKE, changed
from vec2face.faces.images import encode
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.generator.network import Vec2Face
from vec2face.identities.pca import PCA

STAGE = Path(__file__).parents[2] / "stages" / "report.py"
ROOT = STAGE.parents[1]
STANDARD = ("lfw", "cfp_fp", "cplfw", "agedb_30", "calfw")


def write_store(path: Path, identities: int, images: int) -> np.ndarray:
    rng = np.random.default_rng(identities)
    labels = np.repeat(np.arange(identities), images)
    with FaceStoreWriter(path, image_size=56, seed=0, made_by="test") as writer:
        for label in labels:
            shade = rng.integers(0, 255, (56, 56, 3), dtype=np.uint8)
            writer.append(encode(shade), int(label))
    return labels


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run but for its report: 16-dimensional features, an untrained generator."""
    monkeypatch.chdir(tmp_path)
    parameters = yaml.safe_load((ROOT / "params" / "smoke.yaml").read_text())
    parameters["images_per_identity"] = 3
    parameters["training_sets"]["real"] = "data/originals"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(parameters))
    rng = np.random.default_rng(0)
    (tmp_path / "data" / "features").mkdir(parents=True)
    for name, file in (
        ("subset", "features/train.npy"),
        ("held_out", "features/held_out.npy"),
        ("generated", "generated_features.npy"),
    ):
        labels = write_store(tmp_path / "data" / name, identities=4, images=3)
        features = rng.standard_normal((len(labels), 16)).astype(np.float32)
        np.save(tmp_path / "data" / file, features)
    np.save(tmp_path / "data" / "identities.npy", rng.standard_normal((5, 16)).astype(np.float32))
    (tmp_path / "models").mkdir()
    torch.manual_seed(0)
    config = changed(SMOKE.generator, width=16, decoder_width=16, channels=(8, 8, 8, 8))
    Vec2Face(config, dimension=16).save(tmp_path / "models" / "generator.safetensors")
    PCA.fit(rng.standard_normal((40, 16)), 1.0).save(tmp_path / "models" / "pca.npz")
    reports = tmp_path / "reports"
    (reports / "curves").mkdir(parents=True)
    evaluation = {
        name: {b: {"accuracy": a, "std": 0.01, "threshold": 1.2} for b in STANDARD}
        for name, a in (("generated", 0.8), ("real", 0.9), ("untrained", 0.55))
    }
    (reports / "evaluation.json").write_text(json.dumps(evaluation))
    (reports / "sampling.json").write_text(json.dumps({"seed": 1, "largest_cosine": 0.29}))
    (reports / "perturbation.json").write_text(json.dumps({"draws": 13}))
    (reports / "quality.json").write_text(json.dumps({"separated_share": 0.95}))
    (reports / "labels.json").write_text(json.dumps({"mislabelled_share": 0.25}))
    (reports / "leaks.json").write_text(json.dumps({"overlap_training_pca": 1}))
    for training in ("generator", "fr_generated", "fr_real"):
        (reports / "curves" / f"{training}.csv").write_text("step,loss\n0,1.0\n1,0.5\n2,0.25\n")
    (reports / "curves" / "roc.csv").write_text(
        "recognizer,benchmark,far,tar\ngenerated,lfw,0,0\ngenerated,lfw,0.1,0.6\ngenerated,lfw,1,1\n"
    )
    return tmp_path


def report() -> None:
    runpy.run_path(str(STAGE), run_name="__main__")


def contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def test_outputs_are_complete_and_the_same_twice(run: Path) -> None:
    report()
    first = contents(run / "reports")
    metrics = json.loads(first["metrics.json"])
    assert metrics["avg"] == pytest.approx(80)
    assert metrics["real_avg"] == pytest.approx(90)
    assert metrics["recovery"] == pytest.approx(0.75)
    assert metrics["quality"] == {"separated_share": 0.95}
    assert metrics["labels"] == {"mislabelled_share": 0.25}
    assert "draws" not in metrics

    names = {n for n in first if n.startswith("figures/")}
    assert names == {
        f"figures/{n}.png"
        for n in (
            "accuracies",
            "roc",
            "curves_generator",
            "curves_fr_generated",
            "curves_fr_real",
            "similarities",
            "training_faces",
            "reconstructions",
            "rising_sigma",
            "generated_faces",
        )
    }
    rows = list(csv.DictReader((run / "reports" / "tables" / "table1.csv").open()))
    ours = [r for r in rows if r["source"] != "paper"]
    assert [r["avg"] for r in ours] == ["80.00", "90.00", "55.00"]
    assert [r["images"] for r in ours] == ["12", "12", "0"]

    html = first["index.html"].decode()
    assert html.count("data:image/png;base64,") == len(names)
    assert not re.search(r"(src|href)=\"(?!data:|#)", html), "the page asks for something outside"
    assert "rendered from 3D heads" in html
    for key, value in {"draws": 13, "overlap_training_pca": 1, "lfw": 80.0}.items():
        assert f"<dt>{key}</dt><dd>{value}</dd>" in html
    assert html.index("the generator was trained on") < html.index("was never trained on")

    report()
    assert contents(run / "reports") == first


def test_a_real_set_of_others_is_counted_where_it_is(run: Path) -> None:
    write_store(run / "others", identities=3, images=5)
    parameters = yaml.safe_load((run / "params.yaml").read_text())
    parameters["training_sets"]["real"] = "others"
    (run / "params.yaml").write_text(yaml.safe_dump(parameters))
    report()
    rows = list(csv.DictReader((run / "reports" / "tables" / "table1.csv").open()))
    assert [r["images"] for r in rows if r["source"] != "paper"] == ["12", "15", "0"]


def test_a_masked_real_set_counts_what_its_mask_leaves(run: Path) -> None:
    write_store(run / "others", identities=3, images=5)
    np.save(run / "rows.npy", [14, 0, 3, 7])
    parameters = yaml.safe_load((run / "params.yaml").read_text())
    del parameters["training_sets"]["real"]
    parameters["masked_sets"] = {"real": {"path": "others", "rows": "rows.npy"}}
    (run / "params.yaml").write_text(yaml.safe_dump(parameters))
    report()
    rows = list(csv.DictReader((run / "reports" / "tables" / "table1.csv").open()))
    assert [r["images"] for r in rows if r["source"] != "paper"] == ["12", "4", "0"]


def test_curves_of_sets_that_are_gone_are_not_shown(run: Path) -> None:
    curve = (run / "reports" / "curves" / "fr_real.csv").read_text()
    (run / "reports" / "curves" / "fr_gone.csv").write_text(curve)
    report()
    assert not (run / "reports" / "figures" / "curves_fr_gone.png").exists()
    assert "gone" not in (run / "reports" / "index.html").read_text()


def test_feature_rows_that_do_not_match_the_images_are_refused(run: Path) -> None:
    np.save("data/features/train.npy", np.ones((5, 16), np.float32))
    with pytest.raises(SystemExit, match=r"train\.npy: 5 rows for 12 images"):
        report()


@pytest.mark.parametrize(
    "file",
    ["reports/quality.json", "reports/curves/fr_real.csv", "data/generated_features.npy"],
)
def test_a_missing_measurement_names_the_file(run: Path, file: str) -> None:
    (run / file).unlink()
    with pytest.raises(SystemExit, match=file):
        report()
