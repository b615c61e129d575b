"""Files of networks to be damaged: generators, recognizers, the pose estimator, ONNX graphs.

All of them are tiny, so that an input takes milliseconds. What a flipped bit leaves whole in shape
is read with another weight: only the files of unfinished work have checksums (``work``).
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.estimators.test_pose import trained_weights
from tests.faces.test_detect import constant
from tests.fuzz.readers import Reader
from tests.parameters import TINY, changed
from vec2face.config.attributes import EstimatorConfig, Gives, Takes
from vec2face.estimators.estimator import open_estimator
from vec2face.estimators.pose import load_pose
from vec2face.faces.detect import FaceDetector
from vec2face.generator.network import Vec2Face
from vec2face.generator.released import open_generator, read_generator, save_released
from vec2face.recognizers import released
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.features import open_recognizer
from vec2face.recognizers.network import save_recognizer
from vec2face.recognizers.onnx import to_torch
from vec2face.recognizers.onnx_export import export
from vec2face.recognizers.onnx_graph import pinned
from vec2face.recognizers.onnx_input import state_convention

Weights = dict[str, Tensor]
SIDE = 8
ARCHITECTURE = {"name": "iresnet10", "image_size": 16, "embedding": 3, "widths": [2, 3, 4, 5]}
BGR = {"channels": "bgr", "mean": 0.0, "std": 1.0}
HEADS = (2, 2)


def generator(**changes: object) -> Vec2Face:
    """Return a generator of a few thousand weights."""
    sizes = {"width": 4, "decoder_width": 4, "encoder_blocks": 1, "decoder_heads": 2}
    config = changed(TINY, **sizes, front_channels=2, groups=2, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Vec2Face(config, dimension=3).eval()


def generators(folder: Path) -> Iterator[bytes]:
    """Ours, with equal channels and with the authors' shortcut."""
    for number, changes in enumerate(({"channels": (2, 2)}, {"released": True})):
        generator(**changes).save(folder / f"{number}.safetensors")
        yield (folder / f"{number}.safetensors").read_bytes()


def released_generators(folder: Path) -> Iterator[bytes]:
    """The authors' layout, in PyTorch's two forms of file."""
    save_released(folder / "g.pth", generator(released=True))
    yield (folder / "g.pth").read_bytes()
    content = torch.load(folder / "g.pth", weights_only=True) | {"epoch": 3, "args": None}
    torch.save(content, folder / "g.pth", _use_new_zipfile_serialization=False)
    yield (folder / "g.pth").read_bytes()


def backbone(**changes: object) -> nn.Module:
    """Return a network of one block a stage."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_backbone(**ARCHITECTURE | changes).eval()  # type: ignore[arg-type]


def recognizers(folder: Path) -> Iterator[bytes]:
    """Ours, of our convention and of another."""
    for more in ({}, {"convention": BGR}):
        save_recognizer(folder / "r.safetensors", backbone(), ARCHITECTURE | more)
        yield (folder / "r.safetensors").read_bytes()


def ir(weights: Weights) -> Weights:
    """Return an IResNet's weights under the names of an IR network."""
    parts = {ours: theirs for theirs, ours in released._IR_ENDS.items()}
    for stage in range(4):
        for theirs, ours in released._IR_BLOCK.items():
            parts[f"layer{stage + 1}.0.{ours}"] = f"body.{stage}.{theirs}"
    own = {name.rpartition(".")[::2]: tensor for name, tensor in weights.items()}
    own = {place: tensor for place, tensor in own.items() if place not in _AFFINE}
    return {f"{parts[part]}.{kind}": tensor for (part, kind), tensor in own.items()}


_AFFINE = (("features", "weight"), ("features", "bias"))


def layouts() -> Iterator[object]:
    """Weights as insightface, the authors, MagFace, AdaFace and CVLface leave them."""
    plain, gated = backbone().state_dict(), backbone(squeeze_excitation="shortcut").state_dict()
    head = {"module.fc.weight": torch.ones(2, 3)}
    yield dict(plain)
    yield {name.replace(".se.", ".attn."): tensor for name, tensor in gated.items()}
    yield {
        "state_dict": {f"features.module.{name}": tensor for name, tensor in plain.items()} | head,
        "epoch": 25,
    }
    named = ir(plain)
    yield {
        "state_dict": {f"model.{k}": v for k, v in named.items()}
        | {"head.kernel": plain["bn1.bias"]},
        "callbacks": {"best": np.float64(0.5)},
    }
    yield {f"net.{name}": tensor for name, tensor in named.items()}


def checkpoints(folder: Path) -> Iterator[bytes]:
    """Those layouts, in PyTorch's two forms of file."""
    for number, content in enumerate(layouts()):
        torch.save(content, folder / "r.pt", _use_new_zipfile_serialization=number != 2)
        yield (folder / "r.pt").read_bytes()


