"""dvc.yaml names what a stage reads: its code by the stage ``code``, and paths of the artefacts."""

import shutil
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from stages.artifacts import Artifacts

ROOT = Path(__file__).parents[2]
STAGES = {
    name: stage.get("do", stage)
    for file in ("dvc.yaml", "data/rendered/dvc.yaml")
    for name, stage in yaml.safe_load((ROOT / file).read_text())["stages"].items()
}


def programs(stage):
    commands = stage["cmd"] if isinstance(stage["cmd"], list) else [stage["cmd"]]
    return {command.split("stages.")[1].split()[0] for command in commands}


@pytest.mark.parametrize("name", [name for name in STAGES if name != "code"])
def test_a_stage_depends_on_the_code_of_its_programs(name):
    stage = STAGES[name]
    assert {dep for dep in stage["deps"] if dep.startswith("data/code/")} == {
        f"data/code/{program}" for program in programs(stage)
    }


def test_every_program_is_a_stage():
    there = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__", "artifacts"}
    assert set.union(*(programs(stage) for stage in STAGES.values())) == there


def test_paths_of_dvc_yaml_are_the_artefacts():
    """Neither names one that the other does not know."""
    known = {str(path) for path in vars(Artifacts(Path())).values()} | {"reports/run.json"}
    for name in ("generated", "real", "${key}"):
        known |= {f"models/fr/{name}.safetensors", f"reports/curves/fr_{name}.csv"}
    known |= {f"data/rendered/{store}" for store in ("${item}", "${item}-attributes")}
    named = set()
    for stage in STAGES.values():
        outs = [*stage.get("outs", []), *stage.get("metrics", []), *stage["deps"]]
        named |= {next(iter(out)) if isinstance(out, dict) else out for out in outs}
    named = {
        path
        for path in named
        if not path.startswith(
            ("${paths", "${estimators", "${item", "data/code", "models/rendered/")
        )
    }
    assert named - {"stages", "vec2face", *known} == set()


def test_experiments_in_copies_find_the_work_of_the_repository(tmp_path, monkeypatch):
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv("VEC2FACE_WORK", raising=False)
    assert Artifacts(tmp_path / "copy").work == tmp_path / "copy/work"
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))  # as DVC sets it for the stages of a copy
    assert Artifacts(tmp_path / "copy").work == tmp_path / "work"
    monkeypatch.setenv("VEC2FACE_WORK", str(tmp_path / "elsewhere"))
    assert Artifacts(tmp_path / "copy").work == tmp_path / "elsewhere"


def test_a_masked_set_has_a_stage_that_watches_faces_and_mask_and_changes_no_other(tmp_path):
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    described = []
    for masked in ({}, {"half": {"path": "faces.rec", "rows": "half.npy"}}):
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(params | {"masked_sets": masked}))
        stages = Repo(str(tmp_path), uninitialized=True).index.stages
        described.append(
            {
                stage.name: (stage.cmd, {str(d) for d in stage.deps}, {str(o) for o in stage.outs})
                for stage in stages
            }
        )
    plain, with_mask = described
    command, deps, outs = with_mask.pop("masked_recognizer@half")
    assert with_mask == plain
    assert command == "python -m stages.recognizer half"
    assert deps >= {"faces.rec", "half.npy", "data/code/recognizer"}
    assert outs == {"models/fr/half.safetensors", "reports/curves/fr_half.csv"}


def test_dvc_yaml_names_no_module():
    assert "vec2face/" not in (ROOT / "dvc.yaml").read_text()
    assert "stages/" not in (ROOT / "dvc.yaml").read_text()


def test_the_pipeline_has_one_order_and_code_comes_first(tmp_path):
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    graph = Repo.init(tmp_path, no_scm=True).index.graph
    assert all(graph.out_degree(stage) for stage in graph if stage.name != "code")
