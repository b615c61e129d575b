"""Made the files beside it, with mxnet 1.9.1 and numpy 1.23.5 (`pip install --no-deps mxnet`).

Run in an environment of its own; mxnet does not live with the versions that this project pins.
"""

import struct

import numpy as np
from mxnet import recordio

MAGIC = struct.pack("<I", 0xCED7230A)
IMAGES = [b"one", b"", b"four" + MAGIC + b"tail", MAGIC + MAGIC, b"odd" + MAGIC, bytes(range(9))]
LABELS = [0, 0, 7, 7, 7, 2**24]


def write(name: str, labels: list, identities: int) -> None:
    """Write header, images, and a record for each identity, as insightface does."""
    end = len(IMAGES) + 1
    file = recordio.MXIndexedRecordIO(f"{name}.idx", f"{name}.rec", "w")

    def add(key: int, label: object, data: bytes) -> None:
        flag = 0 if isinstance(label, float) else len(label)
        file.write_idx(key, recordio.pack(recordio.IRHeader(flag, label, key, 0), data))

    add(0, np.float32([end, end + identities]), b"")
    for key, (label, image) in enumerate(zip(labels, IMAGES, strict=True), start=1):
        add(key, label, image)
    for key in range(end, end + identities):
        add(key, np.float32([1, 3]), b"")
    file.close()


write("plain", [float(label) for label in LABELS], 0)
write(
    "full", [np.float32([label, 5]) if i % 2 else float(label) for i, label in enumerate(LABELS)], 3
)
