"""Figures of quality on a made-up world: an image is a grey, and its feature an angle."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from vec2face.evaluation.quality import Subject, extract, measure
from vec2face.faces.images import encode
from vec2face.faces.source import open_source
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.runtime.files import InputError


class Painter(nn.Module):
    """Paints the angle of the vector, and a mask's first row darkens it by a tenth."""

    def forward(self, features, drop, mask):
        angle = torch.atan2(features[:, 1], features[:, 0]) / np.pi * (1 - 0.1 * mask[:, 0].float())
        return (2 * angle - 1)[:, None, None, None].expand(-1, 3, 8, 8)


class Angle:
    """Sees the angle that a grey means, times a gain."""

    dimension, input_size = 2, 8

    def __init__(self, gain=1.0):
        self.gain = gain

    def features(self, images):
        angle = self.gain * np.pi * images.mean((1, 2, 3)) / 255
        return 3 * np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def masks(first, count, purpose):
    """Darken reconstructions only."""
    mask = torch.zeros(count, 49, dtype=torch.bool)
    mask[:, 0] = purpose == "reconstruction mask"
    return torch.zeros_like(mask), mask


def store(path, greys, labels):
    with FaceStoreWriter(path, image_size=8, seed=0, made_by="test") as writer:
        for grey, label in zip(greys, labels, strict=True):
            writer.append(encode(np.full((8, 8, 3), grey, np.uint8)), label)
    return open_source(path)


def vectors(greys):
    angle = np.pi * np.array(greys) / 255
    return np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


@pytest.fixture
def subject(tmp_path):
    """Two generated people, 100 greys apart, whose images scatter by 10; two held-out people."""
    held_out = [50, 60, 120, 130]
    return Subject(
        generator=Painter(),
        masks=masks,
        identities=vectors([60, 160]),
        generated=store(tmp_path / "generated", [50, 70, 150, 170], [0, 0, 1, 1]),
        vectors=vectors([50, 75, 150, 170]),
        held_out=store(tmp_path / "held_out", held_out, [0, 0, 1, 1]),
        held_out_features=vectors(held_out),
    )


def mean_cosine(*greys):
    """Return the mean cosine of features so many greys apart."""
    return float(np.cos(np.pi * np.array(greys) / 255).mean())


def test_figures_are_those_of_the_angles(subject, tmp_path):
    quality = measure(subject, extract(subject, Angle(), Angle(0.5), tmp_path / "work"))
    expected = {
        "measured_images": 4,
        "image_to_vector_mean": mean_cosine(10),
        "image_to_vector_noise": 0,
        "image_to_own_vector_mean": mean_cosine(0, 5, 0, 0),
        "pure_to_vector_mean": 1,
        "pure_nearest_other_mean": mean_cosine(100),
        "second_pure_nearest_other_mean": mean_cosine(50),
        "pure_separated_share": 1,
        "second_pure_separated_share": 0,
        "nearest_other_mean": mean_cosine(100),
        "second_intra_mean": mean_cosine(10),
        "held_out_nearest_other_mean": mean_cosine(70),
        "second_held_out_intra_mean": mean_cosine(5),
        "reconstruction_cosine": mean_cosine(5, 6, 12, 13),
        "second_reconstruction_cosine": mean_cosine(2.5, 3, 6, 6.5),
        "pixel_r2": 1 - (5**2 + 6**2 + 12**2 + 13**2) / (40**2 + 30**2 + 30**2 + 40**2),
    }
    assert {k: quality[k] for k in expected} == pytest.approx(expected, abs=5e-3)


def test_one_image_a_person_has_no_pairs_of_one_person(subject, tmp_path):
    alone = store(tmp_path / "alone", [50, 150], [0, 1])
    subject = replace(subject, generated=alone, vectors=vectors([50, 150]))
    quality = measure(subject, extract(subject, Angle(), Angle(), tmp_path / "work"))
    assert not {"intra_mean", "eer"} & quality.keys()
    assert {"inter_mean", "held_out_eer"} <= quality.keys()
    assert all(np.isfinite(value) for value in quality.values())


def test_a_started_measurement_goes_on(subject, tmp_path):
    found = extract(subject, Angle(), Angle(), tmp_path / "work")

    class Broken:
        dimension, input_size = 2, 8

        def features(self, images):
            raise AssertionError("asked again")

    again = extract(subject, Broken(), Broken(), tmp_path / "work")
    for kind, arrays in found.items():
        assert all(np.array_equal(again[kind][name], array) for name, array in arrays.items())


@pytest.mark.parametrize("part", ["vectors", "held_out_features"])
def test_rows_of_another_run_are_refused(subject, part):
    with pytest.raises(InputError, match=r"3 (vectors for 4 gen|features for 4 held)"):
        replace(subject, **{part: vectors([1, 2, 3])})
