"""The pipeline's own files to be damaged: parameters, unfinished work, what stages hand on.

Unfinished work carries checksums: whatever is done to it, what comes out is what was made, read or
made again (counted as refused).
"""

import contextlib
import fcntl
import json
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
import yaml
from torch import nn

from tests.fuzz.readers import JPEGS, Reader, tree
from tests.parameters import ROOT
from vec2face.config.params import Params
from vec2face.dataset.generate import generate
from vec2face.dataset.perturbation import Perturbation
from vec2face.evaluation.ijb import read_ijb
from vec2face.faces.reading import read_array, read_npz
from vec2face.faces.source import open_source
from vec2face.identities.pca import PCA
from vec2face.recognizers.features import extract_to
from vec2face.report.tables import read_evaluation
from vec2face.runtime.blocks import Blocks
from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.code import code_of
from vec2face.runtime.files import InputError
from vec2face.runtime.resume import MADE_OF, resume

CODE_OF = cache(code_of)
STATE = {"weights": [torch.arange(6.0), torch.ones(2, 3)], "lr": 0.1, "name": "Adam"}


def parameters(folder: Path) -> Iterator[bytes]:
    """The smoke test's, in three styles."""
    content = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    for flow in (True, False, None):
        yield yaml.safe_dump(content, default_flow_style=flow, sort_keys=False).encode()


def read_parameters(folder: Path) -> None:
    """Read and doubt them."""
    list(Params.load(folder / "params.yaml").doubts())


def checkpoints(target: str) -> Callable[[Path], Iterator[bytes]]:
    """Return a maker of two states, of which one file is damaged."""

    def make(folder: Path) -> Iterator[bytes]:
        for step in (1, 2):
            Checkpoint(folder).save(step, {**STATE, "step": step})
        yield (folder / target).read_bytes()

    return make


def read_checkpoint(folder: Path) -> None:
    """Take the last whole state."""
    found = Checkpoint(folder).load()
    assert found
    step, state = found
    assert state["step"] == step
    assert {k: v for k, v in state.items() if k in ("lr", "name")} == {"lr": 0.1, "name": "Adam"}
    assert all(map(torch.equal, state["weights"], STATE["weights"]))  # type: ignore[arg-type]
    if step == 1:
        raise InputError("passed over")


class Made:
    """Some arrays by a block's number, and whether they were made."""

    def __init__(self) -> None:
        self.made = False

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        """Make a block."""
        self.made = True
        return {"rows": np.arange(6.0).reshape(2, 3) + number, "labels": np.array([number])}


def blocks(folder: Path) -> Iterator[bytes]:
    """One of two blocks."""
    Blocks(folder, Made()).finish(range(2), "fuzzing")
    yield (folder / "block-0000000001").read_bytes()


def read_blocks(folder: Path) -> None:
    """Finish and take both."""
    make = Made()
    whole = Blocks(folder, make)
    whole.finish(range(2), "fuzzing")
    joined = whole.join(range(2))
    again, make.made = make.made, False
    assert joined["rows"].tolist() == [[0, 1, 2], [3, 4, 5], [1, 2, 3], [4, 5, 6]]
    assert joined["labels"].tolist() == [0, 1]
    if again:
        raise InputError("made again")


class Means:
    """A recognizer of mean colours."""

    dimension, input_size = 3, 16

    def __init__(self) -> None:
        self.made = False

    def features(self, images: np.ndarray) -> np.ndarray:
        """Map (N, S, S, 3) to (N, 3)."""
        self.made = True
        return images.mean((1, 2), dtype=np.float32)


def features(target: str) -> Callable[[Path], Iterator[bytes]]:
    """Return a maker of features with their checksum, of which one is damaged."""

    def make(folder: Path) -> Iterator[bytes]:
        extract_to(folder / "x.npy", Means(), open_source(tree(folder / "faces")))
        (folder / "sound").write_bytes((folder / "x.npy").read_bytes())
        yield (folder / target).read_bytes()

    return make


def read_features(folder: Path) -> None:
    """Extract what is not whole."""
    means = Means()
    extract_to(folder / "x.npy", means, open_source(folder / "faces"))
    assert (folder / "x.npy").read_bytes() == (folder / "sound").read_bytes()
    if means.made:
        raise InputError("made again")


