"""Check the inputs of a run and estimate its cost, before anything runs.

python -m vec2face check --tflops 40
"""

import contextlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo

from vec2face.config.conflicts import WATCHED
from vec2face.config.params import Params
from vec2face.estimators.estimator import open_estimator
from vec2face.faces.benchmarks import find_benchmarks, load_benchmark
from vec2face.faces.masked import open_set
from vec2face.faces.reading import read_array
from vec2face.faces.source import open_source
from vec2face.faces.subset import choose_released
from vec2face.generator.losses import load_lpips
from vec2face.generator.released import open_generator
from vec2face.planning.cost import Cost, StageCost, estimators_cost, file_cost, pipeline_cost
from vec2face.recognizers.features import open_network, open_recognizer
from vec2face.runtime.files import InputError, check_writable

T = TypeVar("T")
State = Literal["ready", "made by the pipeline", "missing", "unreadable", "unfit", "not writable"]
MS1MV2_IMAGES, BENCHMARK_IMAGES = 5_822_653, 12_000  # assumed where the files are not there yet
GPU_TFLOPS = 40  # 10^12 operations a second in bf16, for a GPU like the A100
CORE_TFLOPS = 0.05  # a core in float32: about what laptops sustain in the default run


@dataclass(frozen=True)
class Finding:
    """An input: its key in params.yaml, its path, its state, and what is in it or how to get it."""

    key: str
    path: str
    state: State
    content: str

    @property
    def bad(self) -> bool:
        """Whether the pipeline cannot run with it."""
        return self.state not in ("ready", "made by the pipeline")


def inspect(p: Params) -> list[Finding]:
    """Open every input that ``p`` names; try the folders of the pipeline's outputs."""
    made = _outputs()
    findings = []
    for key, path, look in _inputs(p):
        state: State = "ready"
        if not Path(path).exists():
            state, content = "missing", "data/README.md says where to get it"
            if p.world == "photos":
                content = "docs/photographs.md says what it may be"
            if any(Path(path) == out or out in Path(path).parents for out in made):
                state, content = "made by the pipeline", ""
        else:
            try:
                content = look(path)
            except InputError as error:
                state, content = "unreadable", str(error)
            else:
                if why := _misfit(p, key, path):
                    state, content = "unfit", f"{content}, but {why}"
        findings.append(Finding(key, path, state, content))
    for folder in sorted({out.parent for out in made}):
        try:
            check_writable(folder)
        except InputError as error:
            findings.append(Finding("output", str(folder), "not writable", str(error)))
    return findings


def expect(p: Params) -> tuple[list[StageCost], list[str]]:
    """Estimate the cost of a run; also return what was assumed of inputs that are not there."""
    assumed = ["rendering is not counted"] if p.world == "rendered" else []

    def counted(key: str, count: Callable[[str], T], otherwise: T, words: str) -> T:
        try:
            return count(getattr(p.paths, key))
        except InputError:
            assumed.append(f"paths.{key} cannot be counted yet: assumed to be {words}")
            return otherwise

    pca, pairs = _usual_images(p)
    nothing: Cost | None = None
    sizes: dict[str, Any] = {}
    if p.attrop is not None:
        assumed.append("all images of AttrOP are assumed to take all their steps and attempts")
        try:
            sizes["estimators"] = estimators_cost(p)
        except InputError:
            assumed.append(
                "estimators cannot be counted yet: each assumed to be as large as paths.recognizer"
            )
    costs = pipeline_cost(
        p,
        **sizes,
        pca_images=counted("pca_faces", _image_count, pca, f"{pca} images"),
        benchmark_images=counted("benchmarks", _benchmark_images, pairs, f"{pairs} images"),
        recognizer=counted("recognizer", file_cost, nothing, "an IResNet-100"),
        second=counted("second_recognizer", file_cost, nothing, "as large as paths.recognizer"),
    )
    return costs, assumed


def _usual_images(p: Params) -> tuple[int, int]:
    """Return the usual numbers of images for PCA and in the benchmarks of such a run."""
    if p.world == "rendered":
        store, made = p.rendered.stores["pca"], p.rendered.benchmarks
        return store.people * store.images, 2 * sum(made.values())
    if p.world == "photos":
        return p.subset.identities * p.subset.images_per_identity, BENCHMARK_IMAGES
    return MS1MV2_IMAGES, 5 * BENCHMARK_IMAGES


def sustained(p: Params) -> float:
    """Guess how many 10^12 operations a second the run will sustain.

    The guess is a GPU's if this machine has one or ``p`` is the paper's run, else this machine's.
    """
    if torch.cuda.is_available() or p.world == "paper":
        return GPU_TFLOPS
    return CORE_TFLOPS * torch.get_num_threads()


def machine() -> dict[str, float]:
    """Return the bytes free on this disk, of memory and of the largest GPU; 0 if not known."""
    devices = range(torch.cuda.device_count())
    sizes = [torch.cuda.get_device_properties(i).total_memory for i in devices]
    known = "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {})
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if known else 0
    return {"disk": shutil.disk_usage(".").free, "memory": memory, "device": max(sizes, default=0)}


