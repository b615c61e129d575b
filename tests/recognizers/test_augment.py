import numpy as np
import pytest

from tests.parameters import NONE, PAPER, changed
from vec2face.config.sections import Augmentation
from vec2face.recognizers.augment import augment

IMAGES = np.random.default_rng(0).integers(1, 256, (64, 32, 24, 3), np.uint8)
INDICES = np.arange(100, 164)
USUAL = PAPER.fr.augment


def only(**probability: float) -> Augmentation:
    return changed(NONE, **probability)


def test_none_changes_nothing_and_copies():
    got = augment(IMAGES, INDICES, 0, 0, NONE)
    assert np.array_equal(got, IMAGES)
    assert not np.shares_memory(got, IMAGES)


def test_an_image_changes_alike_in_any_batch():
    whole = augment(IMAGES, INDICES, 3, 7, USUAL)
    order = np.random.default_rng(1).permutation(64)
    parts = [augment(IMAGES[part], INDICES[part], 3, 7, USUAL) for part in np.array_split(order, 5)]
    assert np.array_equal(np.concatenate(parts), whole[order])


def test_epoch_and_seed_change_the_draws():
    first = augment(IMAGES, INDICES, 0, 0, USUAL)
    assert not np.array_equal(first, augment(IMAGES, INDICES, 1, 0, USUAL))
    assert not np.array_equal(first, augment(IMAGES, INDICES, 0, 1, USUAL))
    assert first.shape == IMAGES.shape
    assert first.dtype == np.uint8


@pytest.mark.parametrize("name", ["flip", "crop", "low_resolution", "photometric", "erasing"])
def test_a_change_is_made_as_often_as_asked(name):
    images = np.broadcast_to(IMAGES[:1], (2000, *IMAGES.shape[1:]))
    got = augment(images, np.arange(2000), 0, 0, only(**{name: 0.3}))
    changed = (got != images).any((1, 2, 3)).mean()
    assert 0.25 < changed < 0.35


def test_flip_mirrors_the_columns():
    assert np.array_equal(augment(IMAGES, INDICES, 0, 0, only(flip=1)), IMAGES[:, :, ::-1])


def test_crop_leaves_a_window_in_its_place_on_black():
    for image, got in zip(IMAGES, augment(IMAGES, INDICES, 0, 0, only(crop=1)), strict=True):
        seen = (got != 0).all(2)
        rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert seen[window].all()
        assert np.array_equal(got[window], image[window])
        assert seen.sum() == seen[window].size > 0.15 * seen.size
        assert got[~seen].sum() == 0


def test_erasing_blanks_one_grey_rectangle():
    for image, got in zip(IMAGES, augment(IMAGES, INDICES, 0, 0, only(erasing=1)), strict=True):
        hidden = (got != image).any(2)
        assert 0 < hidden.mean() < 0.25
        assert len(np.unique(got[hidden])) == 1


def test_photometric_keeps_a_uniform_grey_uniform_and_differs_between_images():
    grey = np.full((64, 8, 8, 3), 100, np.uint8)
    got = augment(grey, INDICES, 0, 0, only(photometric=1))
    assert (got == got[:, :1, :1, :1]).all()
    assert got[:, 0, 0, 0].min() < 75
    assert got[:, 0, 0, 0].max() > 125


def test_low_resolution_removes_detail_but_not_the_mean():
    got = augment(IMAGES, INDICES, 0, 0, only(low_resolution=1))
    assert got.astype(float).std() < 0.9 * IMAGES.astype(float).std()
    assert abs(got.astype(float).mean() - IMAGES.mean()) < 5
