"""Checkpoints of others: read without running anything they ask for, loaded name by name.

A checkpoint is a pickle, and a pickle can call any function. PyTorch's ``weights_only`` builds
tensors and plain containers and refuses the rest; what training programs commonly leave beside the
weights (their command line, a callback's name, a score) is replaced by an object that does nothing.
"""

import mmap
import pickle
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vec2face.runtime.files import InputError

SUFFIXES = (".pt", ".pth", ".ckpt", ".tar")
"""Endings of checkpoints; ``.pth.tar`` is one."""

_INSIDE = ("state_dict", "state_dict_backbone", "model_state_dict", "model")
_SHOWN = 12
_ZIP = b"PK\x03\x04"
_LARGER = 16  # times a file's size: what its members and its tensors may take


class _Inert:
    """Takes the place of an object that is not needed; whatever the file says of it is kept."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


# Found beside the weights: of argparse, of Lightning, which AdaFace is trained with, and a numpy
# number, such as the best accuracy.
_REPLACED = (
    "argparse.Namespace",
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)


def read_checkpoint(path: Path | str) -> Any:
    """Return what ``torch.save`` wrote: tensors (on the CPU), numbers, strings and containers.

    Raises:
        InputError: if the file is missing, damaged, or asks for anything else.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such checkpoint; give the path of a .pt, .pth or .ckpt file")
    _refuse_other_zips(Path(path))
    with Path(path).open("rb") as file:
        plain = file.read(len(_ZIP)) != _ZIP  # as torch tells its two forms apart
    allowed = [(_Inert, name) for name in _REPLACED]
    try:
        with torch.serialization.safe_globals(allowed):  # type: ignore[arg-type]
            if plain:  # a map reads no more than there is, whatever a damaged length asks for
                with (
                    Path(path).open("rb") as file,
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
                ):
                    content = torch.load(mapped, map_location="cpu", weights_only=True)  # type: ignore[arg-type]
            else:
                content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None:
            raise InputError(f"{path}: not a PyTorch checkpoint; download it again") from error
        raise InputError(
            f"{path}: it holds a {asked[1]} beside tensors, and building it could run any code; "
            "where it comes from, save the weights alone: torch.save(network.state_dict(), ...)"
        ) from error
    except Exception as error:  # what a damaged file raises inside torch has no common base
        raise InputError(f"{path}: not a PyTorch checkpoint; download it again") from error
    _bound(content, Path(path))
    return content


def _bound(content: Any, path: Path) -> None:
    """Refuse tensors that repeat what the file holds (stride 0, one under many names) too often."""
    left = _LARGER * path.stat().st_size + 2**20
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            plain = value.layout == torch.strided and value.device.type == "cpu"
            left -= value.numel() * value.element_size() if plain else left + 1
            if left < 0:
                raise InputError(
                    f"{path}: its tensors are over {_LARGER} times its size, or not dense; save "
                    "the weights alone: torch.save(network.state_dict(), ...)"
                )
        elif isinstance(value, Mapping | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value


def _refuse_other_zips(path: Path) -> None:
    """Refuse TorchScript, and zips that unpack to far more than the file (nothing is read)."""
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return  # no zip; an older checkpoint is a bare pickle
    if any("/code/" in member.filename for member in members):
        raise InputError(
            f"{path}: it is TorchScript, a program; save the weights alone: "
            "torch.save(torch.jit.load(...).state_dict(), ...), or export it to ONNX"
        )
    if sum(member.file_size for member in members) > _LARGER * path.stat().st_size:
        raise InputError(f"{path}: it unpacks to over {_LARGER} times its size; download it again")


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Return a network's weights by name, floating ones as float32.

    They may lie in the file as they are or under one of the names that training programs use.

    Raises:
        InputError: as ``read_checkpoint``; and if the file holds no weights.
    """
    content = (
        _read_safetensors(path) if Path(path).suffix == ".safetensors" else read_checkpoint(path)
    )
    if isinstance(content, Mapping) and "model_vec2face" in content:
        raise InputError(f"{path}: it is a generator, not a recognizer")
    if isinstance(content, Mapping):
        inner: Any = next(
            (content[k] for k in _INSIDE if isinstance(content.get(k), Mapping)), content
        )
        return named(inner, path)
    raise _no_weights(f"a {type(content).__name__}", path)


def named(weights: Mapping[Any, Any], path: Path | str) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name, floating ones as float32.

    Raises:
        InputError: if there is something else among them, or nothing, or nothing in one of them.
    """
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        found = f"entries {_listed(map(str, weights))}" if weights else "nothing"
        raise _no_weights(found, path)
    if empty := [name for name, value in weights.items() if not value.numel()]:
        raise InputError(f"{path}: no numbers in {_listed(map(str, empty))}; download it again")
    return {
        str(name): value.float() if value.is_floating_point() else value
        for name, value in weights.items()
    }


def _no_weights(found: str, path: Path | str) -> InputError:
    return InputError(
        f"{path}: it holds {found}, not a state dict; save torch.save(network.state_dict(), ...)"
    )


def _read_safetensors(path: Path | str) -> dict[str, Tensor]:
    if not Path(path).is_file():  # a pipe would be waited for
        raise InputError(f"{path}: no such file; give the path of a .safetensors file")
    try:
        return load_file(path)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{path}: not a safetensors file ({error}); download it again") from error


def load_into(network: nn.Module, tensors: Mapping[str, Tensor], where: Path | str) -> None:
    """Give ``network`` (which may be on the meta device) exactly these weights.

    Counters of batches, which only training needs and old files lack, are filled in.

    Raises:
        InputError: if names are missing or unknown, or shapes differ; it lists them.
    """
    expected = network.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    full = dict.fromkeys(counters, torch.tensor(0)) | dict(tensors)
    wrong = {
        "missing": [name for name in expected if name not in full],
        "unknown": [name for name in full if name not in expected],
        "of another shape": [
            f"{name} {tuple(full[name].shape)} for {tuple(value.shape)}"
            for name, value in expected.items()
            if name in full and full[name].shape != value.shape
        ],
    }
    if any(wrong.values()):
        lists = "; ".join(f"{what}: {_listed(names)}" for what, names in wrong.items() if names)
        raise InputError(f"{where}: not the weights of this network; {lists}")
    own = {name: full[name].to(value.dtype, copy=True) for name, value in expected.items()}
    network.load_state_dict(own, assign=True)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
