"""A variant of the pipeline in a folder of its own, which links whatever it does not change.

Stages, their parameters and files are read from ``dvc.yaml``; nothing is listed here. A stage has a
fingerprint: of its command, the values of its keys, and the state of all that it reads, where
another stage's files have that stage's fingerprint. What a stage of the variant shares with the
pipeline's own, it links; what its folder has, it keeps; the rest it runs.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx as nx
import yaml
from dvc.repo import Repo
from dvc.repo.index import Index
from dvc.scm import SCM

from vec2face.config.params import Params
from vec2face.runtime.files import InputError, fingerprint
from vec2face.runtime.resume import state

log = logging.getLogger(__name__)

CODE = "code"
"""The stage that a variant shares always."""


@dataclass(frozen=True)
class Stage:
    """A stage of ``dvc.yaml``, with paths relative to its folder."""

    name: str
    command: str
    keys: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def read_pipeline(folder: Path) -> list[Stage]:
    """Return the stages of ``folder/dvc.yaml``, each behind those it reads from."""
    folder = folder.resolve()
    # The file by itself, without git: else DVC leaves out a folder that git ignores, as work/ is.
    repo = Repo(str(folder), uninitialized=True, scm=SCM(str(folder), no_scm=True))
    index = Index.from_file(repo, str(folder / "dvc.yaml"))
    return [
        Stage(
            stage.name,
            stage.cmd,
            tuple(key for dep in stage.deps for key in getattr(dep, "params", ())),
            tuple(dep.def_path for dep in stage.deps if not hasattr(dep, "params")),
            tuple(out.def_path for out in stage.outs),
        )
        for stage in nx.topological_sort(index.graph.reverse())
    ]


def check_made(folder: Path, names: Iterable[str]) -> None:
    """Check that stages of ``folder/dvc.yaml``, and all they read from, are as ``dvc.lock`` says.

    Raises:
        InputError: naming the first stage whose command, parameters or files have changed since.
    """
    pipeline = folder.resolve() / "dvc.yaml"
    graph = Repo(str(pipeline.parent)).index.graph
    wanted = {s for s in graph if Path(s.path) == pipeline and s.name in set(names)}
    wanted |= {above for stage in wanted for above in nx.descendants(graph, stage)}
    for stage in nx.topological_sort(graph.reverse()):
        if stage in wanted and not stage.frozen:
            inputs, outputs, command = stage.changed_entries()
            if changed := [*inputs, *outputs, *filter(None, [command])]:
                raise InputError(
                    f"{stage.path}: stage {stage.name} is not up to date: its files were made "
                    f"before a change of {changed[0]}; call `dvc repro`"
                )


def value_at(content: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key."""
    value: Any = content
    for name in key.split("."):
        value = value[name]
    return value


