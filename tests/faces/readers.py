"""Small sets of faces, and readers of every form that share no code with the library."""

import io
import json
import struct
import tarfile
from pathlib import Path

import lmdb
import msgpack
import numpy as np

from vec2face.faces.images import encode

IMAGES = [encode(np.full((8, 8, 3), 4 * i, np.uint8)) for i in range(60)]
"""Sixty different JPEGs of 8 x 8 pixels."""


class Rows:
    """A source in memory: rows of (label, image number), with features if asked."""

    name = "rows"

    def __init__(self, rows, features=False):
        self.rows, self.features = rows, features
        self.labels = np.array([label for label, _ in rows], np.int64)

    def __len__(self):
        return len(self.rows)

    def encoded(self, i):
        return IMAGES[self.rows[i][1]]

    def feature(self, i):
        return np.float32([i, self.rows[i][0], 0.5]) if self.features else None

    def where(self, i):
        return f"row {i}"


def read_rec(path):
    """Read .rec and .idx by MXNet's description, up to the header's key: [(label, image)]."""
    data = Path(path).read_bytes()
    offsets = dict(map(int, line.split()) for line in Path(path).with_suffix(".idx").open())

    def payload(at):
        parts = []
        while True:
            magic, word = struct.unpack("<2I", data[at : at + 8])
            assert magic == 0xCED7230A
            size, part = word % 2**29, word // 2**29
            parts.append(data[at + 8 : at + 8 + size])
            at += 8 + size + (4 - size % 4) % 4
            if part in (0, 3):
                return struct.pack("<I", 0xCED7230A).join(parts)

    flag, _, _, _, end = struct.unpack("<IfQQf", payload(offsets[0])[:28])
    assert flag == 2
    found = []
    for key in range(1, int(end)):
        record = payload(offsets[key])
        flag, label, number, second = struct.unpack("<IfQQ", record[:24])
        assert (flag, number, second) == (0, key, 0)
        found.append((int(label), record[24:]))
    return found


def read_lmdb(path):
    """Read as the authors' training code does: [(label, image, feature or None)]."""
    environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False)
    with environment.begin() as transaction:
        keys = msgpack.loads(transaction.get(b"__keys__"))
        rows = [msgpack.loads(transaction.get(key)) for key in keys]
        count = msgpack.loads(transaction.get(b"__len__"))
        classes = msgpack.loads(transaction.get(b"__classnum__"))
        assert transaction.stat()["entries"] == count + 3
    environment.close()
    assert keys == [str(i).encode() for i in range(count)]
    assert classes == max(row[-1] for row in rows) + 1
    return [
        (row[-1], row[0], np.load(io.BytesIO(row[1])) if len(row) == 3 else None) for row in rows
    ]


def read_folder(path):
    """Walk: [(label by sorted folder, image)]."""
    return [
        (label, image.read_bytes())
        for label, person in enumerate(sorted(path.iterdir()))
        for image in sorted(person.iterdir())
    ]


def read_store(path):
    """Read shards, labels and features: [(label, image, feature or None)]."""
    manifest = json.loads((path / "manifest.json").read_text())
    rows = [row for shard in manifest["shards"] for row in read_rec(path / shard["name"])]
    assert [label for label, _ in rows] == np.load(path / "labels.npy").tolist()
    features = path / "features.npy"
    values = np.load(features) if features.exists() else [None] * len(rows)
    return [(*row, value) for row, value in zip(rows, values, strict=True)]


def read_webdataset(path):
    """Read every shard by tarfile: [(label, image)]."""
    found = []
    for shard in sorted((path / "data").iterdir()):
        with tarfile.open(shard) as tar:
            files = [(member.name, tar.extractfile(member).read()) for member in tar]
        for (image, data), (label, digits) in zip(files[::2], files[1::2], strict=True):
            assert image.rpartition(".")[0] == label.removesuffix(".cls")
            found.append((int(digits), data))
    return found


def lmdb_of(path, rows, keys=None):
    """Write an LMDB of already encoded values, by the package alone."""
    keys = [str(i).encode() for i in range(len(rows))] if keys is None else keys
    environment = lmdb.open(str(path), subdir=False, map_size=2**24, lock=False)
    with environment.begin(write=True) as transaction:
        for key, row in zip(keys, rows, strict=True):
            transaction.put(key, row)
        transaction.put(b"__keys__", msgpack.dumps(keys))
        transaction.put(b"__len__", msgpack.dumps(len(keys)))
        transaction.put(b"__classnum__", msgpack.dumps(3))
    environment.close()
    return path
