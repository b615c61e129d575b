"""Results of revisions and folders, on a small pipeline in a repository of its own."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from tests.parameters import ROOT
from vec2face.cli import main
from vec2face.report.results import Results
from vec2face.report.revisions import results_of
from vec2face.runtime.files import InputError

COPY = "import os; os.makedirs('data/code'); os.link('program.py', 'data/code/make')"
STAGES = {
    "code": {
        "cmd": f'{sys.executable} -c "{COPY}"',
        "deps": ["program.py"],
        "outs": ["data/code/make"],
    },
    "make": {
        "cmd": "false # nothing runs it here",
        "deps": ["data/code/make", "data/faces"],
        "params": ["tau"],
        "outs": ["data/made", {"reports/labels.json": {"cache": False}}],
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A commit with results, whose data are not there."""
    root = tmp_path_factory.mktemp("made")
    with contextlib.chdir(root):
        make()
    return root


@pytest.fixture
def repository(made, tmp_path, monkeypatch):
    """A copy of it, which is the current folder."""
    shutil.copytree(made, tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


def make():
    for folder in ("data/code", "reports"):
        Path(folder).mkdir(parents=True)
    shutil.copy(ROOT / "params/smoke.yaml", "params.yaml")
    shutil.copy(ROOT / "gate.yaml", "gate.yaml")
    Path("program.py").write_text("print(1)")
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    for path in ("data/faces", "data/made", "data/code/make"):
        Path(path).write_text("print(1)" if path.endswith("make") else path)
    report(mislabelled_vectors=0, mislabelled_share=0.1)
    marks = {b: {"accuracy": 0.7, "std": 0.02} for b in ("lfw", "cfp_fp")}
    Path("reports/evaluation.json").write_text(json.dumps({"generated": marks}))
    Path(".gitignore").write_text("/data\n")
    git("init", "-q", "-b", "main")
    Repo.init(".").close()
    with Repo(".") as repo:
        repo.commit(force=True)
    commit()
    shutil.rmtree("data")


def report(**metrics):
    Path("reports/labels.json").write_text(json.dumps(metrics))


def git(*arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def commit():
    git("add", "-A")
    git("commit", "-q", "-m", "results")


def test_results_belong_to_their_code_and_parameters_or_the_stage_is_named(repository):
    results, _ = results_of("main", repository / "../copy", check=False)
    assert results.name.startswith("main (")
    assert results.metrics["mislabelled_share"] == 0.1
    assert results.stages["make"].parameters == {"tau": 0.3}
    Path("program.py").write_text("print(2)")
    results, outdated = results_of(".", repository / "../again", check=True)
    assert results.name == "the working tree"
    assert outdated == ["make"]
    assert not Path("data").exists()  # the tree itself is left as it was


def test_a_report_that_was_changed_by_hand_ends_the_gate(repository, capsys):
    report(mislabelled_vectors=0, mislabelled_share=0.0)
    assert main(["gate", "main"]) == 2
    said = capsys.readouterr().out
    assert "the results of the working tree do not belong to its parameters and code: make" in said
    assert "the results of main" not in said


def test_revisions_folders_and_experiments_are_found(repository, capsys):
    report(mislabelled_vectors=0, mislabelled_share=0.9)
    commit()
    git("update-ref", "refs/exps/ab/cdef/bold", "HEAD")
    git("reset", "-q", "--hard", "HEAD~1")
    assert main(["gate", "main", "--unchecked"]) == 0
    assert "Head: the working tree." in capsys.readouterr().out
    assert main(["gate", ".", "bold", "--unchecked", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    (metric,) = (m for m in found["metrics"] if m["key"] == "mislabelled_share")
    assert (metric["base"], metric["head"], metric["verdict"]) == (0.1, 0.9, "worse")


def test_reports_alone_can_be_compared(repository, capsys):
    shutil.copytree("reports", "kept/reports")
    shutil.copy("params.yaml", "kept")
    report(mislabelled_vectors=2)
    for base in ("kept", "kept/reports"):
        assert main(["gate", base, "--unchecked", "--write", "work/gate"]) == 1
        assert "| `mislabelled_vectors` | must be 0 | 0 | 2 | +2 | - | **worse** |" in (
            Path("work/gate/comment.md").read_text()
        )
    assert json.loads(Path("work/gate/gate.json").read_text())["code"] == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere: neither a folder nor a revision"),
        ("--help-me", "neither a folder nor a revision"),
        ("empty", "empty: no reports lie in empty"),
    ],
)
def test_what_holds_no_results_is_named(repository, name, message):
    Path("empty").mkdir()
    with pytest.raises(InputError, match=message):
        results_of(name, repository / "copy", check=True)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("dvc.lock", "stages: [1]", "dvc.lock: is no lock"),
        ("dvc.lock", "stages: {make: 1}", "dvc.lock: is no lock"),
        ("reports/labels.json", "[]", "holds no JSON object"),
        ("reports/evaluation.json", '{"generated": {"lfw": {"accuracy": 7}}}', "is no share"),
        ("params.yaml", "a: 1\na: 2", "stands twice"),
    ],
)
def test_a_damaged_file_is_named(repository, file, content, message):
    Path(file).write_text(content)
    with pytest.raises(InputError, match=message):
        Results.read(repository, "damaged")
