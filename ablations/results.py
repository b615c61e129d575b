"""What a variant came to with a seed: one small file, kept in git and not computed again.

It is named by the variant and the seed. It says what it was made of: every stage's command and
parameters, the code that the stages reach, and the inputs that no stage makes, the shipped weights
among them. Not what the stages made, whose bytes differ from one kind of processor to another.
"""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ablations.pipeline import values
from ablations.roots import Root
from vec2face.faces.reading import read_array
from vec2face.faces.source import open_source
from vec2face.identities.cosines import cosines, norms
from vec2face.report.tables import flat_metrics, read_evaluation, read_json
from vec2face.runtime.files import fingerprint, write_json
from vec2face.runtime.machine import kind_of_processor
from vec2face.runtime.resume import state

log = logging.getLogger(__name__)

EVALUATION = "reports/evaluation.json"
MadeOf = dict[str, dict[str, str]]


def made_of(root: Root, targets: Iterable[str]) -> MadeOf:
    """Return what a result depends on, as checksums by name."""
    needed = root.needed(targets)
    code = {Path(p).name: root.folder / p for s in needed for p in s.reads if "data/code/" in p}
    return {
        "stages": {s.name: fingerprint([s.command, values(s, root.content)]) for s in needed},
        "code": {
            name: hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            for name, path in code.items()
        },
        "inputs": {path: fingerprint(state(root.folder / path)) for path in root.inputs(targets)},
    }


def kept(path: Path, made: MadeOf) -> dict[str, float] | None:
    """Return the metrics of a result, or None if there is none that was made of the same.

    A stale one is named, with what has changed since.
    """
    if not path.is_file():
        return None
    found = read_json(path)
    if found.get("made_of") == made:
        return found["metrics"]
    changed = differences(found.get("made_of"), made)
    log.warning("%s: is stale and will be made again; changed: %s", path, ", ".join(changed))
    return None


def differences(one: Any, other: MadeOf) -> list[str]:
    """Name what two results are not both made of."""
    one = one if isinstance(one, dict) else {}
    return [
        f"{kind} {name}"
        for kind, now in other.items()
        for before in [one.get(kind) or {}]
        for name in sorted({*before, *now})
        if before.get(name) != now.get(name)
    ]


def keep(path: Path, variant: str, seed: int, made: MadeOf, metrics: dict[str, float]) -> None:
    """Write a result."""
    about = {"variant": variant, "seed": seed, "processor": kind_of_processor()}
    write_json(path, {**about, "made_of": made, "metrics": metrics})


def metrics(root: Root, targets: Iterable[str]) -> dict[str, float]:
    """Return what was measured in a root, under the names of docs/measures.md, and vectors."""
    written = [root.folder / path for stage in root.needed(targets) for path in stage.writes]
    others = [p for p in written if p.parent.name == "reports" and p.suffix == ".json"]
    evaluation = root.folder / EVALUATION
    found = [read_json(path) for path in others if path != evaluation]
    return flat_metrics(read_evaluation(evaluation), *found, vector_figures(root))


def vector_figures(root: Root) -> dict[str, float]:
    """Return the smallest cosine of an image's vector to its identity's, and the mean between two.

    The latter is the paper's average identity similarity, on identity vectors.
    """
    identities = np.array(read_array(root.folder / "data/identities.npy"))
    vectors = read_array(root.folder / "data/generated_vectors.npy")
    labels = open_source(root.folder / "data/generated", verify=False).labels
    unit = identities / norms(identities)[:, None]
    count = len(unit)
    return {
        "vector_cosine_min": float(cosines(vectors, identities[labels]).min()),
        "identity_cosine_mean": float((np.square(unit.sum(0)).sum() - count) / count / (count - 1)),
    }


def read_metrics(path: Path) -> dict[str, float] | None:
    """Return the metrics of a result as it is, or None if there is none."""
    return read_json(path)["metrics"] if path.is_file() else None
