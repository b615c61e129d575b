"""What experiments ask of dvc.yaml: DVC keeps each stage's results, whatever it ran last."""

import shutil
from pathlib import Path

import yaml
from dvc.repo import Repo

ROOT = Path(__file__).parents[1]
FIGURES = ("sampling", "perturbation", "quality", "labels", "leaks", "evaluation", "metrics")


def test_a_parameter_goes_back_and_no_stage_runs_again(tmp_path, monkeypatch):
    """The stages up to identities, with commands that take no time and note that they ran."""
    folder = tmp_path / "pipeline"
    for path in ("data/rendered/pca", "models/rendered/identity.onnx", "stages/x", "vec2face/x"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("given")
    monkeypatch.chdir(folder)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    stages = {name: stages[name] for name in ("code", "pca", "identities")}
    for name, stage in stages.items():
        outs = [*stage["outs"], *(next(iter(out)) for out in stage.get("metrics", []))]
        copies = [f"mkdir -p {Path(out).parent} && cp params.yaml {out}" for out in outs]
        if name == "code":
            copies = ["mkdir -p data/code && cp params.yaml data/code/pca"]
            copies += ["cp params.yaml data/code/identities"]
        stage["cmd"] = " && ".join([f"echo {name} >> {tmp_path}/ran", *copies])
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    first = Path("params.yaml").read_text()
    second = first.replace("\ntau: 0.3 ", "\ntau: 0.25 ")
    repo = Repo.init(folder, no_scm=True)
    found = []
    for text in (first, second, first, second):
        Path("params.yaml").write_text(text)
        repo.reproduce()
        found.append(Path("reports/sampling.json").read_text())
    assert (tmp_path / "ran").read_text().split() == ["code", "pca", "identities", "identities"]
    assert found == [first, second, first, second]


def test_every_stage_can_be_in_the_run_cache_and_shows_its_figures():
    repo = Repo(ROOT)
    # ablations/ has a memory of its own: reports/ablations/results.
    tables = str(ROOT / "ablations")
    stages = [s for s in repo.index.stages if not (s.frozen or s.path.startswith(tables))]
    # What git keeps instead of DVC's cache has to be a metric, or DVC keeps the whole stage out:
    # the report alone, which takes seconds, for run.json has no figure.
    outs = [out for stage in stages for out in stage.outs if not out.use_cache]
    outs = [out for out in outs if out.def_path != "reports/run.json"]
    assert all(out.is_metric for out in outs)
    assert {Path(out.def_path).stem for out in outs} == {*FIGURES}