def foreign(folder: Path) -> Iterator[bytes]:
    """The plain layouts as safetensors."""
    for content in list(layouts())[::4]:
        save_file(content, folder / "r.safetensors")
        yield (folder / "r.safetensors").read_bytes()


def poses(folder: Path) -> Iterator[bytes]:
    """The pose estimator's weights as they are trained."""
    torch.save({"model_state_dict": trained_weights()}, folder / "p.tar")
    yield (folder / "p.tar").read_bytes()


class Small(nn.Module):
    """A convolution and a matrix, behind a scaling of pixels or not."""

    def __init__(self, scaled: bool = False) -> None:
        super().__init__()
        self.scaled = scaled
        self.conv = nn.Conv2d(3, 2, 3, 2, 1)
        self.norm, self.act = nn.BatchNorm2d(2), nn.PReLU(2)
        self.head = nn.Linear(2 * (SIDE // 2) ** 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, SIDE, SIDE) to (B, 3)."""
        x = (x - 127.5) / 128 if self.scaled else x
        return self.head(self.act(self.norm(self.conv(x))).reshape(len(x), -1))


def graphs(folder: Path, *, beside: bool = False) -> Iterator[bytes]:
    """Files of a free and a fixed batch, half precision, a scaling, a stated convention."""
    path = folder / "r.onnx"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        export(Small(), path, SIDE)
        if beside:
            onnx.save(
                onnx.load(path), path, save_as_external_data=True, location="w", size_threshold=0
            )
            yield (folder / "w").read_bytes()
            return
        yield path.read_bytes()
        onnx.save(pinned(onnx.load(path)), folder / "fixed.onnx")
        yield (folder / "fixed.onnx").read_bytes()
        state_convention(path, folder / "stated.onnx", BGR)
        yield (folder / "stated.onnx").read_bytes()
        export(Small(scaled=True), path, SIDE, half=True)
        yield path.read_bytes()


def detectors(folder: Path) -> Iterator[bytes]:
    """A detector that finds the same faces everywhere."""
    counts = [2 * (32 // stride) ** 2 for stride in (8, 16, 32)]
    draw = np.random.default_rng(0)
    arrays = [draw.random((n, 1), np.float32) for n in counts]
    arrays += [1 + draw.random((n, 4), np.float32) for n in counts]
    for more in ([], [draw.random((n, 10), np.float32) for n in counts]):
        constant(folder / "d.onnx", arrays + more, shape=(1, 3, 32, 32))
        yield (folder / "d.onnx").read_bytes()


def read(opened: Callable[[Path], object], name: str) -> Callable[[Path], object]:
    """Return what opens the file of this name."""
    return lambda folder: opened(folder / name)


def recognize(path: Path) -> None:
    """Open a recognizer and use it."""
    images = np.zeros((3, SIDE, SIDE, 3), np.uint8)
    features = open_recognizer(path).features(images)
    assert features.ndim == 2
    assert len(features) == 3


def estimate(path: Path) -> None:
    """Open an estimator of two outputs and use it."""
    takes = Takes(box=(-0.1, 0, 1, 1), side=None, channels="bgr", mean=(0.5,), std=(0.5,))
    outputs = {"yaw": "degrees", "pitch": "degrees"}
    gives = Gives(reading="plain", outputs=outputs, opposite=("yaw",), classes=())
    config = EstimatorConfig(file=str(path), network="onnx", takes=takes, gives=gives)
    found = open_estimator(config)(torch.zeros(3, 3, 16, 16))
    assert {name: value.shape for name, value in found.items()} == dict.fromkeys(outputs, (3,))


READERS: dict[str, Reader] = {
    "generator": Reader(generators, "g.safetensors", read(open_generator, "g.safetensors")),
    "generator-pth": Reader(
        *(released_generators, "g.pth", read(partial(read_generator, heads=HEADS), "g.pth"))
    ),
    "recognizer": Reader(recognizers, "r.safetensors", read(open_recognizer, "r.safetensors")),
    "released-pt": Reader(checkpoints, "r.pt", read(open_recognizer, "r.pt")),
    "released-st": Reader(foreign, "r.safetensors", read(open_recognizer, "r.safetensors")),
    "pose": Reader(poses, "p.tar", read(load_pose, "p.tar")),
    "onnx": Reader(graphs, "r.onnx", read(recognize, "r.onnx")),
    "onnx-torch": Reader(graphs, "r.onnx", read(to_torch, "r.onnx")),
    "estimator": Reader(graphs, "r.onnx", read(estimate, "r.onnx")),
    "onnx-data": Reader(partial(graphs, beside=True), "w", read(recognize, "r.onnx")),
    "detector": Reader(detectors, "d.onnx", read(FaceDetector, "d.onnx")),
}
