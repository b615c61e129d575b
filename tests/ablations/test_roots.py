"""Roots, on a pipeline of three small programs in place of the real one."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from ablations import roots
from ablations.__main__ import over_seeds
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
    return folder


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
def test_only_what_a_variant_touches_runs(base, tmp_path, monkeypatch, changes, programs):
    monkeypatch.setattr(roots, "read_pipeline", with_folders(roots.read_pipeline))
    root = Root(tmp_path / "variant", base, changes)
    root.make(["tell"])
    assert ran(base) == programs
    told = tmp_path / "variant/reports/told.json"
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


def test_a_changed_input_runs_all_that_reads_it(base, tmp_path, monkeypatch):
    monkeypatch.setattr(roots, "read_pipeline", with_folders(roots.read_pipeline))
    variant = tmp_path / "variant"
    Root(variant, base, {"fr.seed": 1}).make(["tell"])
    assert ran(base) == ["tell"]
    (base / "data/rendered/faces").write_text("other faces")
    (base / "models/fit").write_text("fit(other faces)")
    Root(variant, base, {"fr.seed": 1}).make(["tell"])
    assert ran(base) == ["tell"]
    assert "fit(other faces)" in (variant / "reports/told.json").read_text()


def test_a_failing_stage_is_no_result(base, tmp_path, monkeypatch):
    monkeypatch.setattr(roots, "read_pipeline", with_folders(roots.read_pipeline))
    root = Root(tmp_path / "variant", base, {"fr.seed": 1})
    (base / "program.py").write_text("raise SystemExit(3)")
    with pytest.raises(InputError, match="variant: `python .*tell.*` failed"):
        root.make(["tell"])
    (base / "program.py").write_text(PROGRAM)
    root.make(["tell"])
    assert ran(base) == ["tell"]


def test_what_the_pipeline_lacks_is_named(base, tmp_path):
    (base / "models/fit").unlink()
    with pytest.raises(InputError, match=r"models/fit: is missing; `dvc repro` makes it"):
        Root(tmp_path / "variant", base, {"fr.seed": 1}).make(["tell"])


def test_keys_of_variants_are_those_of_the_parameters():
    content = yaml.safe_load((PROJECT / "params.yaml").read_text())
    changed = overridden(content, {"fr.seed": 3, "training_sets.mine": "faces.rec"})
    assert changed["fr"]["seed"] == 3
    assert changed["training_sets"]["mine"] == "faces.rec"
    assert content["fr"]["seed"] is None
    for wrong in ("fr.sede", "nothing.at.all", "seed.more"):
        with pytest.raises(InputError, match=wrong):
            overridden(content, {wrong: 1})


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
