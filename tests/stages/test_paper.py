import re
import shutil
import subprocess
import sys

from dvc.repo import Repo


def test_a_dry_run_of_the_papers_parameters_prints_its_whole_pipeline(tmp_path):
    """Without its data, and without the rendered world that stands in elsewhere."""
    for name in ("dvc.yaml", "data/world/dvc.yaml"):
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
    assert not [stage for stage in stages if "world" in stage]
