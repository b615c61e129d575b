"""The generator's training on several processes, and on processes that are killed."""

import os
import random
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from tests import ranks
from tests.rounding import TOLERANCE
from vec2face.config.params import Params
from vec2face.generator.step import GeneratorRun
from vec2face.generator.training import train_generator
from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.processes import processes

STEPS = 8


def train(params, faces, folder, hold=False):
    """Train in ``folder``; leave the generator, the curve and the last checkpoint there.

    With ``hold`` it never ends, so that a kill comes in time however slow the machine is.
    """
    torch.set_num_threads(1)  # the same bits in every run
    torch.set_default_dtype(torch.float64)  # training does not amplify rounding to what is compared
    log = []

    def on_log(entry):
        (folder / "going").touch()
        log.append(entry)
        while hold and entry["step"] == STEPS:
            time.sleep(0.1)

    params = Params.model_validate(params)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEC2FACE_CHECKPOINT_SECONDS", "0")
        net = train_generator(*faces, params, folder / "work", on_log=on_log, log_every=1)
    if processes().main:
        torch.save(log, folder / "log.pt")
        net.save(folder / "generator.safetensors")


def train_and_vanish(*arguments):
    """Train, but the second process is killed in a step after a checkpoint."""
    step = GeneratorRun.step

    def die(self, batch):
        if batch.step == 5 and not processes().main:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch)

    GeneratorRun.step = die
    train(*arguments)


def result(folder):
    """Return the losses, the weights, and the moments of all optimisers, which tell gradients."""
    state = Checkpoint(folder / "work").load()[1]["run"]
    moments = {
        f"{name}.{number}.{moment}": value
        for name in ("optimizer0", "optimizer_d")
        for number, values in state[name]["state"].items()
        for moment, value in values.items()
    }
    return torch.load(folder / "log.pt"), load_file(folder / "generator.safetensors"), moments


@pytest.fixture(scope="module")
def job(make, faces):
    parts = {"adversarial": 1.0, "token": 1.0, "ssim": 0.1, "gradient": 0.0}
    params = make(
        dropout=0.1, discriminator=(0.4, 1e-5), steps=STEPS, micro_batch=3,
        optimizer="adamw", lr=1e-4, clip=1e6, losses=parts,
    )  # fmt: skip
    return params.model_dump(), faces


@pytest.fixture(scope="module")
def alone(job, tmp_path_factory):
    """What one process ends in that nobody disturbs."""
    folder = tmp_path_factory.mktemp("alone")
    assert ranks.finish(ranks.start(train, *job, folder)) == [0]
    return result(folder)


def assert_close(found, expected):
    """Compare with what another number of processes found: only rounding may differ."""
    assert "discriminator" in found[0][-1]
    for one, other in zip(found[0], expected[0], strict=True):
        assert one == pytest.approx(other, rel=TOLERANCE)
    kinds = ((1, ""), (2, ".exp_avg"), (2, ".exp_avg_sq"))
    for what, kind in kinds:
        one, other = (
            torch.cat([v.flatten() for name, v in which[what].items() if name.endswith(kind)])
            for which in (found, expected)
        )
        # Not element by element: where a gradient is rounding alone, AdamW blows it up.
        assert (one - other).norm() < TOLERANCE * other.norm(), kind or "weights"


@pytest.mark.rounding
def test_two_processes_train_as_one(job, alone, tmp_path):
    assert ranks.finish(ranks.start(train, *job, tmp_path, size=2)) == [0, 0]
    assert_close(result(tmp_path), alone)


@pytest.mark.rounding
def test_two_processes_train_as_one_as_released(job, tmp_path):
    """Though the discriminator then has gradients from two losses."""
    params, faces = job
    params = params | {"training": params["training"] | {"released": True, "steps": 3}}
    for size in (1, 2):
        folder = tmp_path / str(size)
        folder.mkdir()
        assert ranks.finish(ranks.start(train, params, faces, folder, size=size)) == [0] * size
    assert_close(result(tmp_path / "2"), result(tmp_path / "1"))


def test_a_vanished_process_ends_the_others_and_one_alone_goes_on(job, alone, tmp_path):
    codes = ranks.finish(ranks.start(train_and_vanish, *job, tmp_path, size=2))
    assert codes[0] != 0
    assert codes[1] == -signal.SIGKILL
    assert not (tmp_path / "log.pt").exists()
    assert Checkpoint(tmp_path / "work").load()[0] == 5
    assert ranks.finish(ranks.start(train, *job, tmp_path)) == [0]
    assert_close(result(tmp_path), alone)


def test_killed_at_random_points_it_ends_in_the_same_bits(job, alone, tmp_path):
    delays = [random.uniform(0, 0.6) for _ in range(3)]
    for delay in delays:
        (tmp_path / "going").unlink(missing_ok=True)
        (process,) = ranks.start(train, *job, tmp_path, True)
        while process.is_alive() and not (tmp_path / "going").exists():
            time.sleep(0.01)
        process.join(delay)
        process.kill()
        assert ranks.finish([process]) == [-signal.SIGKILL]
    assert ranks.finish(ranks.start(train, *job, tmp_path)) == [0]
    log, weights, moments = result(tmp_path)
    assert log == alone[0], delays
    for found, expected in ((weights, alone[1]), (moments, alone[2])):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value), (name, delays)
