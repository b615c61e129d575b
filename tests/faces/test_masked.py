import pickle

import numpy as np
import pytest

from tests.faces.readers import Rows
from vec2face.faces.convert import convert
from vec2face.faces.masked import open_readable_set, open_set
from vec2face.runtime.files import InputError

LABELS = [3, 3, 70, 70, 500, 500, 3, 70]


@pytest.fixture
def faces(tmp_path):
    convert(Rows([(label, i) for i, label in enumerate(LABELS)]), tmp_path / "faces.rec")
    return tmp_path / "faces.rec"


@pytest.mark.parametrize("kind", ["<i8", ">i4", "u1", "u8"])
@pytest.mark.parametrize("rows", [[1, 4, 6], [6, 1, 4]])
def test_rows_come_in_the_order_of_the_faces(faces, tmp_path, kind, rows):
    np.save(tmp_path / "rows.npy", np.array(rows, kind))
    whole = open_set(faces, None)
    found = open_set(faces, tmp_path / "rows.npy")
    assert len(found) == 3
    assert found.labels.tolist() == [whole.labels[row] for row in (1, 4, 6)]
    assert [found.encoded(i) for i in range(3)] == [whole.encoded(row) for row in (1, 4, 6)]
    assert found.where(2) == whole.where(6)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (np.array([0, 5, 2, 5, 5]), r"names row 5 twice \(2 repetitions"),
        (np.array([0, 8]), "row 8 of 8"),
        (np.array([-1, 2]), "belongs to another set"),
        (np.array([2**63], np.uint64), "belongs to another set"),
        (np.array([0.0, 1.0]), "whole numbers"),
        (np.ones(8, bool), "whole numbers"),
        (np.array([[0, 1]]), "whole numbers"),
        (np.array([], int), "whole numbers"),
        (np.array([0, None]), "no numbers"),
    ],
)
def test_a_mask_that_cannot_be_is_named(faces, tmp_path, rows, said):
    np.save(tmp_path / "rows.npy", rows)
    with pytest.raises(InputError, match=rf"rows\.npy: .*{said}"):
        open_set(faces, tmp_path / "rows.npy")


def test_a_pickle_in_its_place_is_not_run(faces, tmp_path):
    (tmp_path / "rows.npy").write_bytes(pickle.dumps(np.arange(3)))
    with pytest.raises(InputError, match="not an .npy"):
        open_set(faces, tmp_path / "rows.npy")


def test_images_that_cannot_be_read_are_left_out_of_what_the_mask_names(tmp_path):
    folder = tmp_path / "faces"
    convert(Rows([(label, i) for i, label in enumerate(LABELS)]), folder)
    files = sorted(folder.rglob("*.*"))
    files[4].write_bytes(b"no picture")
    np.save(tmp_path / "rows.npy", [1, 4, 6])
    found = open_readable_set(folder, tmp_path / "rows.npy", corrupt="skip")
    assert len(found) == 2
    assert len(open_readable_set(folder, None, corrupt="skip")) == 7
