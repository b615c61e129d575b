"""Records, against readers written apart from the library's (struct only)."""

import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vec2face.faces.record import MAGIC, RecordFile, frame, pack
from vec2face.faces.record_writer import RecordWriter
from vec2face.faces.source import RecordSource, open_source
from vec2face.runtime.files import InputError

MAGIC_BYTES = struct.pack("<I", MAGIC)
GOLDEN = Path(__file__).parent / "golden"  # written by mxnet itself, see make.py there


def write(path: Path, images: list[bytes], labels: list[int]) -> Path:
    with RecordWriter(path) as writer:
        for image, label in zip(images, labels, strict=True):
            writer.append(image, label)
    return path


def index(path: Path, rows: list[tuple[int, int]]) -> None:
    path.with_suffix(".idx").write_text("".join(f"{k}\t{o}\n" for k, o in rows))


def walk(data: bytes) -> list[bytes]:
    """Read all payloads in sequence, as RecordIO's description has it."""
    payloads, parts, at = [], [], 0
    while at < len(data):
        magic, word = struct.unpack_from("<II", data, at)
        assert magic == MAGIC
        length, part = word & 0x1FFFFFFF, word >> 29
        parts.append(data[at + 8 : at + 8 + length])
        at += 8 + length + (-length) % 4
        if part in (0, 3):
            payloads.append(MAGIC_BYTES.join(parts))
            parts = []
    assert not parts
    return payloads


pieces = st.lists(st.one_of(st.binary(max_size=9), st.just(MAGIC_BYTES)), max_size=8).map(b"".join)


@settings(max_examples=60)
@given(st.lists(st.tuples(pieces, st.integers(0, 2**24)), min_size=1, max_size=6))
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rec") / "a.rec"
    write(path, [image for image, _ in rows], [label for _, label in rows])
    records = RecordFile(path)
    assert [records.encoded(i) for i in range(len(records))] == [image for image, _ in rows]
    assert records.read_labels().tolist() == [label for _, label in rows]
    payloads = walk(path.read_bytes())
    assert struct.unpack_from("<IfQQff", payloads[0])[4] == len(rows) + 1
    for key, (payload, (image, label)) in enumerate(zip(payloads[1:], rows, strict=True), 1):
        assert struct.unpack_from("<IfQQ", payload) == (0, label, key, 0)
        assert payload[24:] == image


def test_no_magic_is_left_inside_a_written_payload():
    data = b"abcd" + MAGIC_BYTES * 2 + b"ab" + MAGIC_BYTES + b"ab" + MAGIC_BYTES
    stored = frame(data)
    starts = [i for i in range(0, len(stored), 4) if stored[i : i + 4] == MAGIC_BYTES]
    parts = [struct.unpack_from("<I", stored, i + 4)[0] >> 29 for i in starts]
    assert parts == [1, 2, 2, 3]  # the third magic of the payload is not aligned: it stays
    assert walk(stored) == [data]


def test_a_split_record_written_by_hand_is_joined(tmp_path):
    payload = struct.pack("<IfQQ", 0, 5.0, 1, 0) + b"1234" + MAGIC_BYTES + b"xyz"
    first, last = payload[:28], payload[32:]
    stored = struct.pack("<II", MAGIC, 1 << 29 | 28) + first
    stored += struct.pack("<II", MAGIC, 3 << 29 | 3) + last + b"\0"
    path = tmp_path / "a.rec"
    path.write_bytes(stored)
    index(path, [(7, 0)])
    records = RecordFile(path)
    assert records.encoded(0) == b"1234" + MAGIC_BYTES + b"xyz"
    assert records.read_labels().tolist() == [5]


def golden():
    """What golden/make.py gave to mxnet."""
    m = MAGIC_BYTES
    images = [b"one", b"", b"four" + m + b"tail", m + m, b"odd" + m, bytes(range(9))]
    return images, [0, 0, 7, 7, 7, 2**24]


@pytest.mark.parametrize("name", ["plain", "full"])
def test_files_that_mxnet_wrote_are_read(name):
    images, labels = golden()
    file = RecordFile(GOLDEN / f"{name}.rec")
    assert [file.encoded(i) for i in range(len(file))] == images
    assert file.read_labels().tolist() == labels


def test_the_same_bytes_are_written_as_by_mxnet(tmp_path):
    with RecordWriter(tmp_path / "plain.rec") as writer:
        for image, label in zip(*golden(), strict=True):
            writer.append(image, label)
    for name in ("plain.rec", "plain.idx"):
        assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()


def test_header_and_identity_records_are_no_images(tmp_path):
    payloads = [
        pack(b"", 0, 0, (4.0, 6.0)),
        pack(b"one", 0, 1, (8.0, 3.0)),  # an array of labels: the first counts
        pack(b"two", 1, 2),
        pack(b"three", 1, 3),
        pack(b"", 0, 4, (1.0, 2.0)),
        pack(b"", 0, 5, (2.0, 4.0)),
    ]
    path, offsets, data = tmp_path / "a.rec", [], b""
    for payload in payloads:
        offsets.append(len(data))
        data += frame(payload)
    path.write_bytes(data)
    index(path, list(enumerate(offsets)))
    records = RecordFile(path)
    assert records.keys.tolist() == [1, 2, 3]
    assert [records.encoded(i) for i in range(3)] == [b"one", b"two", b"three"]
    assert records.read_labels().tolist() == [8, 1, 1]


