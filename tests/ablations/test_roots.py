"""Roots, on a pipeline of three small programs in place of the real one."""

import contextlib
import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from ablations.devices import held
from ablations.pipeline import Own, fingerprints, read_pipeline
from ablations.roots import Root, overridden
from vec2face.runtime.files import InputError

PROJECT = Path(__file__).parents[2]
# A program adds its name to what it reads; it also says that it ran.
PROGRAM = """
import pathlib, sys
name, out, *reads = sys.argv[1:]
files = map(pathlib.Path, reads)
text = "+".join((f / "part" if f.is_dir() else f).read_text() for f in files)
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
def test_only_what_a_variant_touches_runs(base, variant, changes, programs):
    root = Root(variant, base, changes)
    root.make(["tell"])
    assert ran(base) == programs
    told = variant / "reports/told.json"
    assert told.read_text() == (base / "reports/told.json").read_text()
    assert (told.resolve() == base / "reports/told.json") == ("tell" not in programs)
    root.make(["tell"])
    assert ran(base) == []  # it goes on with what it has


def test_a_changed_input_runs_all_that_reads_it(base, variant):
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


def test_a_failing_stage_is_no_result(base, variant):
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
    ("change", "programs"),
    [
        (lambda base: edit(base, tau=0.9), ["fit", "draw", "tell"]),
        (lambda base: edit(base, sigma=[0.4, 0.5, 0.7]), ["draw", "tell"]),
        (lambda base: (base / "models/fit").write_text("by hand"), ["fit", "draw", "tell"]),
        (lambda base: (base / "models/fit").unlink(), ["fit", "draw", "tell"]),
        (lambda base: (base / "dvc.lock").unlink(), ["fit", "draw", "tell"]),
    ],
)
def test_results_that_belong_to_other_parameters_or_files_are_made_again(
    base, variant, change, programs
):
    change(base)
    root = Root(variant, base, {"fr.seed": 1})
    assert [stage.name for stage in root.left(["tell"])] == programs
    root.make(["tell"])
    assert ran(base) == programs
    assert (variant / "reports/told.json").read_text() == "tell(draw(fit(faces))+fit(faces))"


def test_what_a_variant_makes_itself_need_not_be_there(base, variant):
    edit(base, sigma=[0.4, 0.5, 0.7])  # which draw reads; fit does not
    Root(variant, base, {"sigma": [0.1, 0.2, 0.3]}).make(["tell"])
    assert ran(base) == ["draw", "tell"]


def test_variants_share_what_is_the_same_for_both(base, variant):
    changes = {"sigma": [0.1], "sigma_share": [1.0]}
    Root(variant, base, changes).make(["tell"])
    assert ran(base) == ["draw", "tell"]
    other = Root(variant.with_name("other"), base, {**changes, "fr.seed": 1})
    assert [stage.name for stage in other.left(["tell"])] == ["tell"]
    other.make(["tell"])
    assert ran(base) == ["tell"]
    drawn = "data/drawn/part"
    assert (other.folder / drawn).resolve() == (variant / drawn).resolve()


def test_variants_side_by_side_make_what_they_share_once(base, variant):
    roots = [Root(variant.with_name(f"v{n}"), base, {"tau": 0.2, "fr.seed": n}) for n in (1, 2, 3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda root: root.make(["tell"]), roots))
    assert sorted(ran(base)) == ["draw", "fit", "tell", "tell", "tell"]


def test_a_variant_goes_back_and_forth_without_work(base, variant):
    for seed in (1, 2, 1):
        Root(variant, base, {"fr.seed": seed}).make(["tell"])
    assert ran(base) == ["tell", "tell"]
    Root(variant, base, {}).make(["tell"])
    assert (variant / "reports/told.json").resolve() == base / "reports/told.json"


def test_devices_are_handed_out_one_to_each(tmp_path):
    names, got = ("4", "7"), []

    def third():
        with held(tmp_path, names) as device:
            got.append(device["CUDA_VISIBLE_DEVICES"])

    with ThreadPoolExecutor(1) as pool, held(tmp_path, names) as one:
        with held(tmp_path, names) as other:
            assert {each["CUDA_VISIBLE_DEVICES"] for each in (one, other)} == set(names)
            waiting = pool.submit(third)
            assert not got
        waiting.result()
    assert got == [other["CUDA_VISIBLE_DEVICES"]]
    with held(tmp_path, ("cpu",)) as alone:
        assert alone == {}


def test_code_counts_as_it_is_now(base, variant):
    """Not as it was when the pipeline ran; a comment is no change."""
    (base / "stages").mkdir()
    program = base / "stages/fit.py"
    program.write_text("print(1)\n")
    file = base / "dvc.yaml"
    stages = yaml.safe_load(file.read_text())["stages"]
    stages["code"] = {"cmd": "true", "deps": ["stages"], "outs": ["data/code"]}
    stages["fit"]["deps"].append("data/code/fit")
    file.write_text(yaml.safe_dump({"stages": stages}))
    marks = [Root(variant, base, {}).marks]
    for text in ("# one\nprint(1)\n", "print(2)\n"):
        program.write_text(text)
        marks.append(Root(variant, base, {}).marks)
    assert marks[0] == marks[1]
    assert all(marks[0][name] != marks[2][name] for name in ("fit", "draw", "tell"))


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


def test_inputs_are_found_from_the_variant_and_change_no_fingerprint(photos, variant):
    root = Root(variant, photos, {"sigma": [0.1, 0.2, 0.3]})
    ours = root.marks
    theirs = Own(photos).marks
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
