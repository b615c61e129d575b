"""Roots, on a pipeline of three small programs in place of the real one."""

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from ablations import roots
from ablations.__main__ import over_seeds, with_seed
from ablations.roots import Root, fingerprints, overridden, read_pipeline
from vec2face.config.params import Params
from vec2face.runtime.files import InputError

PROJECT = Path(__file__).parents[2]
# A program adds its name to what it reads; it also says that it ran.
PROGRAM = """
import pathlib, sys
name, out, *reads = sys.argv[1:]
text = "+".join(pathlib.Path(r).read_text() for r in reads)
pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
pathlib.Path(out).write_text(f"{name}({text})")
with open(pathlib.Path(__file__).with_name("log"), "a") as log: log.write(name + " ")
"""


@pytest.fixture
def base(tmp_path):
    """A repository whose results lie there, and belong to its parameters."""
    folder = tmp_path / "base"
    for shared in ("data/code", "data/rendered", "models/rendered"):
        (folder / shared).mkdir(parents=True)
    shutil.copy(PROJECT / "params.yaml", folder)
    program = folder / "program.py"
    program.write_text(PROGRAM)

    def stage(name, out, reads, keys):
        command = " ".join([f"python {program} {name} {out}", *reads])
        return {"cmd": command, "deps": reads, "params": keys, "outs": [out]}

    (folder / "data/rendered/faces").write_text("faces")
    stages = {
        "fit": stage("fit", "models/fit", ["data/rendered/faces"], ["tau"]),
        "draw": stage("draw", "data/drawn/part", ["models/fit"], ["sigma", "sampling.seed"]),
        "tell": stage("tell", "reports/told.json", ["data/drawn", "models/fit"], ["fr.seed"]),
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for name, out, reads in (
        ("fit", "models/fit", "faces"),
        ("draw", "data/drawn/part", "fit(faces)"),
        ("tell", "reports/told.json", "draw(fit(faces))+fit(faces)"),
    ):
        path = folder / out
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}({reads})")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    (folder / ".gitignore").write_text("work/\n")
    Repo.init(str(folder)).close()
    return commit(folder)


def commit(base):
    """Have ``dvc.lock`` say that the files are made from what is there now."""
    with contextlib.chdir(base), Repo(str(base)) as repo:
        repo.commit(force=True)
    return base


@pytest.fixture
def variant(base):
    return base / "work/ablations/variant"


def ran(base):
    log = base / "log"
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return names


@pytest.mark.parametrize(
    ("changes", "programs"),
    [
        ({}, []),
        ({"identities": 100}, []),  # no stage reads it
        ({"fr.seed": 1}, ["tell"]),
        ({"sigma": [0.3], "sigma_share": [1.0]}, ["draw", "tell"]),
        ({"tau": 0.2, "fr.seed": 1}, ["fit", "draw", "tell"]),
    ],
)
def test_only_what_a_variant_touches_runs(base, variant, monkeypatch, changes, programs):
    monkeypatch.setattr(roots, "read_pipeline", with_folders(roots.read_pipeline))
    root = Root(variant, base, changes)
    root.make(["tell"])
    assert ran(base) == programs
    told = variant / "reports/told.json"
    assert told.read_text() == (base / "reports/told.json").read_text()
    assert told.is_symlink() == ("tell" not in programs)
    root.make(["tell"])
    assert ran(base) == []  # it goes on with what it has


def with_folders(read):
    """``tell`` reads the folder of a file; the program the file itself."""

    def wrapped(folder):
        return [
            roots.Stage(s.name, s.command.replace("data/drawn ", "data/drawn/part "),
                        s.keys, s.reads, s.writes)
            for s in read(folder)
        ]  # fmt: skip

    return wrapped


def test_a_changed_input_runs_all_that_reads_it(base, variant, monkeypatch):
    monkeypatch.setattr(roots, "read_pipeline", with_folders(roots.read_pipeline))
    Root(variant, base, {"fr.seed": 1}).make(["tell"])
    assert ran(base) == ["tell"]
    (base / "data/rendered/faces").write_text("other faces")
    (base / "models/fit").write_text("fit(other faces)")
    commit(base)
    Root(variant, base, {"fr.seed": 1}).make(["tell"])
    assert ran(base) == ["tell"]
    assert "fit(other faces)" in (variant / "reports/told.json").read_text()


