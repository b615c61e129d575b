"""Rendered world, estimators: identity, a second judge of identity, quality and pose.

    python -m stages.rendered_estimators

Reads data/rendered/estimators and its attributes; writes models/rendered/*.onnx and, beside them,
estimators.json: what they were made from and how well they do on people they have not seen.
"""

import numpy as np
import torch

from stages import run
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.evaluation.separability import describe
from vec2face.faces.images import to_tensor
from vec2face.faces.source import load_images, open_source
from vec2face.faces.store import FaceStore
from vec2face.recognizers.iresnet import IResNet
from vec2face.recognizers.network import embed
from vec2face.recognizers.onnx_export import export
from vec2face.recognizers.training import train_recognizer
from vec2face.rendered.estimators import (
    SIZE,
    PoseTraining,
    equalise,
    recognizer_configs,
    train_pose,
)
from vec2face.runtime.files import write_json
from vec2face.runtime.resume import resume

STORE, OUTPUT = artifacts.rendered_store("estimators"), artifacts.rendered_estimators
UNSEEN = 20  # one person in so many is kept apart, to measure on


def main() -> None:
    """Train, export, measure."""
    p = Params.load(artifacts.params)
    source = open_source(STORE)
    images, labels = load_images(source, SIZE), source.labels
    unseen = labels % UNSEEN == 0
    seen_labels = np.unique(labels[~unseen], return_inverse=True)[1]
    shards = FaceStore(STORE).manifest["shards"]
    record: dict[str, object] = {"made_from": [shard["sha256"] for shard in shards]}

    configs = recognizer_configs(p.rendered.estimators.epochs)
    settings = [p.seed, p.rendered.estimators.epochs]
    with resume("rendered_estimators", settings, [STORE], artifacts.work) as work:
        for name, (offset, config) in configs.items():
            recognizer = train_recognizer(
                images[~unseen], seen_labels, config, SIZE, p.seed + offset, work / name
            )
            if name == "identity":
                assert isinstance(recognizer, IResNet)
                equalise(recognizer, images[~unseen], seen_labels)
            export(recognizer, OUTPUT / f"{name}.onnx", SIZE, half=True)
            measures = describe(embed(recognizer, images[unseen]), labels[unseen])[0]
            record |= {
                f"{name}_{key}": measures[key] for key in ("eer", "intra_mean", "inter_mean")
            }

    attributes = STORE.with_name(f"{STORE.name}-attributes")
    angles = np.stack([np.load(attributes / f"{angle}.npy") for angle in ("yaw", "pitch")], 1)
    pose = train_pose(
        images[~unseen], angles[~unseen], PoseTraining(p.rendered.estimators.pose_epochs), p.seed
    )
    export(pose, OUTPUT / "pose.onnx", SIZE, output="degrees", half=True)
    with torch.inference_mode():
        errors = np.abs(pose(to_tensor(images[unseen])).numpy() - angles[unseen])
    record |= {"yaw_error_degrees": errors[:, 0].mean(), "pitch_error_degrees": errors[:, 1].mean()}
    write_json(OUTPUT / "estimators.json", {k: _plain(v) for k, v in record.items()})


def _plain(value: object) -> object:
    return value if isinstance(value, list) else round(float(value), 4)  # type: ignore[arg-type]


if __name__ == "__main__":
    run(main)
