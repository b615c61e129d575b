"""Cards against Hugging Face's own parser, and Croissant against its library and specification."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard, ModelCard

from tests.faces.readers import IMAGES, Rows
from tests.parameters import ROOT, changed
from vec2face.cli import main
from vec2face.faces.convert import convert
from vec2face.report.cards import KINDS, Run, bibtex, card, licence_of, size_category
from vec2face.report.croissant import croissant
from vec2face.runtime.files import InputError, sha256

FILES = (ROOT / "params.yaml", ROOT / "reports", ROOT / "dvc.lock", ROOT / "CITATION.cff")
URL = "https://example.org/faces"


@pytest.fixture(scope="module")
def run():
    """The run whose results are committed."""
    return Run.load(*FILES)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_is_read_as_hugging_face_reads_it(run, kind):
    text = card(kind, run, "MIT")
    parsed = (DatasetCard if kind == "dataset" else ModelCard)(text)
    assert parsed.data.license == "mit"
    assert "arxiv:2409.02979" in parsed.data.tags
    assert parsed.text.strip() in text
    if kind == "recognizer":
        results = {r.dataset_type: r.metric_value for r in parsed.data.eval_results}
        assert results == {
            benchmark: pytest.approx(figures["accuracy"], abs=1e-4)
            for benchmark, figures in run.evaluation["generated"].items()
        }
    if kind == "dataset":
        assert parsed.data.configs[0]["data_files"][0]["path"] == "data/train-*.tar"


@pytest.mark.parametrize("kind", KINDS)
def test_every_figure_follows_the_results(run, kind):
    """Other results give another card, in which no figure of the old one is left over."""
    text = card(kind, run, "MIT")
    other = dataclasses.replace(
        run,
        metrics={key: 7 * value + 1000 for key, value in run.metrics.items()},
        evaluation={
            name: {b: {k: v + 200 for k, v in f.items()} for b, f in figures.items()}
            for name, figures in run.evaluation.items()
        },
    )
    cells = re.compile(r"(?<=\| )[\d., %()]+(?= \|)")
    changes = 0
    for old, new in zip(text.splitlines(), card(kind, other, "MIT").splitlines(), strict=True):
        if old != new:
            changes += 1
            assert not set(cells.findall(old)) & set(cells.findall(new))
    assert changes > 10


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_not_measured_is_said_to_be_so(run, kind):
    bare = dataclasses.replace(run, metrics={}, evaluation={}, lock={})
    text = card(kind, bare, "MIT")
    assert "not measured" in text
    assert re.search(r"\| image vectors nearer to another identity \| not measured \|", text)


def test_both_certificates_are_in_the_cards(run):
    for kind in KINDS:
        text = card(kind, run, "MIT")
        assert f"nearer to another identity | {run.metrics['mislabelled_vectors']} |" in text
        flagged = [run.metrics[f"leak_{who}_pca_flagged"] for who in ("vector", "identity")]
        assert f"was fitted on | {flagged[0]} | {flagged[1]} |" in text


def test_hashes_are_those_that_dvc_noted(run):
    (entry,) = run.lock["generator"]["outs"][:1]
    assert f"| `{entry['path']}` | {entry['md5']} |" in card("generator", run, "MIT")
    real = card("recognizer", run, "MIT", "real")
    assert "models/fr/real.safetensors" in real
    assert "Certificate" not in real
    with pytest.raises(InputError, match=r"training_sets\.other: no such set; there are generated"):
        card("recognizer", run, "MIT", "other")


def test_a_recognizer_of_some_rows_of_a_set_has_a_card(run):
    masked = {"path": "photos.lmdb", "rows": "rows.npy"}
    p = changed(run.p, masked_sets={"few": masked})
    out = {"path": "models/fr/few.safetensors", "md5": "0123"}
    lock = {"masked_recognizer@few": {"outs": [out]}}
    text = card("recognizer", dataclasses.replace(run, p=p, lock=lock), "MIT", "few")
    assert "trained on `photos.lmdb`, rows of `rows.npy` by" in text
    assert "| `models/fr/few.safetensors` | 0123 |" in text


def test_a_licence_is_stated_where_there_are_photographs(run):
    assert licence_of(run.p) == "MIT"
    photos = changed(run.p, world="photos")
    with pytest.raises(InputError, match="--license: state one"):
        licence_of(photos)
    text = card("dataset", dataclasses.replace(run, p=photos), licence_of(photos, "CC-BY-NC-4.0"))
    assert DatasetCard(text).data.license == "cc-by-nc-4.0"
    assert "stand-in" not in text


def test_results_of_other_parameters_have_no_card(tmp_path):
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(re.sub(r"(?m)^tau: .*$", "tau: 0.29", text))
    with pytest.raises(InputError, match=r"params\.yaml: tau differ"):
        Run.load(tmp_path / "params.yaml", *FILES[1:])


def test_the_citation_is_of_this_version(run):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (run.citation["version"], run.citation["license"]) == (
        project["version"],
        project["license"],
    )
    assert {"cff-version", "message", "title", "authors"} <= run.citation.keys()  # schema 1.2.0
    assert bibtex(run.citation["preferred-citation"]).startswith("@inproceedings{wu2025,")


def test_sizes_are_classed_as_hugging_face_does():
    sizes = {999: "n<1K", 1000: "1K<n<10K", 6400: "1K<n<10K", 10**6: "1M<n<10M"}
    assert {n: size_category(n) for n in sizes} == sizes


@pytest.fixture
def folder(tmp_path):
    """Twelve images of four people, in shards of five, with their metadata."""
    rows = Rows([(i // 3, i) for i in range(12)])
    convert(rows, tmp_path / "faces", form="webdataset", shard=5)
    files = ["--params", "--reports", "--lock", "--citation"]
    where = [str(part) for pair in zip(files, FILES, strict=True) for part in pair]
    assert main(["card", "dataset", str(tmp_path / "faces"), "--url", URL, *where]) == 0
    assert main(["card", "dataset", str(tmp_path / "faces"), *where]) == 2
    return tmp_path / "faces"


def test_metadata_have_what_croissant_asks_for(folder):
    """The properties that the specification, version 1.1, requires, and checksums."""
    data = json.loads((folder / "croissant.json").read_text())
    required = {"@context", "@type", "conformsTo", "description", "license", "name", "url"}
    assert required | {"creator", "datePublished", "distribution"} <= data.keys()
    assert data["@context"]["conformsTo"] == "dct:conformsTo"
    assert data["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    assert data["url"] == URL
    *files, images = data["distribution"]
    assert [(folder / file["contentUrl"]).is_file() for file in files] == [True] * 3
    assert [file["sha256"] for file in files] == [sha256(folder / f["contentUrl"]) for f in files]
    assert images["containedIn"] == [{"@id": file["@id"]} for file in files]
    ids = [x["@id"] for x in (*data["distribution"], *data["recordSet"])]
    ids += [field["@id"] for record in data["recordSet"] for field in record["field"]]
    assert len(ids) == len(set(ids))


def test_croissants_library_reads_the_images(folder):
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    records = list(dataset.records("faces"))
    assert sorted(record["faces/label"] for record in records) == [i // 3 for i in range(12)]
    assert {r["faces/image"].size for r in records} == {(8, 8)}


def test_hugging_faces_library_reads_the_folder(folder, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset(str(folder), split="train", streaming=True)
    rows = rows.cast_column("jpg", datasets.Image(decode=False))
    found = [(row["cls"], row["jpg"]["bytes"]) for row in rows]
    assert found == [(i // 3, IMAGES[i]) for i in range(12)]


def test_metadata_describe_shards_only(run, tmp_path):
    assert croissant(tmp_path, run, "MIT", URL)["distribution"][-1]["containedIn"] == []
    files = ["--params", "--reports", "--lock", "--citation"]
    where = [str(part) for pair in zip(files, FILES, strict=True) for part in pair]
    assert main(["card", "dataset", str(tmp_path), "--url", URL, *where]) == 2
    assert not list(Path(tmp_path).iterdir())