def shortages(costs: list[StageCost]) -> list[str]:
    """Return what this machine has too little of for a run of ``costs``, a sentence each."""
    have = machine()
    need = {
        "disk": sum(c.disk_bytes for c in costs),
        "memory": max(c.memory_bytes for c in costs),
        "device": max(c.device_bytes for c in costs),
    }
    return [
        f"{name}: about {need[name] / 1e9:.1f} GB needed, {have[name] / 1e9:.1f} GB available"
        for name in need
        if have[name] and need[name] > have[name]
    ]


def _inputs(p: Params) -> Iterator[tuple[str, str, Callable[[str], str]]]:
    """Yield for every input file its key, its path and a function that describes its content."""
    yield "paths.faces", p.paths.faces, _faces
    yield "paths.pca_faces", p.paths.pca_faces, _faces
    yield "paths.benchmarks", p.paths.benchmarks, _benchmarks
    yield "paths.recognizer", p.paths.recognizer, _differentiable
    yield "paths.second_recognizer", p.paths.second_recognizer, _recognizer
    yield "paths.generator", p.paths.generator, _generator
    for name, path in p.training_sets.items():
        yield f"training_sets.{name}", path, _faces
    for name, masked in p.masked_sets.items():
        yield f"masked_sets.{name}.path", masked.path, _faces
        yield f"masked_sets.{name}.rows", masked.rows, partial(_masked, masked.path)
    for name in WATCHED:
        path = p.estimators[name].file
        yield f"estimators.{name}.file", path, partial(_estimator, p, name)
    if p.training.losses.lpips:
        yield "training.lpips_weights", p.training.lpips_weights, _lpips


def _outputs() -> set[Path]:
    """Return the outputs of this folder's pipeline, as paths relative to the folder."""
    try:
        repo = Repo()
    except NotDvcRepoError:
        return set()
    root = Path(repo.root_dir)
    return {Path(out.fs_path).relative_to(root) for out in repo.index.outs if out.is_in_repo}


def _faces(path: str, rows: str | None = None) -> str:
    source = open_set(path, rows, verify=False)
    return f"{len(source)} images of {len(np.unique(source.labels))} people"


def _masked(path: str, rows: str) -> str:
    if not Path(path).exists():  # the faces are still to be made
        return f"{len(read_array(Path(rows)))} rows"
    return _faces(path, rows)


def _image_count(path: str) -> int:
    return len(open_source(path, verify=False))


def _misfit(p: Params, key: str, path: str) -> str:
    """Say why an input that is sound by itself does not fit the rest of ``p``; "" if it does."""
    if key == "paths.faces":
        return _too_few_faces(p, open_source(path, verify=False).labels)
    if key == "paths.generator" and Path(p.paths.recognizer).exists():
        with contextlib.suppress(InputError):  # which is told of the recognizer itself
            given = open_recognizer(p.paths.recognizer).dimension
            if given != open_generator(path).dimension:
                return f"paths.recognizer gives {given}"
    section, name, *rest = key.split(".")
    trained_on = section == "training_sets" or (section, rest) == ("masked_sets", ["rows"])
    if trained_on and p.fr.micro_batch and Path(p.sets[name][0]).exists():
        images = len(open_set(*p.sets[name], verify=False))
        if min(p.fr.batch, images) % p.fr.micro_batch:
            return f"fr.micro_batch = {p.fr.micro_batch} does not divide them (fr.batch is larger)"
    return ""


def _too_few_faces(p: Params, labels: np.ndarray) -> str:
    s = p.subset
    asked = s.identities + s.held_out
    if len(np.unique(labels)) < asked:
        return f"subset asks for {asked} people"
    if s.rule == "released":
        images = len(choose_released(labels, identities=s.identities, seed=p.seed))
        if images < p.training.batch:
            return f"training.batch = {p.training.batch} is above the {images} of the subset"
    return ""


def _benchmarks(path: str) -> str:
    found = find_benchmarks(path)
    return ", ".join(f"{name} {len(load_benchmark(file).same)}" for name, file in found.items())


def _benchmark_images(path: str) -> int:
    return sum(2 * len(load_benchmark(file).same) for file in find_benchmarks(path).values())


def _recognizer(path: str) -> str:
    recognizer = open_recognizer(path)
    return f"{recognizer.input_size} pixels to {recognizer.dimension} numbers"


def _differentiable(path: str) -> str:
    open_network(path)  # the generator is trained through it
    return _recognizer(path)


def _generator(path: str) -> str:
    generator = open_generator(path)
    return f"{generator.dimension} numbers to {generator.image_size} pixels"


def _estimator(p: Params, name: str, path: str) -> str:
    del path
    if p.attrop is None:
        return "not used, as attrop is null"
    units = open_estimator(p.estimators[name], f"estimators.{name}").units
    return ", ".join(f"{output} ({unit})" for output, unit in units.items())


def _lpips(path: str) -> str:
    with warnings.catch_warnings(action="ignore"):  # torchvision warns of lpips' call
        load_lpips(path)
    return "VGG16"