class Painter(nn.Module):
    """A generator of grey images, one tone a vector."""

    image_size = 16

    def __init__(self) -> None:
        super().__init__()
        self.tone = nn.Parameter(torch.ones(()))
        self.painted = False

    def forward(
        self, features: torch.Tensor, drop: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Map (B, D) to (B, 3, 16, 16)."""
        self.painted = True
        tones = torch.tanh(features.mean(1)) * self.tone
        return tones[:, None, None, None].expand(-1, 3, 16, 16)


def read_shards(folder: Path) -> None:
    """Finish the generation of a store of two shards."""
    painter = Painter()
    perturbation = Perturbation(0, 2, [0.3], [1.0], 0.5, 1.0)
    identities = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)
    found = generate(
        painter,
        identities,
        perturbation,
        lambda first, count: (torch.zeros(count, 49), torch.zeros(count, 49)),
        store=folder / "store",
        vectors=folder / "vectors.npy",
        work=folder / "work",
        made_by="fuzzing",
        images_per_shard=2,
    )
    sound = folder / "found.json"
    if not sound.exists():
        sound.write_text(json.dumps(found))
    elif painter.painted:
        raise InputError("made again")
    assert json.loads(sound.read_text()) == found


def shards(target: str) -> Callable[[Path], Iterator[bytes]]:
    """Return a maker of a generation's shards, of which one file is damaged."""

    def make(folder: Path) -> Iterator[bytes]:
        read_shards(folder)
        yield (folder / target).read_bytes()

    return make


@contextlib.contextmanager
def run(sigma: float, root: Path) -> Iterator[Path]:
    """Hold the work of a stage; its code, which takes long to read, is read once."""
    with (
        patch("vec2face.runtime.resume.code_of", CODE_OF),
        resume("code", {"sigma": sigma}, [], root) as work,
    ):
        yield work


def interrupt(sigma: float, root: Path) -> Path:
    """Leave the unfinished work of a stage."""
    with contextlib.suppress(InterruptedError), run(sigma, root) as work:
        raise InterruptedError
    return work


def left_over(folder: Path) -> Iterator[bytes]:
    """What another run of a stage was made of."""
    interrupt(0.3, folder).rename(folder / "code-0")
    yield (folder / "code-0" / MADE_OF).read_bytes()


def read_left_over(folder: Path) -> None:
    """Begin a run beside it."""
    with run(0.5, folder):
        pass


def held(folder: Path) -> Iterator[bytes]:
    """The lock of a run that another waits for."""
    yield (interrupt(0.3, folder) / "lock").read_bytes()


def read_held(folder: Path) -> None:
    """Wait for it."""
    place = interrupt(0.3, folder)
    (place / "lock").write_bytes((folder / "lock").read_bytes())
    with (place / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        release = threading.Timer(0.001, fcntl.flock, (other, fcntl.LOCK_UN))
        release.start()
        with run(0.3, folder):
            release.join()


def pcas(folder: Path) -> Iterator[bytes]:
    """A PCA."""
    draw = np.random.default_rng(0)
    PCA.fit(draw.normal(size=(6, 4)), 0.9).save(folder / "p.npz")
    yield (folder / "p.npz").read_bytes()
    with np.load(folder / "p.npz") as file:
        np.savez_compressed(folder / "p.npz", **dict(file))
    yield (folder / "p.npz").read_bytes()


def read_pca(folder: Path) -> None:
    """Read and use it."""
    pca = PCA.load(folder / "p.npz")
    pca.sample(0, "fuzzing", 0, 2)
    pca.spectrum()


def tables(folder: Path) -> Iterator[bytes]:
    """Features, identities, vectors."""
    for kind in (np.float32, np.float64):
        np.save(folder / "x.npy", np.arange(12, dtype=kind).reshape(3, 4))
        yield (folder / "x.npy").read_bytes()


def read_table(folder: Path) -> None:
    """Map it."""
    np.asarray(read_array(folder / "x.npy")).sum()


def packed(folder: Path) -> Iterator[bytes]:
    """Several arrays with names, as the rendered head has them."""
    np.savez_compressed(folder / "x.npz", names=np.array(["a", "bc"]), deltas=np.zeros((9, 3)))
    yield (folder / "x.npz").read_bytes()


def evaluations(folder: Path) -> Iterator[bytes]:
    """What the evaluation hands to the report."""
    one = {"accuracy": 0.5, "std": 0.01, "threshold": 1.5, "tar": {"1e-3": 0.25}}
    yield json.dumps({"real": {"lfw": one, "agedb_30": one}, "generated": {"lfw": one}}).encode()


def ijb(target: str) -> Callable[[Path], Iterator[bytes]]:
    """Return a maker of IJB's lists, of which one is damaged."""

    def make(folder: Path) -> Iterator[bytes]:
        for name in ("meta", "loose_crop"):
            (folder / name).mkdir()
        names = [f"{i}.jpg" for i in range(4)]
        for name in names:
            (folder / "loose_crop" / name).write_bytes(JPEGS[0])
        rows = {
            "face_tid_mid": [f"{name} {1 + i // 2} {i}" for i, name in enumerate(names)],
            "name_5pts_score": [f"{name} {'4 5.5 ' * 5}0.9" for name in names],
            "template_pair_label": ["1 2 0", "1 1 1", "2 1 0"],
        }
        for name, lines in rows.items():
            (folder / f"meta/ijbb_{name}.txt").write_text("\n".join(lines) + "\n")
        yield (folder / f"meta/ijbb_{target}.txt").read_bytes()

    return make


def _checkpoint(target: str) -> Reader:
    return Reader(checkpoints(target), target, read_checkpoint)


def _features(target: str) -> Reader:
    return Reader(features(target), target, read_features)


def _shard(target: str) -> Reader:
    return Reader(shards(target), target, read_shards)


def _ijb(target: str) -> Reader:
    return Reader(ijb(target), f"meta/ijbb_{target}.txt", read_ijb)


READERS: dict[str, Reader] = {
    "params": Reader(parameters, "params.yaml", read_parameters),
    "checkpoint": _checkpoint("state-0000000002.pt"),
    "checkpoint-sum": _checkpoint("state-0000000002.pt.sha256"),
    "block": Reader(blocks, "block-0000000001", read_blocks),
    "features": _features("x.npy"),
    "features-sum": _features("x.npy.sha256"),
    "shard": _shard("work/store-00001/manifest.json"),
    "shard-draws": _shard("work/store-00001-draws.json"),
    "left-over": Reader(left_over, f"code-0/{MADE_OF}", read_left_over),
    "lock": Reader(held, "lock", read_held),
    "pca": Reader(pcas, "p.npz", read_pca),
    "table": Reader(tables, "x.npy", read_table),
    "npz": Reader(packed, "x.npz", lambda folder: read_npz(folder / "x.npz", "make it again")),
    "evaluation": Reader(evaluations, "e.json", lambda folder: read_evaluation(folder / "e.json")),
    "ijb": _ijb("template_pair_label"),
    "ijb-points": _ijb("name_5pts_score"),
}
