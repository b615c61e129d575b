import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from dvc.repo import Repo

from vec2face.config.params import Params
from vec2face.planning import check as preflight


def leaves(content, prefix=""):
    """All keys that hold a value, with dots."""
    for key, value in content.items():
        yield from leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]


def test_every_parameter_reaches_a_stage():
    """As one of its params, or as the path of a dependency; the report's, which are all, aside."""
    stages = list(yaml.safe_load(Path("dvc.yaml").read_text())["stages"].values())
    listed, paths = set(), set()
    for stage in [stage.get("do", stage) for stage in stages]:
        listed |= {key for key in stage.get("params", []) if isinstance(key, str)}
        paths |= {dep[2:-1] for dep in stage["deps"] if dep.startswith("${")}
    paths |= {stage["foreach"][2:-1] for stage in stages if "foreach" in stage}
    for key in leaves(yaml.safe_load(Path("params/paper.yaml").read_text())):
        parts = key.split(".")
        above = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        assert above & (listed | paths) or parts[0] in ("rendered", "world"), key


def test_every_path_is_documented():
    p = Params.load("params/paper.yaml")
    text = Path("data/README.md").read_text()
    for path in (*p.paths.model_dump().values(), p.training.lpips_weights):
        assert f"`{path}" in text or path == "models/generator.safetensors", path
    for found in preflight.inspect(p):
        assert found.path.startswith("data/") or found.path == "models/generator.safetensors"


def test_a_dry_run_of_the_papers_parameters_prints_its_whole_pipeline(tmp_path):
    """Without its data, and without the rendered world that stands in elsewhere."""
    for name in ("dvc.yaml", "data/rendered/dvc.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, tmp_path / name)
    shutil.copy("params/paper.yaml", tmp_path / "params.yaml")
    Repo.init(tmp_path, no_scm=True)
    command = [sys.executable, "-m", "dvc", "repro", "--dry", "--force", "report"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    stages = re.findall(r"^Running stage '(.+)'", shown.stdout, re.MULTILINE)
    position = {stage: stages.index(stage) for stage in stages}
    flow = ["subset", "features", "generator", "dataset", "recognizer@generated", "evaluate"]
    assert sorted(flow, key=position.__getitem__) == flow
    assert {"pca", "identities", "recognizer@real", "measure"} < set(stages)
    assert stages[-1] == "report"
    assert not [stage for stage in stages if "rendered" in stage]