def test_nothing_outside_of_its_folder_is_touched(base, variant):
    """DVC calls what lies in the repository, but not in the variant, by a path of dots."""
    beside = variant.parent / "sets/faces"
    beside.mkdir(parents=True)
    content = yaml.safe_load((base / "dvc.yaml").read_text())
    content["stages"]["fit"]["deps"].append("${training_sets.more}")
    (base / "dvc.yaml").write_text(yaml.safe_dump(content))
    parameters = yaml.safe_load((base / "params.yaml").read_text())
    parameters["training_sets"]["more"] = "data/rendered/faces"
    (base / "params.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    commit(base)
    for path in (str(beside), "work/ablations/sets/faces"):
        Root(variant, base, {"training_sets.more": path})
        assert beside.is_dir()
        assert not beside.is_symlink()


def test_a_failing_stage_is_no_result(base, variant, monkeypatch):
    monkeypatch.setattr(roots, "read_pipeline", with_folders(roots.read_pipeline))
    root = Root(variant, base, {"fr.seed": 1})
    (base / "program.py").write_text("raise SystemExit(3)")
    with pytest.raises(InputError, match="variant: `python .*tell.*` failed"):
        root.make(["tell"])
    (base / "program.py").write_text(PROGRAM)
    root.make(["tell"])
    assert ran(base) == ["tell"]


def edit(base, **values):
    content = yaml.safe_load((base / "params.yaml").read_text())
    (base / "params.yaml").write_text(yaml.safe_dump(content | values))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda base: edit(base, tau=0.9), "stage fit .*params.yaml"),
        (lambda base: edit(base, sigma=[0.4, 0.5, 0.7]), "stage draw .*params.yaml"),
        (lambda base: (base / "data/rendered/faces").write_text("others"), "stage fit .*faces"),
        (lambda base: (base / "models/fit").write_text("by hand"), "stage fit .*models/fit"),
        (lambda base: (base / "models/fit").unlink(), "stage fit .*models/fit"),
        (lambda base: (base / "dvc.lock").unlink(), "stage fit "),
    ],
)
def test_results_that_belong_to_other_parameters_or_files_are_refused(base, variant, change, named):
    change(base)
    with pytest.raises(InputError, match=f"{named}.*`dvc repro`"):
        Root(variant, base, {"fr.seed": 1}).make(["tell"])
    assert not (variant / "models/fit").exists()


def test_what_a_variant_makes_itself_need_not_be_there(base, variant, monkeypatch):
    monkeypatch.setattr(roots, "read_pipeline", with_folders(roots.read_pipeline))
    edit(base, sigma=[0.4, 0.5, 0.7])  # which draw reads; fit does not
    Root(variant, base, {"sigma": [0.1, 0.2, 0.3]}).make(["tell"])
    assert ran(base) == ["draw", "tell"]


def test_code_that_has_changed_since_is_refused(base, variant):
    """Programs run as they are now, so what they reach must be what the others were made by."""
    file = base / "dvc.yaml"
    stages = yaml.safe_load(file.read_text())["stages"]
    stages["code"] = {"cmd": "true", "deps": ["program.py"], "outs": ["data/code"]}
    file.write_text(yaml.safe_dump({"stages": stages}))
    (base / "data/code/all").write_text("checksums")
    commit(base)
    with (base / "program.py").open("a") as program:
        program.write("print()")
    with pytest.raises(InputError, match=r"stage code .*program.py.*`dvc repro`"):
        Root(variant, base, {"tau": 0.2}).make(["tell"])


GIVEN = {
    "paths.faces": "data/photos/train/faces.rec",
    "paths.pca_faces": "data/others.rec",
    "paths.benchmarks": "../marks/lfw.bin",
    "paths.recognizer": "r.onnx",
    "away_from": ["private/people"],
    "training_sets.mine": "sets/mine.rec",
    "estimators.pose.file": "models/pose.onnx",
}


