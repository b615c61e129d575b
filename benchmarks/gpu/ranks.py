"""Trainings in processes of their own: killed and continued, and by NCCL in a group of one.

    python -m benchmarks.gpu.ranks generator WORK RESULT.pt --die 7
    torchrun --standalone --nproc-per-node=1 -m benchmarks.gpu.ranks group WORK RESULT.pt

A group of one process takes no collective operation by itself. ``Several`` is a number that counts
as one and says that it is more, so that everything is exchanged as between several processes: NCCL
refuses two processes on one card.
"""

import argparse
import inspect
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu import subjects
from vec2face.faces.images import to_tensor
from vec2face.generator.training import train_generator
from vec2face.recognizers.exchange import exchange
from vec2face.recognizers.onnx import OnnxRecognizer
from vec2face.recognizers.training import train_recognizer
from vec2face.runtime import parallel
from vec2face.runtime.processes import Group, join

PEOPLE, IMAGES = 12, 48
State = dict[str, Tensor]


def kill_at(last: int, key: str) -> Any:
    """Return a report function that kills this process at a step or epoch; 0 for never."""

    def report(entry: dict[str, float]) -> None:
        if entry[key] == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return report


def faces_and_features(params: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return training faces and the features that the recognizer of the losses gives them."""
    images = subjects.faces(IMAGES, params.image_size, PEOPLE)
    return images, OnnxRecognizer(params.paths.recognizer).features(images)


def train(what: str, place: Path, work: Path, *, tiny: bool, die: int = 0) -> State:
    """Train from nothing, or from where another process was killed; return the weights.

    Args:
        what: ``generator`` (24 steps) or ``recognizer`` (4 epochs).
        place: of the random networks.
        work: of the checkpoints.
        tiny: whether sizes are those of a test.
        die: the step or epoch after which this process kills itself.
    """
    params = subjects.small_params(place, tiny=tiny)
    if what == "generator":
        images, features = faces_and_features(params)
        on_log = kill_at(die, "step")
        net = train_generator(images, features, params, work, on_log=on_log, log_every=1)
    else:
        images = subjects.faces(IMAGES, params.image_size, PEOPLE)
        config = subjects.recognizer_config(params, batch=16, epochs=4)
        labels = np.arange(IMAGES) % PEOPLE
        size, on_epoch = params.image_size, kill_at(die, "epoch")
        net = train_recognizer(images, labels, config, size, 0, work, on_epoch=on_epoch)
    return {name: value.float() for name, value in net.state_dict().items()}


def start(what: str, place: Path, *, tiny: bool) -> State:
    """Return the weights that ``train`` begins with."""
    params = subjects.small_params(place, tiny=tiny)
    if what == "generator":
        run = subjects.generator_run(params, faces_and_features(params)[1], subjects.CPU)
        return {name: value.float() for name, value in run.generator.state_dict().items()}
    config = subjects.recognizer_config(params, batch=16)
    recognizer = subjects.recognizer_run(config, params.image_size, PEOPLE, subjects.CPU)
    return {name: value.float() for name, value in recognizer.backbone.state_dict().items()}


class Several(int):
    """A one that says it is more than one."""

    def __eq__(self, other: object) -> bool:
        return False if other == 1 else int(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __gt__(self, other: int) -> bool:
        return other == 1 or int(self) > other

    __hash__ = int.__hash__


def group_steps(place: Path, group: Group, *, tiny: bool) -> dict[str, list[float]]:
    """Return the losses of some steps of each training, taken by ``group``."""
    params = subjects.small_params(place, tiny=tiny)
    images, features = faces_and_features(params)
    run = subjects.generator_run(params, features, group)
    found: dict[str, list[float]] = {}
    for batch in subjects.generator_batches(params, images, features, 4):
        for name, value in (run.step(batch) or {}).items():
            found.setdefault(f"generator {name}", []).append(value)
    for share in (1.0, 0.5):
        config = subjects.recognizer_config(params, batch=16, sample_rate=share)
        recognizer = subjects.recognizer_run(config, params.image_size, PEOPLE, group)
        if group.size > 1:  # as processes do that share a micro-batch
            exchange(recognizer.backbone, group)
        labels = torch.arange(16) % PEOPLE
        pictures = to_tensor(images[:16])
        for step in range(4):
            batch = subjects.recognizer_batch(recognizer, step, pictures, labels)
            for name, value in (recognizer.step(batch) or {}).items():
                found.setdefault(f"recognizer {name}, share {share}", []).append(value)
    return found


class OlderParallel(DistributedDataParallel):
    """PyTorch's class before a keyword got another name."""

    def __init__(
        self, module: nn.Module, *, forward_sync_buffers: bool = True, **others: Any
    ) -> None:
        super().__init__(module, broadcast_buffers=forward_sync_buffers, **others)


def older_pytorch() -> list[str]:
    """Give an older PyTorch the names that the pinned one has; return which were missing."""
    names = {"all_gather_single": "all_gather_into_tensor"}
    names |= {"reduce_scatter_single": "reduce_scatter_tensor"}
    missing = [name for name in names if not hasattr(dist, name)]
    for name in missing:
        setattr(dist, name, getattr(dist, names[name]))
    if "forward_sync_buffers" not in inspect.signature(DistributedDataParallel).parameters:
        parallel.DistributedDataParallel = OlderParallel  # type: ignore[misc]
        missing.append("forward_sync_buffers")
    return missing


def main() -> None:
    """Do what the arguments say and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("generator", "recognizer", "group"))
    parser.add_argument("work", type=Path)
    parser.add_argument("result", type=Path)
    parser.add_argument("--die", type=int, default=0)
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    place = arguments.result.parent
    with join() as group:
        if arguments.what == "group":
            adapted = older_pytorch()
            several = replace(group, size=Several(1))
            result: Any = {
                "backend": dist.get_backend_config() if dist.is_initialized() else "none",
                "alone": group_steps(place, group, tiny=arguments.tiny),
                "exchanging": group_steps(place, several, tiny=arguments.tiny),
                "adapted": adapted,
                "gathered": several.gather("all objects"),
            }
            several.wait()
        else:
            result = train(
                arguments.what, place, arguments.work, tiny=arguments.tiny, die=arguments.die
            )
        torch.save(result, arguments.result)


if __name__ == "__main__":
    main()