def overridden(content: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters with the values of some dotted keys replaced; the rest is shared.

    Raises:
        InputError: if a key is not there.
    """
    result = json.loads(json.dumps(content))
    for key, value in changes.items():
        *above, last = key.split(".")
        place = result
        for name in above:
            place = place.get(name) if isinstance(place, dict) else None
        if not isinstance(place, dict) or (
            last not in place and above not in (["training_sets"], ["masked_sets"])
        ):
            raise InputError(f"{key}: params.yaml has no such key")
        place[last] = value
    return result


def _settled(value: Any, folder: Path) -> Any:
    """Make paths that lead out of ``folder`` absolute, in a value of the parameters."""
    if isinstance(value, dict):
        return {key: _settled(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [_settled(inner, folder) for inner in value]
    leads_out = isinstance(value, str) and ".." in Path(value).parts
    return str((folder / value).resolve()) if leads_out else value


def _related(one: str, other: str) -> bool:
    a, b = Path(one), Path(other)
    return a == b or a in b.parents or b in a.parents


def fingerprints(stages: Iterable[Stage], folder: Path) -> dict[str, str]:
    """Return each stage's fingerprint for the parameters and the inputs of ``folder``."""
    content = _settled(yaml.safe_load((folder / "params.yaml").read_text()), folder)
    known: dict[str, tuple[Stage, str]] = {}
    for stage in stages:
        reads: dict[str, Any] = {}
        for path in stage.reads:
            makers = [
                mark
                for other, mark in known.values()
                if other.name != CODE and any(_related(path, written) for written in other.writes)
            ]
            reads[_settled(path, folder)] = makers or state(folder / path)
        values = {key: value_at(content, key) for key in stage.keys}
        mark = fingerprint({"command": stage.command, "values": values, "reads": reads})
        known[stage.name] = stage, mark
    return {name: mark for name, (_, mark) in known.items()}


def unseen(p: Params) -> list[str]:
    """Return the paths of a parameter file that need not be among what stages depend on."""
    files = [estimator.file for estimator in p.estimators.values()]
    return [path for path in [*p.away_from, *files, p.training.lpips_weights] if path]


class Root:
    """A variant's folder.

    Args:
        folder: is made, or continued.
        base: the folder of the pipeline, with its results.
        changes: dotted keys of the parameters and their values.

    Raises:
        InputError: the parameters are not possible, naming the key.
    """

    def __init__(self, folder: Path, base: Path, changes: Mapping[str, Any]) -> None:
        self.folder, self.base = folder.resolve(), base.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        content = yaml.safe_load((base / "params.yaml").read_text())
        content = _settled(overridden(content, changes), self.base)
        text = yaml.safe_dump(content, sort_keys=False)
        (self.folder / "params.yaml").write_text(text)
        self.params = Params.load(self.folder / "params.yaml")
        shutil.copyfile(base / "dvc.yaml", self.folder / "dvc.yaml")
        self.stages = read_pipeline(self.folder)
        self._link("data/code")
        reads = [path for stage in self.stages if stage.name != CODE for path in stage.reads]
        for path in [*reads, *unseen(self.params)]:
            self._link_input(Path(path))

    def make(self, targets: Iterable[str]) -> None:
        """Bring the stages ``targets`` up to date, and what they read.

        Raises:
            InputError: the pipeline itself is not up to date or lacks a result; a stage fails.
        """
        theirs = fingerprints(read_pipeline(self.base), self.base)
        ours = fingerprints(self.stages, self.folder)
        needed = self._needed(targets)
        shared = {s.name for s in needed if ours[s.name] == theirs.get(s.name)}
        check_made(self.base, {CODE, *shared})
        for stage in needed:
            mark = self.folder / "done" / stage.name
            if stage.name in shared:
                mark.unlink(missing_ok=True)
                for path in stage.writes:
                    self._link(path)
            elif not mark.exists() or mark.read_text() != ours[stage.name]:
                self._run(stage)
                mark.parent.mkdir(exist_ok=True)
                mark.write_text(ours[stage.name])

    def _needed(self, targets: Iterable[str]) -> list[Stage]:
        wanted, needed = set(targets), []
        for stage in reversed(self.stages):
            if stage.name in wanted and stage.name != CODE:
                needed.append(stage)
                wanted |= {
                    other.name
                    for other in self.stages
                    if any(_related(r, w) for r in stage.reads for w in other.writes)
                }
        return needed[::-1]

    def _link(self, path: str) -> None:
        theirs, ours = self.base / path, self.folder / path
        if not theirs.exists():
            raise InputError(f"{theirs}: is missing; `dvc repro` makes it")
        if ours.is_symlink() and ours.resolve() == theirs.resolve():
            return
        _remove(ours)
        ours.parent.mkdir(parents=True, exist_ok=True)
        ours.symlink_to(theirs)

    def _link_input(self, path: Path) -> None:
        """Link an input: in the largest folder of the base's own that holds nothing of a run."""
        written = [Path(w) for stage in self.stages for w in stage.writes]
        elsewhere = path.is_absolute() or ".." in path.parts
        if elsewhere or any(w in (path, *path.parents) for w in written):
            return
        written += [Path("work"), Path("done")]
        around = [*reversed(path.parents), path][1:]
        apart = [a for a in around if not any(a in (w, *w.parents) for w in written)][:1]
        beside = [path.with_suffix(".idx")] if apart == [path] else []
        for each in [*apart, *beside]:
            if (self.base / each).exists():
                self._link(each.as_posix())

    def _run(self, stage: Stage) -> None:
        for path in stage.writes:
            _remove(self.folder / path)
        python = os.pathsep.join([str(self.base), *filter(None, [os.environ.get("PYTHONPATH")])])
        log.info("%s: %s", self.folder.name, stage.command)
        command = [sys.executable, *stage.command.split()[1:]]
        environment = {**os.environ, "PYTHONPATH": python}
        environment.pop("VEC2FACE_ROOT", None)  # the root is this folder
        done = subprocess.run(command, cwd=self.folder, env=environment, check=False)
        if done.returncode:
            raise InputError(f"{self.folder}: `{stage.command}` failed; its message is above")

    def read(self, path: str) -> dict[str, Any]:
        """Return the JSON that a stage has written."""
        return json.loads((self.folder / path).read_text())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
