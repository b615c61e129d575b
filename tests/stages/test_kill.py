"""Stages as real processes: killed at random, on a full disk, shared by two; the bytes stay."""

import glob
import multiprocessing
import os
import resource
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from tests import ranks
from tests.parameters import SMOKE, changed
from vec2face.dataset import generate as generation
from vec2face.evaluation import comparison, quality
from vec2face.faces import subset as copying
from vec2face.faces.benchmarks import save_benchmark
from vec2face.faces.images import encode
from vec2face.faces.record_writer import RecordWriter
from vec2face.generator.network import Vec2Face
from vec2face.recognizers import features as extraction
from vec2face.recognizers.network import build_backbone, save_recognizer
from vec2face.recognizers.onnx_export import export
from vec2face.runtime import blocks
from vec2face.runtime.files import InputError, fingerprint

ROOT = Path(__file__).parents[2]


def prepare(folder):
    """Lay out everything the stages read: faces, networks, benchmarks, parameters."""
    os.chdir(folder)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)

    def person():
        return np.kron(rng.integers(40, 216, (4, 4, 3)), np.ones((14, 14, 1))).astype(np.uint8)

    images = []
    with RecordWriter("faces.rec") as writer:
        for label in range(14):
            base = person()
            for _ in range(4):
                noise = rng.integers(0, 20, base.shape, np.uint8)
                images.append(encode(base + noise))
                writer.append(images[-1], label)
    save_benchmark("benchmarks/toy.bin", images[:48], [True, True, False] * 8)
    for name in ("first", "second"):
        net = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.PReLU(), nn.Flatten(), nn.LazyLinear(12))
        net(torch.zeros(1, 3, 56, 56))
        export(net, f"{name}.onnx", 56)
    Vec2Face(
        changed(SMOKE.generator, width=16, decoder_width=16, front_channels=8, channels=(8,) * 4),
        dimension=12,
    ).save("models/generator.safetensors")
    shape = {"name": "se_iresnet10", "image_size": 56, "embedding": 8, "widths": (4, 4, 4, 4)}
    for which in ("generated", "real"):
        save_recognizer(f"models/fr/{which}.safetensors", build_backbone(**shape), shape)

    Path("models/rendered").symlink_to(ROOT / "models/rendered")
    params = yaml.safe_load((ROOT / "params/smoke.yaml").read_text())
    params["paths"] |= {
        "faces": "faces.rec", "pca_faces": "faces.rec", "benchmarks": "benchmarks",
        "recognizer": "first.onnx", "second_recognizer": "second.onnx",
    }  # fmt: skip
    params["subset"] |= {
        "identities": 10, "images_per_identity": 4, "minimum_images": 4, "held_out": 3,
    }  # fmt: skip
    params |= {"tau": 0.95, "identities": 9, "images_per_identity": 5, "sigma": [0.1, 0.2, 0.3]}
    Path("params.yaml").write_text(yaml.safe_dump(params))


def play(folder, room=None, say=None):
    """Run the stages in small blocks, with ``room`` bytes for a file."""
    from stages import dataset, subset  # noqa: PLC0415

    torch.set_num_threads(1)
    os.chdir(folder)
    extraction.BLOCK = quality.BLOCK = generation.BLOCK = comparison.PAIRS = 4
    copying.IMAGES_PER_SHARD = 16
    dataset.generate = partial(generation.generate, images_per_shard=16)
    share = blocks.share

    def slowly(numbers, do, what):
        share(numbers, lambda number: (time.sleep(0.002), do(number)), what)

    blocks.share = slowly
    assert subset.copy_rows is copying.copy_rows
    if room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        for stage in ranks.STAGES:
            main(stage)
    except InputError as error:
        if say is None:
            raise
        say.send(str(error))


def main(stage):
    """Run one stage, unless an earlier start has finished it, as DVC would know."""
    from importlib import import_module  # noqa: PLC0415

    from vec2face.runtime.processes import processes  # noqa: PLC0415

    done = Path(f"done-{stage}")
    if not processes().gather(done.exists())[0]:
        import_module(f"stages.{stage}").main()
        if processes().main:
            done.touch()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    assert ranks.finish(ranks.start(prepare, folder)) == [0]
    return folder


@pytest.fixture
def start(inputs, tmp_path):
    def begin(name, *options, size=1):
        if not (tmp_path / name).exists():
            shutil.copytree(inputs, tmp_path / name)
        return ranks.start(play, tmp_path / name, *options, size=size)

    return begin


@pytest.fixture(scope="module")
def expected(inputs, tmp_path_factory):
    """What one process makes that nobody disturbs, and how long it takes."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(inputs, folder)
    begin = time.monotonic()
    assert ranks.finish(ranks.start(play, folder)) == [0]
    return results(folder), time.monotonic() - begin


def results(folder):
    """Name the content of all that the stages wrote, and see that nothing else is left."""
    assert not list(folder.rglob("*.partial"))
    assert not list(folder.glob("work/*"))
    return {part: fingerprint(folder / part) for part in ("data", "models", "reports")}


def unfinished(folder):
    """List work under a folder that the next start finds; folders may vanish meanwhile."""
    return [
        path
        for pattern in ("work/**/block-*", "work/**/store-*")
        for path in glob.glob(f"{folder}/{pattern}", recursive=True)  # noqa: PTH207
    ]


def kill_at_work(processes, folder, seconds=0.0):
    """Kill them so many seconds after there is something to lose, if they still run."""
    while all(process.is_alive() for process in processes) and not unfinished(folder):
        time.sleep(0.001)
    processes[0].join(seconds)
    ranks.kill(processes)


def test_killed_at_random_the_bytes_are_those_of_a_run_that_was_not(start, expected, tmp_path):
    content, seconds = expected
    rng = np.random.default_rng()
    left = []
    for late in (0, 0, 0, 0, 0.1, 0.2, 0.3, 0.3):
        kill_at_work(start("killed"), tmp_path / "killed", rng.uniform(0, late) * seconds)
        left += unfinished(tmp_path / "killed")
    assert ranks.finish(start("killed")) == [0]
    assert left
    assert results(tmp_path / "killed") == content


def test_two_processes_make_what_one_does_and_one_goes_on_when_they_are_killed(
    start, expected, tmp_path
):
    content, _ = expected
    assert ranks.finish(start("two", size=2)) == [0, 0]
    assert results(tmp_path / "two") == content
    kill_at_work(start("elastic", size=2), tmp_path / "elastic")
    assert ranks.finish(start("elastic")) == [0]
    assert results(tmp_path / "elastic") == content


def test_on_a_full_disk_a_stage_says_so_and_goes_on_when_there_is_room(start, expected, tmp_path):
    receive, say = multiprocessing.Pipe(duplex=False)
    refused = []
    for room in (3_000, 5_000, 12_000, 20_000, 40_000):
        ranks.finish(start("full", room, say))
        while receive.poll():
            refused.append(receive.recv())
            assert not list(tmp_path.rglob("*.partial"))
    assert len(refused) >= 3
    assert all("cannot be written" in message for message in refused)
    assert ranks.finish(start("full")) == [0]
    assert results(tmp_path / "full") == expected[0]
