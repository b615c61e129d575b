"""A variant of the pipeline in a folder of its own; what its stages make is kept for all variants.

What a stage has made lies under its fingerprint, and every variant that asks for the same links it;
so is what the pipeline's own folder has up to date (``ablations.pipeline``).
"""

import contextlib
import fcntl
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from ablations.devices import held
from ablations.pipeline import (
    CODE,
    PIPELINES,
    Own,
    Stage,
    fingerprints,
    in_order,
    read_pipeline,
    reads_from,
    related,
    settled,
    write_code,
)
from vec2face.config.document import read_yaml
from vec2face.config.params import Params
from vec2face.runtime.code import code_of
from vec2face.runtime.files import InputError, whole_folder

log = logging.getLogger(__name__)


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


def unseen(p: Params) -> list[str]:
    """Return the paths of a parameter file that need not be among what stages depend on."""
    files = [estimator.file for estimator in p.estimators.values()]
    return [path for path in [*p.away_from, *files, p.training.lpips_weights] if path]


class Root:
    """A variant's folder.

    Args:
        folder: is made, or continued; beside it lies what all variants share.
        base: the folder of the pipelines.
        changes: dotted keys of the parameters and their values.
        parameters: the file that they change; by default ``params.yaml`` of ``base``.
        programs: commands ``python -m <module> ...`` in the place of a stage's own.
        further: stages beside those of the pipelines.
        own: what ``base`` has, if it was looked up before.

    Raises:
        InputError: the parameters are not possible, naming the key; an input is missing.
    """

    def __init__(
        self,
        folder: Path,
        base: Path,
        changes: Mapping[str, Any],
        *,
        parameters: Path | None = None,
        programs: Mapping[str, str] | None = None,
        further: Iterable[Stage] = (),
        own: Own | None = None,
    ) -> None:
        self.folder, self.base = folder.resolve(), base.resolve()
        self.shared = self.folder.parent
        self.own = own or Own(base)
        self.folder.mkdir(parents=True, exist_ok=True)
        content = read_yaml(parameters or base / "params.yaml")
        self.content = settled(overridden(content, changes), self.base)
        text = yaml.safe_dump(self.content, sort_keys=False)
        file = self.folder / "params.yaml"
        if not file.is_file() or file.read_text() != text:  # another table may be using it
            file.write_text(text)
        self.params = Params.load(self.folder / "params.yaml")
        for name in PIPELINES:
            if (base / name).is_file():
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(base / name, self.folder / name)
        stages = [_with_program(s, programs or {}) for s in read_pipeline(self.folder)]
        self.stages = in_order([*stages, *further])
        self._link("data/code", write_code(self.own.code, self.shared / "code"))
        reads = [path for stage in self.stages if stage.name != CODE for path in stage.reads]
        for path in [*reads, *unseen(self.params)]:
            self._link_input(Path(path))
        self.marks = fingerprints(self.stages, self.folder)

    def make(self, targets: Iterable[str]) -> None:
        """Bring the stages ``targets`` up to date, and what they read.

        Raises:
            InputError: a stage fails, or its code has changed since this folder was set up.
        """
        for stage in self.needed(targets):
            theirs = self._made(stage)
            if not theirs.exists() and self.own.has(stage, self.marks[stage.name]):
                theirs = self.base
            elif not theirs.exists():
                self._make(stage)
            for path in stage.writes:
                self._link(path, theirs / path)

    def left(self, targets: Iterable[str]) -> list[Stage]:
        """Return the stages that ``make`` would run."""
        return [
            stage
            for stage in self.needed(targets)
            if not self._made(stage).exists() and not self.own.has(stage, self.marks[stage.name])
        ]

    def needed(self, targets: Iterable[str]) -> list[Stage]:
        """Return the stages ``targets`` and all they read from, in order.

        Raises:
            InputError: there is no such stage.
        """
        wanted, found = set(targets), []
        if unknown := wanted - {stage.name for stage in self.stages}:
            raise InputError(f"{sorted(unknown)[0]}: the pipelines have no such stage")
        for stage in reversed(self.stages):
            if stage.name in wanted and stage.name != CODE:
                found.append(stage)
                wanted |= {other.name for other in self.stages if reads_from(stage, other)}
        return found[::-1]

    def inputs(self, targets: Iterable[str]) -> list[str]:
        """Return the paths that ``targets`` depend on and no stage makes, code apart."""
        read = {path for stage in self.needed(targets) for path in stage.reads}
        made = [path for stage in self.stages for path in stage.writes]
        return sorted(p for p in read if not any(related(p, written) for written in made))

    def _made(self, stage: Stage) -> Path:
        return self.shared / "made" / stage.name / self.marks[stage.name]

    def _make(self, stage: Stage) -> None:
        made = self._made(stage)
        made.parent.mkdir(parents=True, exist_ok=True)
        with _locked(made.with_name(f"{made.name}.lock")):
            if made.exists():  # another variant has made it meanwhile
                return
            self._run(stage)
            with whole_folder(made) as temporary:
                for path in stage.writes:
                    (temporary / path).parent.mkdir(parents=True, exist_ok=True)
                    (self.folder / path).rename(temporary / path)

    def _link(self, path: str, theirs: Path) -> None:
        ours = self.folder / path
        if ours.is_symlink() and ours.readlink() == theirs:
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
        written.append(Path("work"))
        around = [*reversed(path.parents), path][1:]
        apart = [a for a in around if not any(a in (w, *w.parents) for w in written)][:1]
        beside = [path.with_suffix(".idx")] if apart == [path] else []
        for each in [*apart, *beside]:
            if (self.base / each).exists():
                self._link(each.as_posix(), self.base / each)

    def _run(self, stage: Stage) -> None:
        command = [sys.executable, *stage.command.split()[1:]]
        program = command[2].removeprefix("stages.") if "-m" in command else ""
        noted = self.folder / "data/code" / program
        if noted.is_file() and noted.read_text() != code_of(program, self.base):
            raise InputError(f"stages/{program}.py: its code has changed meanwhile; start again")
        for path in stage.writes:
            _remove(self.folder / path)
        with held(self.shared / "devices") as device:
            python = os.pathsep.join(
                [str(self.base), *filter(None, [os.environ.get("PYTHONPATH")])]
            )
            environment = {**os.environ, "PYTHONPATH": python, **device}
            environment.pop("VEC2FACE_ROOT", None)  # the root is this folder
            log.info("%s: %s", self.folder.name, " ".join(["python", *command[1:]]))
            done = subprocess.run(command, cwd=self.folder, env=environment, check=False)
        if done.returncode:
            raise InputError(f"{self.folder}: `{stage.command}` failed; its message is above")


def _with_program(stage: Stage, programs: Mapping[str, str]) -> Stage:
    if stage.name not in programs:
        return stage
    command = programs[stage.name]
    file = f"{command.split()[2].replace('.', '/')}.py"
    return replace(stage, command=command, reads=(*stage.reads, file))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
