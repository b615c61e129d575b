"""The stages of the pipelines as data, and their fingerprints.

Stages, their parameters and files are read from the pipelines' files; nothing is listed here. A
stage has a fingerprint: of its command, the values of its keys, and the state of all that it reads,
where another stage's files have that stage's fingerprint. So it is known before anything runs, and
is the same on any kind of processor.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import networkx as nx
import yaml
from dvc.repo import Repo
from dvc.repo.index import Index
from dvc.scm import SCM

from vec2face.runtime.code import code_of
from vec2face.runtime.files import fingerprint, whole_folder
from vec2face.runtime.resume import state

PIPELINES = ("dvc.yaml", "data/rendered/dvc.yaml")
CODE = "code"
"""The stage that says what code the others reach; variants have the code as it is now."""


@dataclass(frozen=True)
class Stage:
    """A stage of the pipelines, with paths relative to their root."""

    name: str
    command: str
    keys: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]


_read: dict[str, list[Stage]] = {}


def read_pipeline(folder: Path) -> list[Stage]:
    """Return the stages of a folder's pipelines, but for frozen ones, whose results are inputs."""
    folder = folder.resolve()
    texts = {name: (folder / name).read_text() for name in PIPELINES if (folder / name).is_file()}
    content = yaml.safe_load((folder / "params.yaml").read_text())
    named = sorted({key for text in texts.values() for key in re.findall(r"\$\{([\w.]+)", text)})
    known = {key: value_at(content, key) for key in named if key.split(".")[0] in content}
    same = json.dumps([texts, known])
    if same not in _read:  # DVC takes seconds
        # The files by themselves, without git: else DVC leaves out what git ignores, as work/ is.
        repo = Repo(str(folder), uninitialized=True, scm=SCM(str(folder), no_scm=True))
        found = [s for name in texts for s in Index.from_file(repo, str(folder / name)).stages]
        _read[same] = [
            Stage(
                stage.name,
                stage.cmd,
                tuple(key for dep in stage.deps for key in getattr(dep, "params", ())),
                tuple(dep.def_path for dep in stage.deps if not hasattr(dep, "params")),
                tuple(out.def_path for out in stage.outs),
            )
            for stage in found
            if not stage.frozen
        ]
    return in_order(_read[same])


def in_order(stages: Iterable[Stage]) -> list[Stage]:
    """Return the stages, each behind those it reads from."""
    named = {stage.name: stage for stage in stages}
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_nodes_from(named)
    graph.add_edges_from(
        (other.name, stage.name)
        for stage in named.values()
        for other in named.values()
        if other is not stage and reads_from(stage, other)
    )
    return [named[name] for name in nx.lexicographical_topological_sort(graph)]


def reads_from(stage: Stage, other: Stage) -> bool:
    """Say if a stage reads what another writes, or some of it."""
    return any(related(r, w) for r in stage.reads for w in other.writes)


class Own:
    """What the pipelines have made in their own folder, by ``dvc repro``, and their code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._fresh: dict[str, bool] = {}

    @cached_property
    def marks(self) -> dict[str, str]:
        """Return the stages' fingerprints, by name."""
        return fingerprints(read_pipeline(self.folder), self.folder)

    @cached_property
    def code(self) -> dict[str, str]:
        """Return what each stage's program reaches now (``vec2face.runtime.code``), by its name."""
        programs = {path.stem for path in (self.folder / "stages").glob("*.py")}
        return {p: code_of(p, self.folder) for p in programs - {"__init__", "artifacts", CODE}}

    @cached_property
    def _graph(self) -> nx.DiGraph:
        return Repo(str(self.folder)).index.graph

    def has(self, stage: Stage, mark: str) -> bool:
        """Say if a stage of this fingerprint was made there, and all it reads, and is unchanged."""
        if self.marks.get(stage.name) != mark:
            return False
        if stage.name not in self._fresh:
            files = {self.folder / name for name in PIPELINES}
            mine = [s for s in self._graph if s.name == stage.name and Path(s.path) in files]
            above = {s for one in mine for s in nx.descendants(self._graph, one)}
            checked = [s for s in {*mine, *above} if s.name != CODE and not s.frozen]
            self._fresh[stage.name] = not any(any(s.changed_entries()) for s in checked)
        return self._fresh[stage.name]


def value_at(content: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key."""
    value: Any = content
    for name in key.split("."):
        value = value[name]
    return value


def settled(value: Any, folder: Path) -> Any:
    """Make paths that lead out of ``folder`` absolute, in a value of the parameters."""
    if isinstance(value, dict):
        return {key: settled(inner, folder) for key, inner in value.items()}
    if isinstance(value, list):
        return [settled(inner, folder) for inner in value]
    leads_out = isinstance(value, str) and ".." in Path(value).parts
    return str((folder / value).resolve()) if leads_out else value


def related(one: str, other: str) -> bool:
    """Say if two paths are the same or one lies in the other."""
    a, b = Path(one), Path(other)
    return a == b or a in b.parents or b in a.parents


def fingerprints(stages: Sequence[Stage], folder: Path) -> dict[str, str]:
    """Return each stage's fingerprint for the parameters and the inputs of ``folder``.

    Args:
        stages: in order.
        folder: with ``params.yaml`` and the inputs.
    """
    content = settled(yaml.safe_load((folder / "params.yaml").read_text()), folder)
    marks: dict[str, str] = {}
    for stage in stages:
        before = [other for other in stages if other.name in marks and other.name != CODE]
        reads: dict[str, Any] = {}
        for path in stage.reads:
            makers = [o for o in before if any(related(path, written) for written in o.writes)]
            made = sorted(marks[other.name] for other in makers)
            reads[settled(path, folder)] = made or state(folder / path)
        about = {"command": stage.command, "values": values(stage, content), "reads": reads}
        marks[stage.name] = fingerprint(about)
    return marks


def values(stage: Stage, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a stage's keys."""
    return {key: value_at(content, key) for key in stage.keys}


def write_code(code: Mapping[str, str], kept: Path) -> Path:
    """Write what stages reach, as the stage ``code`` does, into a folder of ``kept``; return it."""
    folder = kept / fingerprint(code)
    if not folder.is_dir():
        with whole_folder(folder) as temporary:
            for name, text in code.items():
                (temporary / name).write_text(text)
    return folder
