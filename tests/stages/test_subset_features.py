"""The first two stages, in a folder of their own, from a .rec and an ONNX file."""

import numpy as np
import pytest
import torch
from torch import nn

from stages import features, subset
from vec2face.faces.images import encode
from vec2face.faces.record_writer import RecordWriter
from vec2face.faces.source import load_images, open_source
from vec2face.recognizers.onnx_export import export
from vec2face.runtime.files import InputError

PEOPLE, SIZE = 9, 12


@pytest.fixture
def choose(tmp_path, set_params):
    """A function that sets keys of ``subset``; the faces and the network are there."""
    rng = np.random.default_rng(0)
    with RecordWriter(tmp_path / "faces.rec") as writer:
        for label in np.repeat(np.arange(PEOPLE), np.arange(1, PEOPLE + 1)):
            # The corner tells the person, so that stores can be compared by their images.
            image = rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)
            image[:8, :8] = 20 * label
            writer.append(encode(image, 100), 100 + int(label))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.PReLU(), nn.Flatten(), nn.LazyLinear(6))
    module(torch.zeros(1, 3, SIZE, SIZE))
    export(module, tmp_path / "net.onnx", SIZE)

    def write(seed=1, **values):
        few = {"identities": 4, "images_per_identity": 6, "minimum_images": 3, "held_out": 2}
        subset = {f"subset__{key}": value for key, value in (few | values).items()}
        set_params(seed=seed, paths__faces="faces.rec", paths__recognizer="net.onnx", **subset)

    write()
    return write


def people(store):
    return set(np.round(load_images(store, SIZE)[:, :6, :6].mean((1, 2, 3)) / 20).astype(int))


def test_nobody_is_in_both_stores_and_features_follow_their_rows(choose):
    subset.main()
    features.main()
    train, apart = open_source("data/subset"), open_source("data/held_out")
    assert (train.manifest["identities"], apart.manifest["identities"]) == (4, 2)
    assert (len(people(train)), len(people(apart))) == (4, 2)
    assert not people(train) & people(apart)
    assert set(np.bincount(train.labels)) <= {3, 4, 5, 6}
    network = features.open_recognizer("net.onnx")
    for store, name in ((train, "train"), (apart, "held_out")):
        rows = np.load(f"data/features/{name}.npy")
        assert rows.dtype == np.float32
        expected = [network.features(load_images(store, SIZE, [i]))[0] for i in range(len(store))]
        assert np.allclose(rows, expected, rtol=1e-4, atol=1e-5)


def test_the_choice_repeats_and_follows_the_seed(choose):
    def hashes():
        subset.main()
        stores = [open_source(f"data/{name}") for name in ("subset", "held_out")]
        return [s.manifest["shards"][0]["sha256"] for s in stores]

    first = hashes()
    assert hashes() == first
    choose(seed=2)
    assert hashes() != first


def test_more_people_than_there_are_stop_the_stage_before_it_writes(choose, tmp_path):
    choose(held_out=4)
    with pytest.raises(InputError, match=r"faces\.rec: 4 identities asked, but only 3 .*4 are"):
        subset.main()
    assert not (tmp_path / "data").exists()


def test_the_released_rule_takes_all_images_and_keeps_the_others_apart(choose):
    choose(rule="released")
    subset.main()
    train, apart = open_source("data/subset"), open_source("data/held_out")
    assert not people(train) & people(apart)
    # Person p of this source has p + 1 images.
    assert sorted(np.bincount(train.labels)) == sorted(p + 1 for p in people(train))
    assert len(people(apart)) == 2


def test_a_corrupt_image_stops_the_stage_or_is_counted(choose, tmp_path):
    data = (tmp_path / "faces.rec").read_bytes()
    place = data.rindex(b"\xff\xda")
    (tmp_path / "faces.rec").write_bytes(data[:place] + b"\0\0" + data[place + 2 :])
    choose(identities=5)  # with those held out, all that have three images
    with pytest.raises(
        InputError, match=r"faces\.rec, key 45: not a readable.*set corrupt to skip"
    ):
        subset.main()
    assert not (tmp_path / "data/subset").exists()
    choose(identities=5, corrupt="skip", images_per_identity=9)
    subset.main()
    stores = [open_source(f"data/{name}") for name in ("subset", "held_out")]
    assert sum(s.manifest["skipped"]["count"] for s in stores) == 1
    entries = [e for s in stores for e in s.manifest["skipped"]["entries"]]
    assert "faces.rec, key 45" in entries[0]
    assert sum(len(s) for s in stores) == sum(range(3, 10)) - 1


def test_an_altered_store_stops_the_features(choose, tmp_path):
    subset.main()
    file = tmp_path / "data/held_out/part-00000.rec"
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)
    with pytest.raises(InputError, match="altered"):
        features.main()
    assert not (tmp_path / "data/features").exists()
