"""The authors' LMDB, written here with the packages `lmdb` and `msgpack` alone."""

import io
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import msgpack
import numpy as np
import pytest

from tests.faces.readers import IMAGES, lmdb_of
from vec2face.faces import database
from vec2face.faces.database import DatabaseSource, DatabaseWriter
from vec2face.faces.source import open_source
from vec2face.runtime.files import InputError


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def test_features_are_told_by_the_tuple(tmp_path):
    feature = np.arange(512, dtype=np.float32)
    rows = [
        msgpack.dumps((IMAGES[0], npy(feature), 7)),
        msgpack.dumps((IMAGES[1], npy(feature[None] + 1), 2)),
        msgpack.dumps([IMAGES[2], 7]),
        msgpack.dumps((IMAGES[3], 0), use_bin_type=False),  # as msgpack wrote before 1.0
    ]
    source = open_source(lmdb_of(tmp_path / "anything", rows))
    assert [source.encoded(i) for i in range(len(source))] == IMAGES[:4]
    assert source.labels.tolist() == [7, 2, 7, 0]
    assert np.array_equal(source.feature(0), feature)
    assert np.array_equal(source.feature(1), feature + 1)
    assert source.feature(2) is None
    assert source.where(3).endswith("anything, key 3")


def test_rows_follow_the_list_of_keys(tmp_path):
    keys = [b"b", b"0", b"ten"]
    rows = [msgpack.dumps((IMAGES[i], i)) for i in range(3)]
    source = open_source(lmdb_of(tmp_path / "a.lmdb", rows, keys))
    assert source.labels.tolist() == [0, 1, 2]
    assert [source.encoded(i) for i in (2, 0)] == [IMAGES[2], IMAGES[0]]


def test_a_folder_with_data_mdb_is_one_too(tmp_path):
    (tmp_path / "db").mkdir()
    lmdb_of(tmp_path / "db" / "data.mdb", [msgpack.dumps((IMAGES[0], 3))])
    assert open_source(tmp_path / "db").labels.tolist() == [3]


def test_reading_labels_keeps_memory_flat(tmp_path, monkeypatch):
    """Of 16 MiB that are mapped and read, few stay in memory."""
    monkeypatch.setattr(database, "_AT_ONCE", 100)
    path = tmp_path / "large.lmdb"
    with DatabaseWriter(path) as writer:
        for i in range(1000):
            writer.append(bytes(16_000), i // 5)
    source = DatabaseSource(path)
    source.encoded(0)
    assert source.labels.tolist() == [i // 5 for i in range(1000)]
    spans = Path("/proc/self/smaps").read_text().split(str(path))[1:]
    assert len(spans) == 1
    assert int(spans[0].split("Rss:")[1].split()[0]) < 2000  # KiB
    assert source.encoded(999) == bytes(16_000)


def test_labels_are_read_where_the_system_does_not_list_its_maps(tmp_path, monkeypatch):
    path = lmdb_of(tmp_path / "a.lmdb", [msgpack.dumps((IMAGES[i], i)) for i in range(5)])
    monkeypatch.setattr(Path, "is_file", lambda file: file != Path("/proc/self/maps"))
    assert DatabaseSource(path).labels.tolist() == [0, 1, 2, 3, 4]


def test_one_file_can_be_open_twice_and_in_many_threads(tmp_path):
    rows = [msgpack.dumps((IMAGES[i % 60], i)) for i in range(200)]
    path = lmdb_of(tmp_path / "a.lmdb", rows)
    first, second = DatabaseSource(path), DatabaseSource(path)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(first.encoded, range(200))) == [IMAGES[i % 60] for i in range(200)]
    del first
    assert second.labels.tolist() == list(range(200))


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\xc1",
        msgpack.dumps((IMAGES[0], 1))[:-30],
        msgpack.dumps((IMAGES[0], b"x", b"y", 1)),
        msgpack.dumps((IMAGES[0], -1)),
        msgpack.dumps((IMAGES[0], True)),
        msgpack.dumps((IMAGES[0], 1.5)),
        msgpack.dumps(("text", 3, 1)),
        msgpack.dumps({"image": IMAGES[0]}),
        pickle.dumps((IMAGES[0], 1)),
    ],
)
def test_a_damaged_entry_is_named_or_skipped(tmp_path, bad):
    good = [msgpack.dumps((IMAGES[i], i)) for i in range(2)]
    path = lmdb_of(tmp_path / "a.lmdb", [good[0], bad, good[1]])
    source = open_source(path)
    for read in (lambda: source.encoded(1), lambda: source.labels):
        with pytest.raises(InputError, match=r"a\.lmdb, key 1: "):
            read()
    part = open_source(path, corrupt="skip")
    assert part.labels.tolist() == [0, 1]
    assert part.encoded(1) == IMAGES[1]
    assert len(part.skipped) == 1
    assert "key 1" in part.skipped[0]


def test_a_feature_runs_no_code(tmp_path):
    class Harm:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    file = io.BytesIO()
    np.save(file, np.array([Harm()], object), allow_pickle=True)
    rows = [msgpack.dumps((IMAGES[0], data, 0)) for data in (file.getvalue(), pickle.dumps(Harm()))]
    source = open_source(lmdb_of(tmp_path / "a.lmdb", rows))
    for i in range(2):
        with pytest.raises(InputError, match=r"key \d: the feature is no \.npy"):
            source.feature(i)


def test_a_truncated_file_is_refused_and_does_not_kill_the_process(tmp_path):
    path = lmdb_of(tmp_path / "a.lmdb", [msgpack.dumps((IMAGES[i], i)) for i in range(60)])
    whole = path.read_bytes()
    for length in range(20, len(whole), 4096):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.lmdb: .*(truncated|not an LMDB)"):
            open_source(path)


def test_foreign_databases_are_refused(tmp_path):
    environment = lmdb.open(str(tmp_path / "a.lmdb"), subdir=False, lock=False)
    with environment.begin(write=True) as transaction:
        transaction.put(b"0", b"x")
    environment.close()
    with pytest.raises(InputError, match="no entry __keys__"):
        open_source(tmp_path / "a.lmdb")
    for keys, length in ((b"\x93\xa1", 3), (msgpack.dumps([b"0"]), 2), (msgpack.dumps(5), 5)):
        path = tmp_path / "b.lmdb"
        path.unlink(missing_ok=True)
        environment = lmdb.open(str(path), subdir=False, lock=False)
        with environment.begin(write=True) as transaction:
            transaction.put(b"__keys__", keys)
            transaction.put(b"__len__", msgpack.dumps(length))
        environment.close()
        with pytest.raises(InputError, match=r"b\.lmdb: .*__keys__"):
            open_source(path)


def test_a_key_without_an_entry_is_named(tmp_path):
    path = lmdb_of(tmp_path / "a.lmdb", [msgpack.dumps((IMAGES[0], 0))])
    environment = lmdb.open(str(path), subdir=False, lock=False)
    with environment.begin(write=True) as transaction:
        transaction.put(b"__keys__", msgpack.dumps([b"0", b"1"]))
        transaction.put(b"__len__", msgpack.dumps(2))
    environment.close()
    with pytest.raises(InputError, match="no entry 1"):
        open_source(path).encoded(1)
    shutil.copy(path, tmp_path / "moved")
    assert open_source(tmp_path / "moved", corrupt="skip").labels.tolist() == [0]
