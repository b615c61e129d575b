"""Making insightface's record files (see ``record``)."""

import contextlib
from array import array
from pathlib import Path
from typing import BinaryIO

from vec2face.faces.record import LARGEST_LABEL, frame, pack
from vec2face.runtime.files import Unfinished


class RecordWriter(Unfinished):
    """Write ``path`` and its ``.idx`` in insightface's layout, with a header record.

    The header is completed when the block ends. Images get the keys 1, 2, ...
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.images = 0
        self._offsets = array("q", [0])
        self._file: BinaryIO = self.path.open("wb")
        self._write_header()

    def _write_header(self) -> None:
        # No identity records follow, so the range of their keys is empty.
        first = float(self.images + 1)
        self._file.seek(0)
        self._file.write(frame(pack(b"", 0, 0, (first, first))))

    def append(self, data: bytes, label: int) -> None:
        """Add one encoded image."""
        if not 0 <= label <= LARGEST_LABEL or self.images >= LARGEST_LABEL:
            raise ValueError(f"labels and keys are 0 .. {LARGEST_LABEL} in a record, not {label}")
        self.images += 1
        self._offsets.append(self._file.tell())
        self._file.write(frame(pack(data, label, self.images)))

    def close(self) -> None:
        """Complete the header and write the index."""
        self._write_header()
        self._file.close()
        with self.path.with_suffix(".idx").open("w") as index:
            index.writelines(f"{key}\t{offset}\n" for key, offset in enumerate(self._offsets))

    def discard(self) -> None:
        """Close an unfinished file, which stays unreadable: it has no index."""
        with contextlib.suppress(OSError):  # on a full disk not even this succeeds
            self._file.close()