def test_without_a_header_every_key_is_an_image_in_the_order_of_the_index(tmp_path):
    path = tmp_path / "a.rec"
    first, second = frame(pack(b"a", 2, 0)), frame(pack(b"b", 3, 9))
    path.write_bytes(first + second)
    index(path, [(9, len(first)), (0, 0)])
    source = RecordSource(path)
    assert [source.encoded(i) for i in range(len(source))] == [b"b", b"a"]
    assert source.labels.tolist() == [3, 2]


def records_of(path, payloads, first=0):
    """Write payloads one after the other, with keys from ``first`` on."""
    stored = [frame(payload) for payload in payloads]
    path.write_bytes(b"".join(stored))
    ends = np.cumsum([0, *map(len, stored)])
    index(path, list(enumerate(ends[:-1].tolist(), first)))
    return path


@given(
    st.lists(st.tuples(st.integers(0, 9), st.binary(min_size=1)), min_size=1, max_size=6),
    st.integers(1, 3),
)
def test_record_zero_is_an_image_if_it_holds_one(tmp_path_factory, rows, width):
    """im2rec --pack-label writes labels of any number and no header."""
    payloads = [
        pack(image, 0, key, (float(label), 0.5, 7.0)[:width])
        for key, (label, image) in enumerate(rows)
    ]
    source = open_source(records_of(tmp_path_factory.mktemp("rec") / "a.rec", payloads))
    assert source.labels.tolist() == [label for label, _ in rows]
    assert [source.encoded(i) for i in range(len(source))] == [image for _, image in rows]


def dcface(path, lines, label=0):
    """As DCFace writes: no header, one label everywhere, and a list of keys and paths."""
    path.with_name("list.txt").write_text("".join(f"{line}\n" for line in lines))
    return records_of(path, [pack(b"image %d" % key, label, key) for key in range(4)])


@pytest.mark.parametrize("label", [0, 5])
def test_labels_may_lie_beside_the_records(tmp_path, label):
    lines = ["2\tb/0.jpg", "0\ta/0.jpg", "1\tb/1.jpg", "3\ta/1.jpg", "9\tc/0.jpg"]
    dcface(tmp_path / "file.rec", lines, label)
    for path in (tmp_path, tmp_path / "file.rec"):
        source = open_source(path)
        assert source.labels.tolist() == [0, 1, 1, 0]
        assert [source.encoded(i) for i in range(4)] == [b"image %d" % i for i in range(4)]


def test_a_list_beside_records_with_labels_of_their_own_does_not_count(tmp_path):
    write(tmp_path / "train.rec", [b"x", b"y"], [3, 1])
    (tmp_path / "list.txt").write_text("anything")
    assert open_source(tmp_path).labels.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0\ta/0.jpg", "1\ta/1.jpg"], "has no key 2"),
        (["0 a/0.jpg"], "line 1: .*expected a key and a path"),
        (["0\ta/0.jpg", "x\ta/1.jpg"], "line 2: "),
        ([f"{key}\t{key}.jpg" for key in range(4)], "0.jpg: lies in no identity's folder"),
    ],
)
def test_a_list_of_other_records_is_refused(tmp_path, lines, message):
    dcface(tmp_path / "file.rec", lines)
    with pytest.raises(InputError, match=rf"list\.txt.*{message}"):
        _ = open_source(tmp_path).labels


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "a.rec", [b"x" * 50, b"y" * 50], [0, 1])
    whole = path.read_bytes()
    for length in range(0, len(whole) - 4, 4):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.rec.*(truncated|empty|copy)"):
            RecordFile(path)


def test_missing_and_foreign_indices_are_refused(tmp_path):
    path = write(tmp_path / "a.rec", [b"x" * 50], [0])
    path.with_suffix(".idx").write_text("not\tan index\n")
    with pytest.raises(InputError, match=r"a\.idx"):
        RecordFile(path)
    index(path, [(0, 0), (1, 4)])
    with pytest.raises(InputError, match="key 1: no record starts at byte 4"):
        RecordFile(path)
    path.with_suffix(".idx").unlink()
    with pytest.raises(InputError, match=r"a\.idx: no such file"):
        RecordFile(path)


def test_an_index_of_fewer_images_than_the_header_counts_is_refused(tmp_path):
    path = write(tmp_path / "a.rec", [b"x" * 50, b"y"], [0, 1])
    lines = path.with_suffix(".idx").read_text().splitlines(keepends=True)
    path.with_suffix(".idx").write_text("".join(lines[:-1]))
    with pytest.raises(InputError, match="counts 2 images, the index holds 1"):
        RecordFile(path)


