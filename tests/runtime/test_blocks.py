"""Blocks: every one made once, by one process, and made again where it is gone or damaged."""

import os
import resource
import threading
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vec2face.runtime import blocks
from vec2face.runtime.blocks import Blocks, cut
from vec2face.runtime.files import InputError, row_file, sweep, whole_file, whole_folder
from vec2face.runtime.processes import Group


def squares(number):
    return {"square": np.array([number**2]), "row": np.full((1, 3), number, np.float32)}


class Together(Group):
    """A process played by a thread."""

    def meet(self, values, barrier):
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "barrier", barrier)
        return self

    def gather(self, value):
        self.values[self.rank] = value
        self.barrier.wait(20)
        found = list(self.values)
        self.barrier.wait(20)
        return found

    def wait(self):
        self.barrier.wait(20)


def in_threads(size, work, monkeypatch):
    """Run ``work`` in ``size`` threads that take themselves for processes."""
    values, barrier, place, errors = [None] * size, threading.Barrier(size), threading.local(), []
    monkeypatch.setattr(blocks, "processes", lambda: place.group)

    def run(rank):
        place.group = Together(rank, size, torch.device("cpu")).meet(values, barrier)
        try:
            work()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=[rank]) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@settings(max_examples=25)
@given(
    count=st.integers(1, 9),
    size=st.integers(1, 4),
    there=st.sets(st.integers(0, 8)),
)
def test_processes_make_what_is_missing_once_and_evenly(tmp_path_factory, count, size, there):
    folder = tmp_path_factory.mktemp("work")
    there = {i for i in there if i < count}
    made = {}

    def make(number):
        made[number] = threading.get_ident()
        return squares(number)

    with pytest.MonkeyPatch.context() as patch:
        in_threads(1, lambda: Blocks(folder, squares).finish(sorted(there), "some"), patch)
        in_threads(size, lambda: Blocks(folder, make).finish(range(count), "all"), patch)
    assert set(made) == set(range(count)) - there
    each = np.bincount(np.unique(list(made.values()), return_inverse=True)[1], minlength=1)
    if made:
        assert each.max() == -(-len(made) // size)
    result = Blocks(folder, None).join(range(count))  # None: nothing may be made now
    assert result["square"].tolist() == [i**2 for i in range(count)]
    assert result["row"].shape == (count, 3)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_a_damaged_block_is_made_again(tmp_path, damage):
    work = Blocks(tmp_path, squares)
    work.finish(range(2), "x")
    file = work.path(1)
    data = bytearray(file.read_bytes())
    if damage == "gone":
        file.unlink()
    else:
        data[90] ^= 1
        file.write_bytes({"flip": data, "cut": data[:-40], "empty": b""}[damage])
    assert work.join([0, 1])["square"].tolist() == [0, 1]


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.integers(1, 255))
def test_no_flipped_byte_of_a_block_changes_an_array(tmp_path_factory, place, flip):
    work = Blocks(tmp_path_factory.mktemp("work"), squares)
    work.finish([3], "x")
    data = bytearray(work.path(3).read_bytes())
    data[place % len(data)] ^= flip
    work.path(3).write_bytes(data)
    found = work[3]
    assert found.keys() == {"square", "row"}
    assert found["square"].tolist() == [9]
    assert found["row"].tolist() == [[3, 3, 3]]


def test_a_folder_in_a_blocks_place_is_no_block(tmp_path):
    work = Blocks(tmp_path, squares)
    work.path(3).mkdir()
    work.finish([3], "x")
    assert work[3]["square"].tolist() == [9]


def test_what_killed_processes_left_is_swept(tmp_path):
    work = Blocks(tmp_path, squares)
    (tmp_path / ".block-0000000003.99.partial").write_bytes(b"half")
    (tmp_path / "other").write_text("mine")
    (tmp_path / ".store.1.partial").mkdir()
    work.finish([3], "x")
    sweep(tmp_path / "store")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["block-0000000003", "other"]


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 20))
def test_runs_cover_the_rows(start, length, size):
    runs = cut(start, start + length, size)
    assert [row for run in runs for row in run] == list(range(start, start + length))
    assert all(len(run) == size for run in runs[:-1])


@pytest.mark.parametrize("parts", [[5], [2, 3], [0, 4, 1]])
def test_a_row_file_is_what_numpy_writes(tmp_path, parts):
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    with row_file(tmp_path / "a.npy", 5, 4) as append:
        for part in np.split(rows, np.cumsum(parts)[:-1]):
            append(part)
    np.save(tmp_path / "b.npy", rows)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_a_row_file_refuses_other_rows(tmp_path):
    with pytest.raises(ValueError, match="4 rows came, not 5"), row_file(tmp_path / "a", 5, 2) as f:
        f(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="not of 2"), row_file(tmp_path / "a", 5, 2) as append:
        append(np.zeros((5, 3)))
    assert not list(tmp_path.iterdir())


@contextmanager
def full_disk(room):
    """Let no file grow beyond ``room`` bytes, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_named_and_leaves_nothing_half_written(tmp_path):
    large = {0: 10, 1: 200_000}
    work = Blocks(tmp_path / "work", lambda i: {"x": np.zeros(large[i])})
    with full_disk(100_000), pytest.raises(InputError, match=r"block-0000000001: cannot be"):
        work.finish([0, 1], "x")
    assert [p.name for p in work.folder.iterdir()] == ["block-0000000000"]
    with full_disk(100_000), pytest.raises(InputError, match="rows: cannot be written"):  # noqa: SIM117
        with row_file(tmp_path / "rows", 100_000, 2) as append:
            append(np.zeros((100_000, 2)))
    with full_disk(100_000), pytest.raises(InputError, match="many: cannot be written"):  # noqa: SIM117
        with whole_folder(tmp_path / "many") as folder, (folder / "a").open("wb") as file:
            np.save(file, np.zeros(100_000))
    assert [p.name for p in tmp_path.iterdir()] == ["work"]
    work.finish([0, 1], "x")
    assert work[1]["x"].shape == (200_000,)


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a"):
        os.stat(tmp_path / "none")  # noqa: PTH116
    with pytest.raises(OSError, match="broken"), whole_file(tmp_path / "a"):
        raise OSError("broken")
