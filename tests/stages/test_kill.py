"""Stages as real processes: killed at random, on a full disk, shared by two; the bytes stay."""

import multiprocessing
import os
import resource
import shutil
import socket
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from vec2face.blocks import Blocks
from vec2face.distributed import join
from vec2face.faces import subset as copying
from vec2face.faces.benchmarks import save_benchmark
from vec2face.faces.images import encode
from vec2face.faces.record import RecordWriter
from vec2face.files import InputError, fingerprint
from vec2face.models import features as extraction
from vec2face.models.generator import GeneratorConfig, Vec2Face
from vec2face.models.onnx import export
from vec2face.models.recognizer import build_backbone, save_recognizer
from vec2face.sampling import dataset as generation

ROOT = Path(__file__).parents[2]
FLOW = ("subset", "features", "pca", "identities", "dataset", "measure", "evaluate")


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
        GeneratorConfig(
            features=12, image_size=56, width=16, decoder_width=16, encoder_blocks=1,
            encoder_heads=2, decoder_blocks=1, decoder_heads=2, front_channels=8,
            channels=(8, 8, 8, 8), residual_blocks=1, groups=4,
        )
    ).save("models/generator.safetensors")  # fmt: skip
    shape = {"name": "se_iresnet10", "image_size": 56, "embedding": 8, "widths": (4, 4, 4, 4)}
    for which in ("generated", "real"):
        save_recognizer(f"models/fr/{which}.safetensors", build_backbone(**shape), shape)

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


def play(folder, place=(), room=None, say=None):
    """Run the stages in small blocks, alone or at a ``place``, with ``room`` bytes for a file."""
    from stages import dataset, evaluate, measure, subset  # noqa: PLC0415

    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ.update(place)
    extraction.BLOCK = measure.BLOCK = generation.BLOCK = evaluate.PAIRS = 4
    copying.IMAGES_PER_SHARD = 16
    dataset.generate = partial(generation.generate, images_per_shard=16)
    write = Blocks._write

    def slowly(self, number):
        time.sleep(0.002)
        write(self, number)

    Blocks._write = slowly
    assert subset.copy_rows is copying.copy_rows
    if room is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    try:
        with join():
            for stage in FLOW:
                main(stage)
    except InputError as error:
        if say is None:
            raise
        say.send(str(error))


def main(stage):
    """Run one stage, unless an earlier start has finished it, as DVC would know."""
    from importlib import import_module  # noqa: PLC0415

    from vec2face.distributed import world  # noqa: PLC0415

    done = Path(f"done-{stage}")
    if not world().gather(done.exists())[0]:
        import_module(f"stages.{stage}").main()
        if world().main:
            done.touch()


@pytest.fixture(scope="module")
def server():
    """A server that has imported everything and forks processes from there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("VEC2FACE_THREADS", "1")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, *(f"stages.{stage}" for stage in FLOW)])
        yield context


@pytest.fixture(scope="module")
def inputs(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    process = server.Process(target=prepare, args=[folder])
    process.start()
    process.join()
    assert process.exitcode == 0
    return folder


@pytest.fixture
def start(server, inputs, tmp_path):
    def begin(name, **options):
        if not (tmp_path / name).exists():
            shutil.copytree(inputs, tmp_path / name)
        process = server.Process(target=play, args=[tmp_path / name], kwargs=options)
        process.start()
        return process

    return begin


@pytest.fixture(scope="module")
def expected(server, inputs, tmp_path_factory):
    """What one process makes that nobody disturbs, and how long it takes."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(inputs, folder)
    begin = time.monotonic()
    process = server.Process(target=play, args=[folder])
    process.start()
    process.join()
    assert process.exitcode == 0
    return results(folder), time.monotonic() - begin


def results(folder):
    """Name the content of all that the stages wrote, and see that nothing else is left."""
    assert not list(folder.rglob("*.partial"))
    assert not list(folder.glob("work/*"))
    return {part: fingerprint(folder / part) for part in ("data", "models", "reports")}


def place(rank, size, port):
    there = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
    return {name: str(value) for name, value in there.items()} | {"MASTER_ADDR": "127.0.0.1"}


def pair(start, name):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(name, place=place(rank, 2, port)) for rank in range(2)]


def finish(*processes):
    for process in processes:
        process.join(120)
    late = [process for process in processes if process.is_alive()]
    kill(*late)
    assert not late
    assert [process.exitcode for process in processes] == [0] * len(processes)


def kill(*processes):
    for process in processes:
        process.kill()  # also one that has ended meanwhile
    for process in processes:
        process.join()


def unfinished(folder):
    """List work under a folder that the next start finds."""
    return [*folder.glob("**/work/**/block-*"), *folder.glob("**/store-*")]


def test_killed_at_random_the_bytes_are_those_of_a_run_that_was_not(start, expected, tmp_path):
    content, seconds = expected
    rng = np.random.default_rng()
    left = []
    for late in (0, 0, 0, 0, 0.1, 0.2, 0.3, 0.3):
        process = start("killed")
        while process.is_alive() and not unfinished(tmp_path):
            time.sleep(0.001)
        process.join(rng.uniform(0, late) * seconds)
        kill(process)
        left.append(unfinished(tmp_path))
    finish(start("killed"))
    assert any(left)
    assert results(tmp_path / "killed") == content


def test_two_processes_make_what_one_does_and_one_goes_on_when_they_are_killed(
    start, expected, tmp_path
):
    content, _ = expected
    finish(*pair(start, "two"))
    assert results(tmp_path / "two") == content
    both = pair(start, "elastic")
    while all(process.is_alive() for process in both) and not unfinished(tmp_path / "elastic"):
        time.sleep(0.001)
    kill(*both)
    finish(start("elastic"))
    assert results(tmp_path / "elastic") == content


def test_on_a_full_disk_a_stage_says_so_and_goes_on_when_there_is_room(start, expected, tmp_path):
    receive, say = multiprocessing.get_context("forkserver").Pipe(duplex=False)
    refused = []
    for room in (3_000, 5_000, 12_000, 20_000, 40_000):
        process = start("full", room=room, say=say)
        process.join()
        while receive.poll():
            refused.append(receive.recv())
            assert not list(tmp_path.rglob("*.partial"))
    assert len(refused) >= 3
    assert all("cannot be written" in message for message in refused)
    finish(start("full"))
    assert results(tmp_path / "full") == expected[0]
