"""Every command of the documentation is run here, or it is said where it is, or why it is not."""

import re
import shutil
from pathlib import Path

import pytest
from dvc.cli import main as dvc

from tests.commands import PAGES, furnish, shown
from tests.parameters import ROOT
from vec2face.cli import main

PLANS = ("dvc repro --dry --force", "dvc dag --mermaid")  # show the pipeline, and change nothing
ELSEWHERE = {
    r"make test|\.ci/run|python -m tests\.fuzz": "these tests are what it runs",
    r"dvc (add|config) .*": "of a user's own repository; DVC's tests have them",
    r"make (lint|lock)": ".ci/run does so",
    r"make repro|dvc repro( [\w@<>/.:-]+)?|cp params/[\w<>]+\.yaml params\.yaml": (
        ".ci/smoke does so at params/smoke.yaml; the default takes 80 minutes, the paper's months"
    ),
    r"python -m ablations check": "tests/ablations/test_study.py",
    r"dvc repro -f identities|dvc commit --force generator": "stages of the default size",
    r"dvc (exp|queue|plots|metrics) .*|git (checkout|diff) params\.yaml": (
        "an experiment trains the default's networks"
    ),
    r"dvc (remote|push|pull|artifacts)( .*)?|git tag .*": "tests/stages/test_publishing.py",
    r"torchrun .*": "several nodes; tests/generator/test_processes.py has several processes",
    r"python -m stages\..*": "DVC calls these; tests/stages has each of them",
    r"python -m benchmarks\..*": "measures for minutes; tests/benchmarks has what it computes",
    r"pip install .*|pre-commit .*": "fetches packages, or needs a clone of git",
}
"""Commands as regular expressions, and where they are run or why they are not."""


def ours():
    """Return the arguments of all pages' commands that say all that they need, each once.

    A mere mention has fewer than two arguments; ``weights`` is a word for many files; revisions,
    which ``gate`` compares, are in tests/report/test_revisions.py.
    """
    found = []
    for words in (words for page in PAGES for words in shown(page)):
        given = words[3:]
        whole = given[:1] == ["check"] or (len(given) > 2 and not {"weights", "gate"} & {*given})
        if words[:3] == ["python", "-m", "vec2face"] and whole and given not in found:
            found.append(given)
    return found


def test_every_other_command_is_accounted_for():
    every = {
        " ".join(words)
        for page in PAGES
        for words in shown(page)
        if words[:3] != ["python", "-m", "vec2face"]
    } - {*PLANS}
    assert len(every) > 30
    assert not [c for c in every if not any(re.fullmatch(e, c) for e in ELSEWHERE)]
    assert not [e for e in ELSEWHERE if not any(re.fullmatch(e, c) for c in every)]


def test_our_commands_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    furnish(tmp_path)
    assert len(ours()) > 20
    for given in ours():
        Path("sheet.png").unlink(missing_ok=True)  # which many write, and none replaces
        fine = (0, 1) if given[0] == "check" else (0,)  # 1: the folder lacks what other stages read
        assert main(given) in fine, given


@pytest.mark.parametrize("params", ["params.yaml", "params/smoke.yaml"])
def test_plans_are_shown(params, tmp_path, monkeypatch):
    for name in ("dvc.yaml", "data/rendered/dvc.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / params, tmp_path / "params.yaml")
    for name in ("stages", "vec2face", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\nno_scm = True\nanalytics = False\n")
    monkeypatch.chdir(tmp_path)
    for plan in PLANS:
        assert dvc(plan.split()[1:]) == 0, plan
