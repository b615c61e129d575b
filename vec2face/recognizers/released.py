"""Recognizers as others release their weights, told apart by the names in the file.

- IResNet of arcface_torch, of MagFace (which adds ``features.``, and its head) and of Vec2Face's
  authors (whose SE networks gate the shortcut of each stage's first block, under ``attn``);
- IR and SE-IR networks of AdaFace and CVLface, which are IResNets under other names, but for the
  first block: its shortcut only takes every second pixel. That is a 1x1 convolution by the
  identity, so that one network serves all;
- the vision transformers of arcface_torch.

Each becomes a network of ``build_backbone`` with our names. The head of the training, a matrix of
class centres, is left behind. Depth, width, embedding, input size and gate follow from names and
shapes. What the weights do not tell, the order of channels and the scale of pixels, is set to what
their authors use, unless the caller knows better.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vec2face.recognizers.backbones import DEPTHS, TRANSFORMERS, build_backbone
from vec2face.recognizers.convention import Convention
from vec2face.recognizers.iresnet import EPSILON
from vec2face.recognizers.network import adapt, save_recognizer
from vec2face.recognizers.weights import load_into, read_state_dict
from vec2face.runtime.files import InputError

Weights = dict[str, Tensor]

MAGFACE = Convention("bgr", mean=0.0, std=1.0)
ADAFACE = Convention("bgr")
_MAGFACE_EPSILON = 2e-5  # of its batch norms

_FIRST = re.compile(
    r"((?:module\.|model\.|features\.|backbone\.|net\.|_orig_mod\.)*)(conv1|input_layer\.0|patch_embed\.proj)\.weight"
)
_HEAD = re.compile(
    r"(?:module\.)?(?:fc\.weight|parallel_fc\.weight|head\.(?:kernel|t|batch_mean|batch_std))"
)


def read_recognizer(path: Path | str, convention: Convention | None = None) -> nn.Module:
    """Return the recognizer whose weights a ``.pt``, ``.pth`` or ``.ckpt`` file holds.

    Args:
        path: the checkpoint; nothing in it is run.
        convention: the input its network was trained on; default: that of its family (MagFace: BGR
            in [0, 1], AdaFace, told by its head: BGR in [-1, 1], all others as ours).

    Returns:
        A network in evaluation mode; as that of ``load_recognizer``, it takes RGB in [-1, 1] and
        yields features that are not normalised.

    Raises:
        InputError: if the file is none, or names and shapes are of no known network.
    """
    tensors = read_state_dict(path)
    found = next((match for name in tensors if (match := _FIRST.fullmatch(name))), None)
    if found is None:
        raise InputError(
            f"{path}: no IResNet, IR network or vision transformer (no conv1, input_layer or "
            f"patch_embed among {', '.join(list(tensors)[:5])}, ...); convert it to ONNX"
        )
    prefix, first = found.groups()
    outside = [k for k in tensors if not k.startswith(prefix)]
    if unknown := [k for k in outside if not _HEAD.fullmatch(k)]:
        raise InputError(f"{path}: unknown names beside {prefix}*: {', '.join(unknown[:12])}")
    own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    usual = Convention()
    try:
        if first == "patch_embed.proj":
            architecture = _transformer(own, path)
            own = _from_transformer(own)
        else:
            if first == "input_layer.0":
                own = _from_ir(own)
                if prefix == "model." and outside:
                    usual = ADAFACE
            elif "features." in prefix:
                own, usual = _from_magface(own), MAGFACE
            own, architecture = _iresnet(own, path)
        with torch.device("meta"):
            network = build_backbone(**architecture)
    except KeyError as error:
        raise InputError(f"{path}: incomplete, {error} is missing; download it again") from error
    except InputError:
        raise
    except Exception as error:  # whatever shapes from outside bring about
        raise InputError(f"{path}: shapes of no known network ({error})") from error
    load_into(network, own, path)
    convention = convention or usual
    if convention != Convention():
        architecture["convention"] = asdict(convention)
    return adapt(network, architecture)


def import_recognizer(
    source: Path | str, destination: Path | str, stated: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Turn released weights into a recognizer of ours (``.safetensors``).

    Args:
        source: as in ``read_recognizer``.
        destination: the file to write; it keeps architecture and convention.
        stated: fields of ``Convention`` that are other than its family's.

    Returns:
        The architecture, with the convention if it is not ours.

    Raises:
        InputError: as ``read_recognizer``; if what is stated is no convention.
    """
    network = read_recognizer(source)
    architecture: dict[str, Any] = network.architecture  # type: ignore[assignment]
    if stated:
        usual = Convention(**architecture.get("convention", {}))
        architecture |= {"convention": asdict(usual.but(stated, source))}
    save_recognizer(destination, network, architecture)
    return architecture


def _from_magface(tensors: Weights) -> Weights:
    """Move the difference of the two epsilons into the variances they are added to."""
    more = _MAGFACE_EPSILON - EPSILON
    return {k: v + more if k.endswith("running_var") else v for k, v in tensors.items()}


