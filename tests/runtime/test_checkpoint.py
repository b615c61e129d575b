import resource
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vec2face.runtime.checkpoint import Checkpoint
from vec2face.runtime.files import InputError, seal
from vec2face.runtime.processes import Group


def test_keeps_the_last_two_and_loads_the_last(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.load() is None
    for step in (5, 10, 20):
        checkpoint.save(step, {"x": torch.full((2,), float(step)), "deep": [{"n": step}]})
    assert {path.name for path in tmp_path.iterdir()} == {
        f"state-00000000{step}.pt{suffix}" for step in (10, 20) for suffix in ("", ".sha256")
    }
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


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a run with two states, and the bytes of the later one's files."""
    folder = tmp_path_factory.mktemp("states")
    for step in (1, 2):
        Checkpoint(folder).save(step, {"x": torch.arange(100.0), "deep": [{"step": step}]})
    return folder, {path: path.read_bytes() for path in folder.glob("state-0000000002.pt*")}


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_changed_byte_reaches_a_run(written, data):
    folder, whole = written
    path = data.draw(st.sampled_from(sorted(whole)))
    places = st.integers(0, len(whole[path]) - 1)
    flips = data.draw(st.dictionaries(places, st.integers(1, 255), min_size=1, max_size=5))
    damaged = bytearray(whole[path])
    for place, change in flips.items():
        damaged[place] ^= change
    path.write_bytes(damaged)
    try:
        step, state = Checkpoint(folder).load()
    finally:
        path.write_bytes(whole[path])
    assert (step, state["deep"]) == (1, [{"step": 1}])
    assert torch.equal(state["x"], torch.arange(100.0))


def to_folder(path):
    path.unlink()
    (path / "inner").mkdir(parents=True)


def encrypted(path):
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # the flag in the archive's directory
    path.write_bytes(data)
    seal(path)


@pytest.mark.parametrize("suffix", ["", ".sha256"])
@pytest.mark.parametrize(
    "damage", [to_folder, encrypted, Path.unlink, lambda p: p.write_bytes(b"")]
)
def test_whatever_stands_in_its_place_is_passed_over_and_replaced(tmp_path, damage, suffix, caplog):
    if damage is encrypted and suffix:
        pytest.skip("a checksum is no archive")
    checkpoint = Checkpoint(tmp_path / "run")
    for step in (1, 2):
        checkpoint.save(step, {"step": step})
    damage(tmp_path / f"run/state-0000000002.pt{suffix}")
    assert checkpoint.load() == (1, {"step": 1})
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == (damage is not Path.unlink or suffix != "")
    assert all("state-0000000002.pt" in line for line in lines)
    checkpoint.save(2, {"step": "again"})
    assert checkpoint.load() == (2, {"step": "again"})


def test_damaged_states_of_later_steps_are_not_kept_in_place_of_good_ones(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    for step in (1, 5, 9):
        checkpoint.save(step, {"step": step})
    (tmp_path / "state-0000000009.pt").write_bytes(b"")
    checkpoint.save(6, {"step": 6})
    checkpoint.save(7, {"step": 7})
    assert sorted(path.name for path in tmp_path.glob("*.pt")) == [
        "state-0000000006.pt",
        "state-0000000007.pt",
    ]


def test_a_file_in_the_folders_place_is_a_fresh_start(tmp_path):
    (tmp_path / "run").write_text("no folder")
    checkpoint = Checkpoint(tmp_path / "run")
    assert checkpoint.load() is None
    checkpoint.save(1, {"x": 1})
    assert checkpoint.load() == (1, {"x": 1})


def test_a_pickled_object_is_not_loaded(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(1, {"good": 1})
    torch.save({"bad": Checkpoint(tmp_path)}, tmp_path / "state-0000000002.pt")
    seal(tmp_path / "state-0000000002.pt")
    assert checkpoint.load() == (1, {"good": 1})


def test_a_failed_write_leaves_the_earlier_states(tmp_path):
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(1, {"x": 1})
    with pytest.raises(Exception, match="pickle|local object"):  # the words of Python 3.11, 3.13
        checkpoint.save(2, {"x": lambda: 0})
    assert checkpoint.load() == (1, {"x": 1})
    assert len(list(tmp_path.glob("*.pt"))) == 1


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
    assert len(list(tmp_path.glob("*.pt"))) == 1


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    (tmp_path / ".state-0000000001.pt.77.partial").write_bytes(b"half")
    (tmp_path / ".state-0000000001.pt.sha256.77.partial").write_bytes(b"half")
    Checkpoint(tmp_path).save(2, {})
    assert not list(tmp_path.glob("*.partial"))


class Two:
    """Two processes, as the first of them sees them, of which the other found state 3."""

    main = True

    def gather(self, value):
        return [value, 3]


def test_a_run_starts_afresh_or_goes_on_where_all_processes_do(tmp_path):
    alone = Group(0, 1, torch.device("cpu"))
    assert Checkpoint(tmp_path).resume(alone) == (0, {})
    with pytest.raises(InputError, match=r"steps \[0, 3\].*share"):
        Checkpoint(tmp_path).resume(Two())
    Checkpoint(tmp_path).save(3, {"x": 1})
    assert Checkpoint(tmp_path).resume(alone) == Checkpoint(tmp_path).resume(Two()) == (3, {"x": 1})


def test_a_state_is_due_when_the_seconds_have_passed_since_the_last(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    alone = Group(0, 1, torch.device("cpu"))
    for seconds in (None, "7.5"):
        if seconds:
            monkeypatch.setenv("VEC2FACE_CHECKPOINT_SECONDS", seconds)
        checkpoint, wait = Checkpoint(tmp_path), float(seconds or 120)
        for _ in range(2):
            assert not checkpoint.due(alone)
            now[0] += wait - 0.5
            assert not checkpoint.due(alone)
            now[0] += 0.5
            assert checkpoint.due(alone)
            checkpoint.save(1, {})
    monkeypatch.setenv("VEC2FACE_CHECKPOINT_SECONDS", "0")
    assert Checkpoint(tmp_path).due(alone)
    monkeypatch.setenv("VEC2FACE_CHECKPOINT_SECONDS", "often")
    with pytest.raises(InputError, match="VEC2FACE_CHECKPOINT_SECONDS.*'often'"):
        Checkpoint(tmp_path)
