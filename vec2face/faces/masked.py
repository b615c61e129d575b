"""Training sets: faces, and maybe a mask that says which of their rows count.

The mask is an ``.npy`` of row positions, as the authors' loader takes it. A set has no order, so
its rows come in the order of the faces, whatever the mask's; and it has each row once.
"""

from pathlib import Path

import numpy as np

from vec2face.faces.reading import read_array
from vec2face.faces.source import Corrupt, Selection, Source, open_source, readable
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import processes


def open_set(
    path: Path | str,
    rows: Path | str | None,
    *,
    verify: bool = True,
    corrupt: Corrupt = "stop",
) -> Source:
    """Open a training set; images are not decoded.

    Args:
        path: faces, in any form.
        rows: an ``.npy`` of whole numbers (N,); None for all rows.
        verify: see ``open_source``.
        corrupt: see ``open_source``.

    Raises:
        InputError: as ``open_source``; if the mask holds anything else, a row that the faces do
            not have, or a row twice.
    """
    source = open_source(path, verify=verify, corrupt=corrupt, mask=rows)
    if rows is None:
        return source
    mask = np.array(read_array(Path(rows)))
    order = np.argsort(mask, kind="stable")
    twice = np.flatnonzero(np.diff(mask[order]) == 0)
    if len(twice):
        raise InputError(
            f"{rows}: names row {mask[order[twice[0]]]} twice ({len(twice)} repetitions in all); "
            "a training set has each row once"
        )
    return Selection(source, order)


def open_readable_set(path: Path | str, rows: Path | str | None, *, corrupt: Corrupt) -> Source:
    """Open a training set without its corrupt images, if they are skipped (``open_readable``)."""
    source = open_set(path, rows, verify=processes().main, corrupt=corrupt)
    return source if corrupt == "stop" else Selection(source, *readable(source, corrupt=corrupt))