@pytest.fixture
def photos(base):
    """A repository whose stages read what the parameters name, anywhere below it or beside it."""
    content = overridden(yaml.safe_load((base / "params.yaml").read_text()), GIVEN)
    content["training"]["lpips_weights"] = "weights/vgg.pth"
    (base / "params.yaml").write_text(yaml.safe_dump(content))
    files = [p if isinstance(p, str) else p[0] for p in GIVEN.values()]
    for name in [*files, "weights/vgg.pth", "data/photos/train/faces.idx", "data/others.idx"]:
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    pipeline = yaml.safe_load((base / "dvc.yaml").read_text())
    fit = pipeline["stages"]["fit"]
    fit["deps"] += [f"${{{key}}}" for key in GIVEN if key != "away_from"]
    fit["params"] += ["paths", "away_from", "training_sets"]
    (base / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    return commit(base)


def test_inputs_are_found_from_the_variant_and_change_no_fingerprint(photos, variant, monkeypatch):
    monkeypatch.setattr(roots, "read_pipeline", with_folders(roots.read_pipeline))
    root = Root(variant, photos, {"sigma": [0.1, 0.2, 0.3]})
    ours = fingerprints(root.stages, variant)
    theirs = fingerprints(roots.read_pipeline(photos), photos)
    assert ours["fit"] == theirs["fit"]
    assert ours["draw"] != theirs["draw"]
    root.make(["tell"])
    assert ran(photos) == ["draw", "tell"]
    p = root.params
    for named, name in (
        (p.paths.faces, GIVEN["paths.faces"]),
        (p.paths.faces.replace(".rec", ".idx"), "data/photos/train/faces.idx"),
        (p.paths.pca_faces, GIVEN["paths.pca_faces"]),
        (p.paths.pca_faces.replace(".rec", ".idx"), "data/others.idx"),
        (p.paths.benchmarks, GIVEN["paths.benchmarks"]),
        (p.paths.recognizer, GIVEN["paths.recognizer"]),
        (p.away_from[0], GIVEN["away_from"][0]),
        (p.training_sets["mine"], GIVEN["training_sets.mine"]),
        (p.training.lpips_weights, "weights/vgg.pth"),
        (p.estimators["pose"].file, GIVEN["estimators.pose.file"]),
    ):
        assert (variant / named).read_text() == name
    assert not (variant / "data").is_symlink()
    assert not (variant / "models").is_symlink()


def test_programs_of_a_variant_write_into_it(base, variant, monkeypatch):
    monkeypatch.setattr(roots, "read_pipeline", with_folders(roots.read_pipeline))
    monkeypatch.setenv("VEC2FACE_ROOT", str(base))  # as of another run
    look = "import os; assert 'VEC2FACE_ROOT' not in os.environ\n"
    (base / "program.py").write_text(look + PROGRAM)
    Root(variant, base, {"fr.seed": 1}).make(["tell"])
    assert ran(base) == ["tell"]


def test_keys_of_variants_are_those_of_the_parameters():
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    changed = overridden(content, {"fr.seed": 3, "training_sets.mine": "faces.rec"})
    assert changed["fr"]["seed"] == 3
    assert changed["training_sets"]["mine"] == "faces.rec"
    assert content["fr"]["seed"] is None
    for wrong in ("fr.sede", "nothing.at.all", "seed.more"):
        with pytest.raises(InputError, match=wrong):
            overridden(content, {wrong: 1})


@pytest.mark.parametrize(
    ("values", "changes", "seed", "sampling", "fr"),
    [
        ({}, {}, 0, None, None),  # null means seed, which is 0
        ({}, {}, 2, 2, 2),
        ({"seed": 2}, {}, 2, None, None),
        ({"seed": 2}, {}, 0, 0, 0),
        ({}, {"seed": 1}, 1, None, None),
        ({}, {"seed": 1}, 0, 0, 0),
        ({"fr.seed": 5}, {}, 0, None, 0),
        ({"fr.seed": 5}, {"tau": 0.2}, 5, 5, 5),
    ],
)
def test_a_seed_that_is_so_already_changes_nothing(values, changes, seed, sampling, fr):
    content = overridden(yaml.safe_load((PROJECT / "params.yaml").read_text()), values)
    found = overridden(content, with_seed(content, changes, seed))
    assert (found["sampling"]["seed"], found["fr"]["seed"]) == (sampling, fr)
    assert {**found, "sampling": 0, "fr": 0} == {
        **overridden(content, changes), "sampling": 0, "fr": 0}  # fmt: skip


def test_shipped_variants_are_possible(tmp_path):
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    tables = yaml.safe_load((PROJECT / "ablations/variants.yaml").read_text())
    for table in tables.values():
        for changes in table["variants"].values():
            for seed in table["seeds"]:
                seeds = {"fr.seed": seed, "sampling.seed": seed}
                text = yaml.safe_dump(overridden(content, {**changes, **seeds}))
                (tmp_path / "params.yaml").write_text(text)
                Params.load(tmp_path / "params.yaml")


def test_stages_of_the_real_pipeline_come_in_order():
    names = [stage.name for stage in read_pipeline(PROJECT)]
    assert names.index("code") < names.index("subset") < names.index("generator")
    assert names.index("recognizer@real") < names.index("evaluate") < names.index("report")
    seeds = {s.name: s.keys for s in read_pipeline(PROJECT)}
    assert "sampling.seed" in seeds["identities"]


def test_fingerprints_tell_inputs_apart(base):
    stages = read_pipeline(base)
    before = fingerprints(stages, base)
    (base / "data/rendered/faces").write_text("others")
    after = fingerprints(stages, base)
    assert all(before[name] != after[name] for name in ("fit", "draw", "tell"))
    assert json.dumps(after) == json.dumps(fingerprints(stages, base))


def test_means_and_deviations_over_seeds():
    found = over_seeds([{"avg": 1.0, "x": 2}, {"avg": 2.0}, {"avg": 4.0}])
    assert set(found) == {"avg"}
    assert found["avg"]["mean"] == pytest.approx(7 / 3, abs=1e-4)
    assert found["avg"]["std"] == pytest.approx((7 / 3) ** 0.5, abs=1e-4)  # (16 + 1 + 25) / 9 / 2
    assert over_seeds([{"avg": 1.0}])["avg"]["std"] is None
