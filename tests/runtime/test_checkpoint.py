import resource

import pytest
import torch

from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.files import InputError


def test_keeps_the_last_two_and_loads_the_last(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.load() is None
    for step in (5, 10, 20):
        checkpoint.save(step, {"x": torch.full((2,), float(step)), "deep": [{"n": step}]})
    assert len(list(tmp_path.iterdir())) == 2
    step, state = checkpoint.load()
    assert (step, state["deep"]) == (20, [{"n": 20}])
    assert state["x"].tolist() == [20, 20]


def test_a_loaded_state_outlives_its_file_and_does_not_change_it(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(1, {"x": torch.zeros(100_000)})
    x = checkpoint.load()[1]["x"]
    x += 1
    assert checkpoint.load()[1]["x"].sum() == 0
    mapped = checkpoint.load()[1]["x"]
    checkpoint.save(
        1, {"x": torch.full((100_000,), 7.0)}
    )  # the same name, as when steps are redone
    assert checkpoint.load()[1]["x"].sum() == 700_000
    for step in (2, 3):
        checkpoint.save(step, {})
    assert mapped.sum() == 0
    assert x.sum() == 100_000


@pytest.mark.parametrize("keep", [0, 10, 0.9])
def test_a_broken_state_is_passed_over(tmp_path, keep):
    checkpoint = Checkpoint(tmp_path)
    for step in (1, 2):
        checkpoint.save(step, {"x": torch.zeros(1000), "step": step})
    last = tmp_path / "state-0000000002.pt"
    data = last.read_bytes()
    last.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    assert checkpoint.load()[1]["step"] == 1


def test_a_pickled_object_is_not_loaded(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(1, {"good": 1})
    torch.save({"bad": Checkpoint(tmp_path)}, tmp_path / "state-0000000002.pt")
    assert checkpoint.load() == (1, {"good": 1})


def test_a_failed_write_leaves_the_earlier_states(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(1, {"x": 1})
    with pytest.raises(Exception, match="pickle|local object"):  # the words of Python 3.11, 3.13
        checkpoint.save(2, {"x": lambda: 0})
    assert checkpoint.load() == (1, {"x": 1})
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_named_and_leaves_the_earlier_states(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(1, {"x": 1})
    unlimited, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, most))
    try:
        with pytest.raises(InputError, match=r"state-0000000002\.pt.*make room"):
            checkpoint.save(2, {"x": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, most))
    assert checkpoint.load() == (1, {"x": 1})
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    (tmp_path / ".state-0000000001.pt.77.partial").write_bytes(b"half")
    Checkpoint(tmp_path).save(2, {})
    assert [path.name for path in tmp_path.iterdir()] == ["state-0000000002.pt"]


def test_clear_removes_the_folder(tmp_path):
    checkpoint = Checkpoint(tmp_path / "run")
    checkpoint.save(1, {})
    checkpoint.clear()
    checkpoint.clear()
    assert not (tmp_path / "run").exists()
