"""A bad parameter stops a run before its first work, whichever stage that is."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
from dvc.dependency import ParamsDependency
from dvc.repo import Repo

from stages.artifacts import artifacts

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    p.stem for p in (ROOT / "stages").glob("*.py") if p.stem not in ("__init__", "artifacts")
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_stage_looks_at_all_parameters_first(tmp_path, monkeypatch, program):
    good = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(good.replace("\ntau: 0.3", "\ntau: 7\nnosuchkey: 1"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program, "faces"])
    with pytest.raises(
        SystemExit, match=r"(?s)params\.yaml: change these keys:.*tau: .*nosuchkey: "
    ):
        runpy.run_path(str(ROOT / f"stages/{program}.py"), run_name="__main__")
    assert [p.name for p in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_stage_finds_an_output_that_cannot_be_written_before_its_work(
    tmp_path, monkeypatch, program
):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "models").write_text("a file in the folder's place")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [program, "faces"])
    with pytest.raises(SystemExit, match="models: cannot be written to: models: Not a directory"):
        runpy.run_path(str(ROOT / f"stages/{program}.py"), run_name="__main__")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models", "params.yaml"]


def test_the_folders_that_are_tried_are_those_of_all_outputs():
    rendered = {artifacts.rendered, artifacts.rendered_estimators}
    paths = {path for path in vars(artifacts).values() if isinstance(path, Path)} - rendered
    paths |= {artifacts.recognizer("x"), artifacts.recognizer_curve("x")}
    inner = {artifacts.root, artifacts.features, *rendered}  # and what lies in an output
    assert {path.parent for path in paths if path.parent not in inner} <= set(artifacts.folders)


def test_a_key_that_no_stage_knows_runs_the_report_which_refuses_it(tmp_path, monkeypatch):
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    repo = Repo.init(no_scm=True)

    def depended_on():
        stage = repo.stage.load_one(name="report")
        (params,) = (d for d in stage.deps if isinstance(d, ParamsDependency))
        return params

    before = depended_on()
    before.save()
    assert not before.status()
    with (tmp_path / "params.yaml").open("a") as file:
        file.write("# a comment\n")
    assert not before.status()
    with (tmp_path / "params.yaml").open("a") as file:
        file.write("nosuchkey: 1\n")
    assert "nosuchkey" in str(before.status())