_IR_ENDS = {
    "input_layer.0": "conv1",
    "input_layer.1": "bn1",
    "input_layer.2": "prelu",
    "output_layer.0": "bn2",
    "output_layer.3": "fc",
    "output_layer.4": "features",
}
_IR_BLOCK = {
    "res_layer.0": "bn1",
    "res_layer.1": "conv1",
    "res_layer.2": "bn2",
    "res_layer.3": "prelu",
    "res_layer.4": "conv2",
    "res_layer.5": "bn3",
    "res_layer.se_block.fc1": "se.fc1",
    "res_layer.se_block.fc2": "se.fc2",
    "shortcut_layer.0": "downsample.0",
    "shortcut_layer.1": "downsample.1",
}


def _from_ir(tensors: Weights) -> Weights:
    """Return an IR network's weights under IResNet's names; unknown names stay as they are."""
    count = 1 + max(int(k.split(".")[1]) for k in tensors if re.match(r"body\.\d+\.", k))
    places, stage, inside, width = {}, 0, 0, None
    for i in range(count):  # the blocks are numbered through; a stage begins where width changes
        now = len(tensors[f"body.{i}.res_layer.1.weight"])
        stage, inside = (stage, inside + 1) if now == width else (stage + 1, 0)
        places[f"body.{i}"], width = f"layer{stage}.{inside}", now
    result = {}
    for name, tensor in tensors.items():
        part, _, kind = name.rpartition(".")
        block = ".".join(part.split(".")[:2])
        if part in _IR_ENDS:
            name = f"{_IR_ENDS[part]}.{kind}"
        elif block in places and part.removeprefix(block + ".") in _IR_BLOCK:
            name = f"{places[block]}.{_IR_BLOCK[part.removeprefix(block + '.')]}.{kind}"
        result[name] = tensor
    width, inputs = result["layer1.0.conv1.weight"].shape[:2]
    if "layer1.0.downsample.0.weight" not in result:
        result["layer1.0.downsample.0.weight"] = torch.eye(width, inputs)[:, :, None, None]
        norm = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0 - EPSILON}
        result |= {f"layer1.0.downsample.1.{k}": torch.full((width,), v) for k, v in norm.items()}
    embedding = len(result["fc.weight"])
    return {
        "features.weight": torch.ones(embedding),  # its last norm has neither scale nor shift
        "features.bias": torch.zeros(embedding),
    } | result


def _iresnet(tensors: Weights, where: Path | str) -> tuple[Weights, dict[str, Any]]:
    """Return weights under our names, and the arguments of ``build_backbone``."""
    gate = "none"
    if any(".attn.fc1." in name for name in tensors):
        gate = "shortcut"
        tensors = {name.replace(".attn.fc", ".se.fc"): value for name, value in tensors.items()}
    elif any(".se.fc1." in name for name in tensors):
        gate = "residual"
    for name in [k for k in tensors if re.search(r"\.se\.fc[12]\.weight$", k)]:
        tensors.setdefault(name.removesuffix("weight") + "bias", torch.zeros(len(tensors[name])))
    blocks = {match[0] for k in tensors if (match := re.match(r"layer[1-4]\.\d+", k))}
    depths = tuple(sum(block.startswith(f"layer{i}.") for block in blocks) for i in (1, 2, 3, 4))
    names = {depth: number for number, depth in DEPTHS.items()}
    if depths not in names:
        known = ", ".join(f"{number}: {depth}" for number, depth in DEPTHS.items())
        raise InputError(f"{where}: {depths} blocks a stage; known networks have {known}")
    widths = [len(tensors[f"layer{i}.0.conv1.weight"]) for i in (1, 2, 3, 4)]
    embedding, flat = tensors["fc.weight"].shape
    side = round((flat / widths[3]) ** 0.5)
    if side * side * widths[3] != flat:
        raise InputError(f"{where}: fc sees {flat} values, no square map of {widths[3]} channels")
    return tensors, {
        "name": ("iresnet" if gate == "none" else "se_iresnet") + names[depths],
        "image_size": 16 * side,
        "embedding": embedding,
        "widths": widths,
        "squeeze_excitation": gate,
    }


def _from_transformer(tensors: Weights) -> Weights:
    """Return a transformer's weights under our names, without the token that masks in training."""
    return {
        name if name.startswith("feature.") else f"body.{name}": tensor
        for name, tensor in tensors.items()
        if name != "mask_token"
    }


def _transformer(tensors: Weights, where: Path | str) -> dict[str, Any]:
    """Return the arguments of ``build_backbone``."""
    from vec2face.recognizers.vit import PATCH  # noqa: PLC0415 - timm takes seconds

    width, _, patch, _ = tensors["patch_embed.proj.weight"].shape
    blocks = len({k.split(".")[1] for k in tensors if k.startswith("blocks.")})
    names = {sizes: name for name, sizes in TRANSFORMERS.items()}
    if (width, blocks) not in names or patch != PATCH:
        raise InputError(
            f"{where}: a transformer of width {width} with {blocks} blocks and {patch}-pixel "
            f"patches; known are {', '.join(map(str, names))} with {PATCH}"
        )
    seen = PATCH * round(tensors["pos_embed"].shape[1] ** 0.5)
    # Pixels that make no whole patch leave no trace in the weights; sizes go in sixteens.
    size = (seen + PATCH - 1) // 16 * 16
    return {
        "name": names[width, blocks],
        "image_size": size if size >= seen else seen,
        "embedding": len(tensors["feature.2.weight"]),
    }
