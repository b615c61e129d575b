"""A file of weights, whatever network it holds: opened, or described."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from vec2face.faces.reading import reading
from vec2face.generator.network import Vec2Face
from vec2face.generator.released import KEY, read_generator
from vec2face.recognizers.convention import Convention
from vec2face.recognizers.network import is_ours, load_recognizer
from vec2face.recognizers.onnx import OnnxRecognizer
from vec2face.recognizers.released import read_recognizer
from vec2face.recognizers.weights import SUFFIXES, read_checkpoint
from vec2face.runtime.files import InputError, is_sealed, sha256

Found = dict[str, Any]
"""``kind``, ``damaged``, and what was found."""

NAMED = 10  # of what is damaged


def open_weights(path: str) -> nn.Module:
    """Return the generator or recognizer of a file, ours or released, in evaluation mode.

    Raises:
        InputError: if the file is missing or holds neither.
    """
    if Path(path).suffix in SUFFIXES:
        content = read_checkpoint(path)
        theirs = isinstance(content, dict) and KEY in content
        return read_generator(path) if theirs else read_recognizer(path)
    if Path(path).suffix != ".safetensors":
        raise InputError(f"{path}: give a .safetensors, or weights named {', '.join(SUFFIXES)}")
    if not is_ours(path):
        return read_recognizer(path)
    return Vec2Face.load(path) if _is_generator(path) else load_recognizer(path)


def _is_generator(path: str) -> bool:
    try:
        with safe_open(path, "pt") as file:
            return "config" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False  # load_recognizer says what is wrong


def describe_weights(path: Path) -> Found:
    """Return what the file of a generator or recognizer holds.

    Raises:
        InputError: as ``open_weights``.
    """
    network = open_weights(str(path))
    about = _tensors(path, network.state_dict())
    if isinstance(network, Vec2Face):
        side = network.image_size
        return {"kind": "generator", **about} | {
            "takes": f"{network.dimension} numbers",
            "gives": f"{side} x {side} pixels",
            "sizes": network.config.model_dump(mode="json"),
        }
    convention = getattr(network, "convention", Convention())
    return {"kind": "recognizer", **about} | {
        "takes": f"{network.image_size} pixels, {convention}",
        "gives": f"{network.dimension} numbers",
        "architecture": getattr(network, "architecture", {}),
    }


def describe_onnx(path: Path) -> Found:
    """Return what an ONNX file holds, and whether it does for a recognizer.

    Raises:
        InputError: if it is none.
    """
    with reading(path, "download it again"):
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model)
    stored = {tensor.name for tensor in model.graph.initializer}
    about: Found = {
        "kind": "ONNX network",
        "damaged": False,
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "parameters": sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer),
        "opset": max(entry.version for entry in model.opset_import),
        "inputs": {i.name: _shape(i) for i in model.graph.input if i.name not in stored},
        "outputs": {o.name: _shape(o) for o in model.graph.output},
    }
    try:
        recognizer = OnnxRecognizer(path)
    except InputError as error:
        return about | {"as_a_recognizer": str(error).removeprefix(f"{path}: ")}
    takes = f"{recognizer.input_size} pixels, {recognizer.convention}"
    return about | {"takes": takes, "gives": f"{recognizer.dimension} numbers"}


def _shape(value: onnx.ValueInfoProto) -> str:
    sides = value.type.tensor_type.shape.dim
    return f"({', '.join(side.dim_param or str(side.dim_value or '?') for side in sides)})"


def describe_checkpoint(path: Path) -> Found:
    """Return what a state of a training holds.

    Raises:
        InputError: if it is none.
    """
    about = _tensors(path, dict(_inside(read_checkpoint(path))))
    sealed = path.with_name(f"{path.name}.sha256").exists()
    right = is_sealed(path)
    about["damaged"] |= sealed and not right
    state = ("right" if right else "wrong") if sealed else "none beside it"
    step = path.stem.removeprefix("state-").lstrip("0") or "0"
    return {"kind": "checkpoint", "step": step, "checksum": state, **about}


def _inside(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of nested containers."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping | list | tuple):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, inner in items:
            yield from _inside(inner, f"{name}.{key}")


def _tensors(path: Path, tensors: Mapping[str, Tensor]) -> Found:
    floating = {k: v for k, v in tensors.items() if v.is_floating_point()}
    bad = [name for name, value in floating.items() if not value.isfinite().all()]
    return {
        "damaged": bool(bad),
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
        "tensors": len(tensors),
        "parameters": sum(value.numel() for value in floating.values()),
        "not_finite": bad[:NAMED],
    }
