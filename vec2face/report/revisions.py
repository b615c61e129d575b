"""Revisions of the repository as folders, and whether the results in one belong to its code.

A revision is a commit, a branch, a tag or a DVC experiment.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from vec2face.report.results import Results
from vec2face.runtime.files import InputError

# What DVC says of a stage that it would run: with its inputs, and without.
_RUNS = re.compile(r"^(?:Running stage|ERROR: failed to reproduce) '(.+?)'", re.MULTILINE)


def results_of(name: str, copy: Path, *, check: bool) -> tuple[Results, list[str]]:
    """Return the results that a folder or a revision holds.

    Args:
        name: of the folder, or else of the revision of the current folder's repository.
        copy: a path that is not there yet; a revision is written to it, and a repository's files.
        check: whether to look if the results belong to the parameters and the code beside them.

    Returns:
        The results, and the stages that would run again (``outdated``); none if the folder is not
        the root of a git repository, so that nothing tells.

    Raises:
        InputError: neither is there, or it holds no results.
    """
    folder = Path(name)
    if folder.is_dir():
        results = Results.read(folder, "the working tree" if name == "." else name)
        known = check and _copy_tracked(folder, copy)
    else:
        commit = _commit(name)
        _check_out(commit, copy)
        results = Results.read(copy, f"{name} ({commit[:8]})")
        known = check
    return results, outdated(copy) if known else []


def _check_out(commit: str, folder: Path) -> None:
    archive = subprocess.run(
        ["git", "-C", _top(Path()), "archive", "--format=tar", commit],
        capture_output=True,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")


def _copy_tracked(root: Path, folder: Path) -> bool:
    """Copy a repository's files as they are now, without those that git ignores.

    Returns:
        Whether the folder is the root of a git repository; if not, nothing is copied.
    """
    if _git(root, "rev-parse", "--show-prefix", "--is-inside-work-tree").split() != ["true"]:
        return False
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source, target = root / name, folder / name
        if source.is_file():  # not deleted, no submodule
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return True


def outdated(folder: Path) -> list[str]:
    """Return the stages that would run again, from code, parameters and ``dvc.lock`` alone.

    No data are needed. The checksums of the code are computed anew.

    Args:
        folder: a copy of a repository, which no git knows; its ``dvc.lock`` is touched.

    Raises:
        InputError: DVC cannot read the pipeline, with its message.
    """
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = True\n    analytics = False\n")
    code = _dvc(folder, "repro", "code")
    plan = _dvc(folder, "repro", "--dry", "--allow-missing", "--keep-going")
    stages = list(dict.fromkeys(_RUNS.findall(plan.stdout + plan.stderr)))
    for done in (code, plan):
        if done.returncode and not stages:
            raise InputError(f"{folder}: DVC cannot read its pipeline: {done.stderr.strip()}")
    return stages


def _dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path}
    environment.pop("VEC2FACE_ROOT", None)  # the root is the copy
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def _commit(name: str) -> str:
    experiments = _git(Path(), "for-each-ref", "--format=%(refname)", "refs/exps").split()
    for reference in [name, *(r for r in experiments if r.endswith(f"/{name}"))]:
        revision = f"{reference}^{{commit}}"
        found = _git(Path(), "rev-parse", "--verify", "--quiet", "--end-of-options", revision)
        if found:
            return found.strip()
    raise InputError(f"{name}: neither a folder nor a revision of this repository; give one")


def _top(folder: Path) -> str:
    top = _git(folder, "rev-parse", "--show-toplevel").strip()
    if not top:
        raise InputError(f"{folder.resolve()}: lies in no git repository; give folders instead")
    return top


def _git(folder: Path, *arguments: str) -> str:
    """Return git's answer; empty if it has none."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
    )
    return "" if done.returncode else done.stdout
