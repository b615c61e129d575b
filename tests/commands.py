"""The commands that the documentation shows, and a small folder in which they can be run."""

import re
import shlex
from contextlib import chdir
from pathlib import Path

import numpy as np
import torch
import yaml

from stages import dataset
from tests.evaluation.test_ijb import write_ijb
from tests.faces.readers import Rows
from tests.faces.test_detect import red_finder
from tests.generator.test_released import released_weights
from tests.parameters import ROOT, SMOKE, changed
from tests.recognizers.test_released import iresnet_weights
from vec2face.faces.benchmarks import save_benchmark
from vec2face.faces.convert import convert
from vec2face.faces.images import encode
from vec2face.generator.network import Vec2Face
from vec2face.identities.pca import PCA
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.network import save_recognizer

PAGES = [ROOT / "README.md", ROOT / "data/README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAMS = ("python", "dvc", "make", "git", "cp", "torchrun", "pip", "pre-commit", ".ci/run")


def shown(page: Path) -> list[list[str]]:
    """Return the words of a page's commands in order: its shell blocks' lines, and its text's.

    A line's comment and the settings of the environment before it are left out.
    """
    found = []
    parts = re.split(r"(?ms)^```(\w*)\n(.*?)^```", page.read_text())
    for text, kind, block in zip(parts[::3], [*parts[1::3], ""], [*parts[2::3], ""], strict=True):
        found += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", text)]
        if kind == "sh":
            found += block.replace("\\\n", " ").splitlines()
    commands = []
    for line in found:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # code, no command
            continue
        while words and re.fullmatch(r"[A-Z_0-9]+=.*", words[0]):
            words.pop(0)
        if (len(words) > 1 and words[0] in PROGRAMS) or words == [".ci/run"]:
            commands.append(words)
    return commands


def furnish(folder: Path) -> None:
    """Put everything there that the documentation's commands name, as small as it gets."""
    torch.manual_seed(0)
    draw = np.random.default_rng(0)
    with chdir(folder):
        for name in ("models/fr", "data/external", "data/benchmarks", "data/features"):
            Path(name).mkdir(parents=True)
        rows = [(i // 3, i) for i in range(12)]
        convert(Rows(rows), "data/subset", form="store")
        Path("models/rendered").symlink_to(ROOT / "models/rendered")
        _weights()
        _pipeline()
        for place in ("data/held_out", "data/external/dcface"):
            convert(Rows(rows), place, form="store")
        for place in ("webface.lmdb", "set"):
            convert(Rows(rows), place)
        np.save("data/features/train.npy", draw.normal(size=(12, 5)).astype(np.float32))
        np.save("rows.npy", [5, 0, 5])

        red = np.full((320, 320, 3), 90, np.uint8)
        red[80:96, 96:112] = (255, 0, 0)
        Path("photographs/a").mkdir(parents=True)
        Path("photographs/a/1.jpg").write_bytes(encode(red))
        red_finder("det_10g.onnx", (1, 3, 160, 320))

        pictures = [encode(draw.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(20)]
        pairs = [x for x in pictures for _ in (0, 1)] + [*pictures[1:], pictures[0], *pictures]
        save_benchmark("data/benchmarks/lfw.bin", pairs, [True] * 20 + [False] * 20)
        write_ijb(Path("ijbb"))
        Path("lfw.bin").write_bytes(Path("data/benchmarks/lfw.bin").read_bytes())
        Path("me.jpg").write_bytes(encode(red))
        np.save("mine.npy", draw.normal(size=(2, 12)).astype(np.float32))


def _pipeline() -> None:
    """What a run has made: parameters, networks, the generated set, results."""
    small = {"width": 16, "decoder_width": 16, "front_channels": 8, "channels": [8] * 4}
    p = changed(
        SMOKE, images_per_identity=4, tau=0.95, min_similarity=-1, perturbation="gaussian",
        paths__pca_faces="data/subset", paths__recognizer="models/fr/hsface.safetensors",
        paths__generator="models/generator.safetensors",
    )  # fmt: skip
    content = p.model_dump(mode="json")
    Path("params.yaml").write_text(yaml.safe_dump(content))
    Vec2Face(changed(p.generator, **small), dimension=12).save("models/generator.safetensors")
    PCA(np.zeros(12), np.eye(12), np.ones(12), 1.0, 20).save("models/pca.npz")
    people = np.random.default_rng(0).normal(size=(3, 12)).astype(np.float32)
    np.save("data/identities.npy", people)
    dataset.main()
    for file in (*(ROOT / "reports").glob("*.json"), ROOT / "CITATION.cff"):
        place = Path(file.relative_to(ROOT))
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(file.read_bytes())
    lock = {"stages": {"report": {"params": {"params.yaml": content}}}}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))


def _weights() -> None:
    """Released weights of every kind that the documentation names."""
    about = {"name": "mobilefacenet", "image_size": 56, "embedding": 12, "dropout": 0.0,
             "widths": [8, 8, 8, 16]}  # fmt: skip
    for name in ("hsface", "generated"):
        backbone = build_backbone(**about)
        for _ in range(30):  # until its layers' statistics let faces through
            backbone(torch.randn(32, 3, 56, 56))
        save_recognizer(f"models/fr/{name}.safetensors", backbone.eval(), about)
    weights = dict(iresnet_weights())
    torch.save({"state_dict": weights}, "odd.pth")
    torch.save(weights, "hsface300k.pth")
    magface = {f"features.module.{name}": value for name, value in weights.items()}
    torch.save({"state_dict": magface, "epoch": 25}, "magface.pth")
    for name in ("glintr100.onnx", "arcface_r100.onnx", "net.onnx"):
        Path(name).write_bytes((ROOT / "models/rendered/second.onnx").read_bytes())
    sizes = {"width": 768, "encoder": 1, "decoder": 1, "channels": (32, 64, 64)}
    torch.save({"model_vec2face": released_weights(**sizes)}, "theirs.pth")
