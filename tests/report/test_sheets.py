"""Which faces are shown."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vec2face.dataset.perturbation import Perturbation
from vec2face.faces.images import encode
from vec2face.faces.store import FaceStore
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.report.sheets import (
    evenly,
    people,
    reconstructions,
    rising_sigma,
    rows_of_people,
    shown,
)


class Flat(nn.Module):
    """Paints the whole image in the grey the feature's first number says."""

    def forward(self, features: Tensor, drop: Tensor, mask: Tensor) -> Tensor:
        return features[:, :1, None, None].expand(-1, 3, 8, 8)


def no_masks(first: int, count: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(count, 49, dtype=torch.bool), torch.zeros(count, 49, dtype=torch.bool)


@pytest.fixture
def store(tmp_path: Path) -> FaceStore:
    """Two images of each of four people; person i has the grey 60 * i."""
    with FaceStoreWriter(tmp_path / "s", image_size=8, seed=0, made_by="test") as writer:
        for label in (0, 0, 1, 1, 2, 2, 3, 3):
            writer.append(encode(np.full((8, 8, 3), 60 * label, np.uint8)), label)
    return FaceStore(tmp_path / "s")


def test_even_steps_reach_both_ends() -> None:
    assert evenly(9, 3).tolist() == [0, 4, 8]
    assert evenly(2, 5).tolist() == [0, 1]
    labels = np.repeat([5, 7, 9], [4, 1, 3])
    assert [c.tolist() for c in rows_of_people(labels, 2, 2)] == [[0, 3], [5, 7]]
    assert shown(labels, 2).tolist() == [5, 9]


def test_one_person_a_row(store: FaceStore) -> None:
    rows = people(store, 8, people=2, images=2)
    assert [len(row) for row in rows] == [2, 2]
    assert [
        np.abs(row[1].astype(int) - g).max() <= 2 for row, g in zip(rows, (0, 180), strict=True)
    ]


def test_reconstructions_lie_under_their_originals(store: FaceStore) -> None:
    features = np.repeat(np.arange(4) * 60, 2)[:, None] / 127.5 - 1
    rows = reconstructions(Flat(), store, features, no_masks, size=8, columns=2)
    assert [len(row) for row in rows] == [2, 2, 2, 2]
    for above, below in ((0, 1), (2, 3)):
        for original, copy in zip(rows[above], rows[below], strict=True):
            assert np.abs(original.astype(int) - copy).max() <= 2
    with pytest.raises(ValueError, match="7 features for 8 images"):
        reconstructions(Flat(), store, features[:7], no_masks, size=8)


def test_sigma_rises_from_the_identity_itself() -> None:
    identities = np.full((3, 512), 0.5, np.float32)

    class Distance(nn.Module):
        """Paints the cosine to the identity."""

        def forward(self, features: Tensor, drop: Tensor, mask: Tensor) -> Tensor:
            cosine = nn.functional.cosine_similarity(features, torch.from_numpy(identities[:1]))
            return cosine[:, None, None, None].expand(-1, 3, 8, 8)

    for max_angle in (None, 20):
        run = Perturbation(0, 1, [0.3], [1.0], 0.5, 1.0, max_angle=max_angle)
        rows = rising_sigma(
            Distance(), identities, no_masks, perturbation=run, sigma=(0, 0.2, 0.5, 0.9)
        )
        grey = np.array([[image[0, 0, 0] for image in row] for row in rows], int)
        assert grey.shape == (3, 4)
        assert (grey[:, 0] == 255).all()
        assert (np.diff(grey, axis=1) < 0).all()
