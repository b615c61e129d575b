"""Rendered world, estimators: identity, quality, pose and age, and second judges of two of them.

    python -m stages.rendered_estimators

Reads data/rendered/estimators and its attributes; writes models/rendered/*.onnx and, beside them,
estimators.json: what they were made from and how well they do on people they have not seen. A
killed run continues.
"""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.config.sections import RecognizerConfig
from vec2face.evaluation.separability import describe
from vec2face.faces.images import to_tensor
from vec2face.faces.source import load_images, open_source
from vec2face.faces.store import FaceStore
from vec2face.recognizers.iresnet import IResNet
from vec2face.recognizers.network import embed
from vec2face.recognizers.onnx_export import export
from vec2face.recognizers.training import train_recognizer
from vec2face.rendered.estimators import (
    ATTRIBUTES,
    SIZE,
    equalise,
    recognizer_configs,
    train_attribute,
)
from vec2face.runtime.files import whole_folder, write_json
from vec2face.runtime.resume import resume

STORE = artifacts.rendered_store("estimators")
UNSEEN = 20  # one person in so many is kept apart, to measure on
MEASURED = 200  # of these; recognizers are measured on them
FIGURES = ("eer", "intra_mean", "inter_mean", "separated_share", "nearest_other_mean")
BATCH = 512

Measures = dict[str, float]
Made = tuple[nn.Module, Measures]


class People:
    """The faces of the store at ``SIZE``, the people seen in training and those kept apart."""

    def __init__(self) -> None:
        source = open_source(STORE)
        self.images, self.labels = load_images(source, SIZE), source.labels
        self.unseen = self.labels % UNSEEN == 0
        self.seen = ~self.unseen

    def values(self, names: tuple[str, ...]) -> np.ndarray:
        """Return some of the attributes, (N, names)."""
        folder = STORE.with_name(f"{STORE.name}-attributes")
        return np.stack([np.load(folder / f"{name}.npy") for name in names], 1)


def make_recognizer(
    people: People, name: str, config: RecognizerConfig, seed: int, work: Path
) -> Made:
    """Train a recognizer and measure it on people that it has not seen."""
    images = people.images[people.seen]
    labels = np.unique(people.labels[people.seen], return_inverse=True)[1]
    recognizer = train_recognizer(images, labels, config, SIZE, seed, work)
    if name == "identity":
        assert isinstance(recognizer, IResNet)
        equalise(recognizer, images, labels)
    rows = people.unseen & (people.labels < UNSEEN * MEASURED)
    measures = describe(embed(recognizer, people.images[rows]), people.labels[rows])[0]
    return recognizer, {key: measures[key] for key in FIGURES}


def make_attribute(people: People, name: str, epochs: int, seed: int) -> Made:
    """Train an estimator of an attribute and measure its mean error."""
    attribute = ATTRIBUTES[name]
    values = people.values(attribute.names)
    net = train_attribute(people.images[people.seen], values[people.seen], name, epochs, seed)
    unseen = to_tensor(people.images[people.unseen])
    with torch.inference_mode():
        found = torch.cat([net(batch) for batch in unseen.split(BATCH)]).numpy()
    errors = np.abs(found - values[people.unseen]).mean(0)
    several = len(errors) > 1
    names = (f"{output}_" * several + f"error_{attribute.unit}" for output in attribute.names)
    return net, dict(zip(names, errors.tolist(), strict=True))


def finish(folder: Path, output: str, make: Callable[[], Made]) -> Measures:
    """Make a network and its figures, unless ``folder`` has them."""
    if not folder.is_dir():
        net, measures = make()
        with whole_folder(folder) as new:
            export(net, new / "network.onnx", SIZE, output=output, half=True)
            write_json(new / "measures.json", {k: round(v, 4) for k, v in measures.items()})
    return json.loads((folder / "measures.json").read_text())


def main() -> None:
    """Train, export, measure."""
    p = Params.load(artifacts.params)
    e = p.rendered.estimators
    shards = FaceStore(STORE).manifest["shards"]
    record: dict[str, object] = {"made_from": [shard["sha256"] for shard in shards]}
    with resume("rendered_estimators", [p.seed, e.model_dump()], [STORE], artifacts.work) as work:
        people = People()
        todo: dict[str, tuple[str, Callable[[], Made]]] = {}
        for name, (offset, config) in recognizer_configs(e.epochs).items():
            training = partial(make_recognizer, people, name, config, p.seed + offset, work / name)
            todo[name] = "features", training
        for name, attribute in ATTRIBUTES.items():
            fit = partial(make_attribute, people, name, e.attribute_epochs, p.seed)
            todo[name] = attribute.unit, fit
        for name, (output, make) in todo.items():
            measures = finish(work / f"{name}-done", output, make)
            record |= {f"{name}_{key}": value for key, value in measures.items()}
        for name in todo:
            made = work / f"{name}-done" / "network.onnx"
            shutil.copyfile(made, artifacts.rendered_estimators / f"{name}.onnx")
        write_json(artifacts.rendered_estimators / "estimators.json", record)


if __name__ == "__main__":
    run(main)
