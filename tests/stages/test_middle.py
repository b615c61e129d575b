"""Starting in the middle: what others released takes the place of what earlier stages make.

Files have the layouts they are released in, and the stages before are not there.
"""

import shutil
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
import yaml
from dvc.repo import Repo

from stages import dataset, generator, identities, pca
from tests.generator.test_released import released_forward, released_weights
from tests.parameters import SMOKE, changed
from tests.recognizers.test_released import iresnet_weights
from vec2face.cli import main
from vec2face.dataset.recipe import RELEASED_BATCH
from vec2face.faces.benchmarks import save_benchmark
from vec2face.faces.images import decode, encode, to_uint8
from vec2face.faces.record_writer import RecordWriter
from vec2face.faces.source import open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.generator.masks import masks
from vec2face.generator.network import Vec2Face
from vec2face.generator.released import import_generator
from vec2face.identities.pca import PCA
from vec2face.runtime.files import InputError

ROOT = Path(__file__).parents[2]
SIZES = {"width": 32, "encoder": 1, "decoder": 1, "channels": (32, 32, 64, 64), "features": 24}
HEADS = (4, 2)


@pytest.fixture
def begin(set_params):
    """Aligned faces as .rec, IResNet weights, and nothing that a stage has made.

    Returns what writes the parameters for a generator's file.
    """
    draw = np.random.default_rng(0)
    with RecordWriter("train.rec") as writer:
        for label in np.repeat(np.arange(12), 2):
            image = draw.integers(0, 256, (32, 32, 3)) // 4 + 12 * label
            writer.append(encode(image.astype(np.uint8)), int(label))
    torch.save({"state_dict": dict(iresnet_weights())}, "arcface.pth")

    def write(generator="vec2face.safetensors"):
        set_params(
            seed=0, tau=0.9, identities=3, images_per_identity=4, sigma=[0.3], sigma_share=[1.0],
            min_similarity=0.1, sampling__masks={"minimum": 0.1, "maximum": 1.0, "mean": 0.15},
            paths__pca_faces="train.rec", paths__recognizer="arcface.pth",
            paths__generator=generator,
        )  # fmt: skip

    write()
    return write


def test_a_generator_of_another_length_is_refused_before_the_work(begin):
    small = changed(SMOKE.generator, width=16, decoder_width=16, front_channels=8, channels=(8, 8))
    Vec2Face(small, 7).save("vec2face.safetensors")
    people = np.random.default_rng(0).normal(size=(30, 24)).astype(np.float32)
    PCA.fit(people, 1.0).save("models/pca.npz")
    Path("data").mkdir()
    np.save("data/identities.npy", people)
    with pytest.raises(InputError, match=r"paths.generator: .* takes 7 numbers, .* have 24"):
        dataset.main()


def test_a_batch_above_the_images_is_refused_before_the_work(set_params):
    set_params(training__batch=8, training__micro_batch=None)
    faces, features = Path("data/subset"), Path("data/features")
    with FaceStoreWriter(faces, image_size=8, seed=0, made_by="a test") as writer:
        for label in range(3):
            writer.append(encode(np.zeros((8, 8, 3), np.uint8)), label)
    features.mkdir()
    np.save(features / "train.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(InputError, match=r"training.batch: 8 is above the 3 images"):
        generator.main()


@torch.no_grad()
def test_a_released_generator_makes_a_dataset(begin):
    """Images are those of the authors' network under the vectors and masks of this run."""
    weights = released_weights(**SIZES)
    torch.save({"model_vec2face": weights, "epoch": 99}, "checkpoint.pth")
    import_generator("checkpoint.pth", "vec2face.safetensors", HEADS)
    for stage in (pca, identities, dataset):
        stage.main()

    made = open_source("data/generated")
    assert made.labels.tolist() == np.repeat(np.arange(3), 4).tolist()
    vectors = torch.from_numpy(np.load("data/generated_vectors.npy"))
    drop, mask = masks(0, 0, 12, 0.1, 1.0, 0.15, "generation mask", RELEASED_BATCH)
    wanted = to_uint8(released_forward(weights, vectors, drop, mask, HEADS))
    for i in range(12):  # the same JPEG but where a value fell on the other side of a rounding
        image = decode(encode(wanted[i], 95), "").astype(int)
        assert np.abs(decode(made.encoded(i), "") - image).mean() < 0.1


def test_heads_that_are_not_known_are_asked_for(begin):
    torch.save({"model_vec2face": released_weights(**SIZES)}, "checkpoint.pth")
    begin(generator="checkpoint.pth")
    pca.main()
    identities.main()
    with pytest.raises(InputError, match=r"checkpoint\.pth: of width 32, so its heads"):
        dataset.main()


def test_released_recognizers_are_evaluated_on_every_kind_of_benchmark(begin, capsys):
    source = open_source("train.rec")
    images = [source.encoded(i) for i in range(24)]
    pairs = [image for i in range(20) for image in (images[i], images[i])]
    pairs += [image for i in range(20) for image in (images[i], images[i + 2])]
    save_benchmark("sets/lfw.bin", pairs, [True] * 20 + [False] * 20)
    lines = ["path1,path2,issame"]
    for i in range(20):
        Path(f"sets/own/{i}.jpg").parent.mkdir(exist_ok=True)
        Path(f"sets/own/{i}.jpg").write_bytes(images[i])
        lines += [f"{i}.jpg,{i}.jpg,1", f"{i}.jpg,{(i + 2) % 20}.jpg,0"]
    Path("sets/own/pairs.csv").write_text("\n".join(lines))
    assert main(["evaluate", "arcface.pth", "sets"]) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [
        ["lfw", "100.00"],
        ["own", "100.00"],
    ]


def test_dvc_needs_nothing_from_the_stages_before(tmp_path):
    """What ``dvc repro dataset`` and ``dvc repro recognizer@hsface`` lead back to."""
    params = yaml.safe_load((ROOT / "params/paper.yaml").read_text())
    params["paths"]["generator"] = "data/weights/vec2face.pth"
    params["training_sets"]["hsface"] = "data/external/hsface10k"
    params["training_sets"]["real"] = "data/originals"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    graph = Repo.init(tmp_path, no_scm=True).index.graph

    def behind(name: str) -> set[str]:
        (stage,) = (s for s in graph if s.addressing.rpartition(":")[2] == name)
        return {s.addressing.rpartition(":")[2] for s in nx.descendants(graph, stage)}

    assert behind("dataset") == {"code", "identities", "pca"}
    assert behind("recognizer@hsface") == {"code"}
    assert "subset" in behind("recognizer@real")