def test_damage_inside_is_reported_with_its_key(tmp_path):
    path = write(tmp_path / "a.rec", [b"x" * 50, b"y" * 50, b"z" * 50], [0, 1, 2])
    data = bytearray(path.read_bytes())
    data[40] ^= 1  # image 1's magic, after the header record of 40 bytes
    path.write_bytes(data)
    records = RecordFile(path)
    assert records.encoded(1) == b"y" * 50
    for read in (lambda: records.encoded(0), records.read_labels):
        with pytest.raises(InputError, match="key 1: no record starts at byte 40"):
            read()


def test_records_without_a_label_can_be_left_out(tmp_path):
    path = write(tmp_path / "a.rec", [b"x" * 50, b"y" * 50, b"z" * 50], [0, 1, 2])
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    source = open_source(path, corrupt="skip")
    assert source.labels.tolist() == [1, 2]
    assert [source.encoded(i) for i in range(2)] == [b"y" * 50, b"z" * 50]
    assert source.skipped == [f"{path}, key 1: the entry is damaged"]
    with pytest.raises(InputError, match="mask needs all rows"):
        open_source(path, corrupt="skip", mask="any.npy")


def test_labels_are_read_in_pieces_as_in_one(tmp_path, monkeypatch):
    labels = [i * 7 % 31 for i in range(40)]
    path = write(tmp_path / "a.rec", [MAGIC_BYTES * (i % 3) + b"x" for i in range(40)], labels)
    for at_once in (1, 7, 40):
        monkeypatch.setattr("vec2face.faces.record._AT_ONCE", at_once)
        assert RecordFile(path).read_labels().tolist() == labels


@pytest.mark.parametrize("label", [0.5, -1.0, float("nan"), float("inf"), 2.0**25])
def test_labels_are_whole_numbers(tmp_path, label):
    path = tmp_path / "a.rec"
    path.write_bytes(frame(pack(b"image", label, 3)))
    index(path, [(3, 0)])
    with pytest.raises(InputError, match="key 3: the label"):
        RecordFile(path).read_labels()


def test_labels_that_a_record_cannot_hold_are_not_written(tmp_path):
    with RecordWriter(tmp_path / "a.rec") as writer, pytest.raises(ValueError, match="16777216"):
        writer.append(b"x", 2**24 + 1)


def test_open_source_finds_records(tmp_path):
    write(tmp_path / "train.rec", [b"x"], [4])
    assert open_source(tmp_path).labels.tolist() == [4]
    assert open_source(tmp_path / "train.rec").encoded(0) == b"x"
    with pytest.raises(InputError, match="no faces there"):
        open_source(tmp_path / "elsewhere")


def test_reading_in_many_threads_gives_the_same(tmp_path):
    images = [bytes([i]) * (i + 1) for i in range(200)]
    records = RecordFile(write(tmp_path / "a.rec", images, list(range(200))))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(records.encoded, range(200))) == images
    assert np.array_equal(records.read_labels(), np.arange(200))


def test_a_header_may_count_more_images_than_floats_number_singly(tmp_path, monkeypatch):
    """Glint360K: 17 091 657 images. Here they are all one record."""
    count = 17_091_657
    head = frame(pack(b"", 0, 0, (float(count + 1), float(count + 1))))
    (tmp_path / "a.rec").write_bytes(head + frame(pack(b"image", 3, 1)))
    keys = np.arange(count + 1)
    offsets = np.where(keys == 0, 0, len(head))
    monkeypatch.setattr("vec2face.faces.record.read_index", lambda _: (keys, offsets))
    records = RecordFile(tmp_path / "a.rec")
    assert len(records) == count
    assert records.encoded(count - 1) == b"image"


@pytest.mark.parametrize("count", [1, 1.5, -3])
def test_a_header_that_counts_no_images_is_refused(tmp_path, count):
    payloads = [pack(b"", 0, 0, (count, count)), pack(b"image", 3, 1)]
    with pytest.raises(InputError, match=r"a\.rec: the header record counts .* images; copy or"):
        RecordFile(records_of(tmp_path / "a.rec", payloads))


@pytest.mark.parametrize("count", [2**24 + 8, 3e9, 4e9])
def test_a_header_that_counts_what_is_not_there_is_refused_at_once(tmp_path, count):
    payloads = [pack(b"", 0, 0, (count, count)), pack(b"image", 3, 1)]
    with pytest.raises(InputError, match="the index holds 1"):
        RecordFile(records_of(tmp_path / "a.rec", payloads))


@pytest.mark.parametrize("count", [2**24 + 4, 2**24 + 5, 2**24 + 6, 2**24 + 7])
def test_the_last_image_is_found_where_the_header_is_rounded(count, tmp_path, monkeypatch):
    """Identities follow the images, and records of theirs hold no bytes."""
    head = frame(pack(b"", 0, 0, (float(count + 1), float(count + 3))))
    image, person = frame(pack(b"image", 3, 1)), frame(pack(b"", 3, 1, (1.0, 2.0)))
    (tmp_path / "a.rec").write_bytes(head + image + person)
    keys = np.arange(count + 3)
    offsets = np.select([keys == 0, keys <= count], [0, len(head)], len(head + image))
    monkeypatch.setattr("vec2face.faces.record.read_index", lambda _: (keys, offsets))
    assert len(RecordFile(tmp_path / "a.rec")) == count
