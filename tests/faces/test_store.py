import contextlib
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vec2face.faces.images import encode
from vec2face.faces.record import RecordFile
from vec2face.faces.source import load_images, open_source
from vec2face.faces.store import FaceStore
from vec2face.faces.store_writer import FaceStoreWriter
from vec2face.runtime.files import InputError, sha256

IMAGES = [bytes([65 + i]) * (3 * i + 1) for i in range(7)]
LABELS = [0, 0, 2, 1, 1, 1, 2]


def build(path, images=IMAGES, labels=LABELS, **more):
    about = {"image_size": 56, "seed": 3, "made_by": "a test", **more}
    with FaceStoreWriter(path, **about) as writer:
        writer.extend(images, labels)
    return path


def test_rows_come_back_across_shards(tmp_path):
    store = FaceStore(build(tmp_path / "faces", images_per_shard=3))
    assert [store.encoded(i) for i in range(len(store))] == IMAGES
    assert store.labels.tolist() == LABELS
    assert store.labels.dtype == np.int64
    assert store.where(3).endswith("part-00001.rec, key 1")
    for outside in (-1, 7):
        with pytest.raises(IndexError):
            store.encoded(outside)


def test_every_shard_is_a_record_file_of_its_own(tmp_path):
    path = build(tmp_path / "faces", images_per_shard=3)
    shards = [RecordFile(p) for p in sorted(path.glob("*.rec"))]
    assert [s.read_labels().tolist() for s in shards] == [[0, 0, 2], [1, 1, 1], [2]]


def test_the_manifest_says_what_is_there(tmp_path):
    path = build(tmp_path / "faces", images_per_shard=3)
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["images"], manifest["identities"]) == (7, 3)
    about = (manifest["image_size"], manifest["seed"], manifest["made_by"])
    assert about == (56, 3, "a test")
    assert [s["images"] for s in manifest["shards"]] == [3, 3, 1]
    for shard in manifest["shards"]:
        file = path / shard["name"]
        assert (shard["bytes"], shard["sha256"]) == (file.stat().st_size, sha256(file))


def test_equal_content_gives_equal_bytes(tmp_path):
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    files = sorted(p.name for p in first.iterdir())
    assert files == sorted(p.name for p in second.iterdir())
    assert all((first / f).read_bytes() == (second / f).read_bytes() for f in files)


def test_a_store_appears_only_when_complete(tmp_path):
    build(tmp_path / "faces", IMAGES[:2], [0, 1])

    def broken():
        yield from IMAGES[:3]
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        build(tmp_path / "faces", broken(), LABELS)
    assert len(FaceStore(tmp_path / "faces")) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["faces"]


def test_incomplete_and_altered_stores_are_refused(tmp_path):
    path = build(tmp_path / "faces", images_per_shard=3)
    shard = path / "part-00001.rec"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-4])
    with pytest.raises(InputError, match=r"part-00001\.rec: has .* make the store again"):
        FaceStore(path)
    shard.write_bytes(whole.replace(b"D", b"d"))
    with pytest.raises(InputError, match=r"part-00001\.rec: the content was altered"):
        open_source(path)
    assert len(open_source(path, verify=False)) == 7
    shard.unlink()
    with pytest.raises(InputError, match=r"part-00001\.rec: is missing"):
        FaceStore(path)
    shard.write_bytes(whole)
    assert len(open_source(path)) == 7
    (path / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"manifest\.json: not a store's manifest"):
        FaceStore(path)
    (path / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"no manifest\.json"):
        FaceStore(path)


@pytest.fixture(scope="module")
def featured(tmp_path_factory):
    """A store of three shards with features, its manifest, and all that it gives."""
    path = tmp_path_factory.mktemp("stores") / "faces"
    about = {"image_size": 56, "seed": 3, "made_by": "a test", "skipped": ["one"]}
    with FaceStoreWriter(path, **about, images_per_shard=3) as writer:
        for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
            writer.append(image, label, np.array([i, label], np.float32))
    return path, (path / "manifest.json").read_text(), everything(path)


def everything(path):
    """All that a store gives, as one comparable value."""
    store = open_source(path)
    rows = [(store.encoded(i), bytes(store.feature(i).data)) for i in range(len(store))]
    return rows, store.labels.tolist()


def places(value, above=()):
    """Yield the way to every value within JSON."""
    yield above
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in inner:
            yield from places(part, (*above, key))


@settings(max_examples=300)
@given(st.data())
def test_an_altered_manifest_never_gives_other_data(featured, data):
    """Every entry is replaced by other JSON, removed, or swapped with another of the manifest."""
    path, manifest, whole = featured
    altered = json.loads(manifest)
    ways = [way for way in places(altered) if way]
    way = data.draw(st.sampled_from(ways))
    holder = altered
    for key in way[:-1]:
        holder = holder[key]
    change = data.draw(st.sampled_from(["remove", "swap", "replace", "add"]))
    if change == "remove":
        del holder[way[-1]]
    elif change == "swap" and isinstance(holder, list):
        holder.reverse()
    else:
        near = st.sampled_from([0, 1, 3, 4, -1, 2.0, 1e308, True, None, [], {}, "", "../x", "/x"])
        other = st.sampled_from(ways).map(lambda w: json.loads(manifest)[w[0]])
        value = data.draw(near | other | st.sampled_from(["part-00001.rec", "features.npy", "a\0"]))
        holder[way[-1]] = value
    (path / "manifest.json").write_text(json.dumps(altered))
    with contextlib.suppress(InputError):
        assert everything(path) == whole


@pytest.mark.parametrize("key", ["image_size", "seed", "made_by", "skipped", "sha256"])
def test_a_manifest_has_a_checksum_of_its_own(featured, key):
    path, manifest, whole = featured
    (path / "manifest.json").write_text(json.dumps({**json.loads(manifest), key: 5}))
    with pytest.raises(InputError, match=r"manifest\.json: .*its own checksum differs"):
        FaceStore(path)
    older = {k: v for k, v in json.loads(manifest).items() if k != "sha256"}
    (path / "manifest.json").write_text(json.dumps(older))
    assert everything(path) == whole


@pytest.mark.parametrize("name", ["labels.npy", "part-00000.idx"])
def test_labels_and_indices_are_guarded_too(tmp_path, name):
    path = build(tmp_path / "faces")
    data = bytearray((path / name).read_bytes())
    data[-3] ^= 1
    (path / name).write_bytes(data)
    with pytest.raises(InputError, match=name):
        open_source(path)


def test_features_lie_beside_the_images_and_are_guarded(tmp_path):
    features = np.random.default_rng(0).normal(size=(7, 300)).astype(np.float32)
    path = tmp_path / "faces"
    with FaceStoreWriter(path, image_size=56, seed=3, made_by="a test") as writer:
        for row in zip(IMAGES, LABELS, features, strict=True):
            writer.append(*row)
    store = open_source(path)
    assert all(np.array_equal(store.feature(i), features[i]) for i in range(7))
    assert np.array_equal(np.load(path / "features.npy"), features)
    data = bytearray((path / "features.npy").read_bytes())
    data[-3] ^= 1
    (path / "features.npy").write_bytes(data)
    with pytest.raises(InputError, match=r"features\.npy: the content was altered"):
        open_source(path)
    assert FaceStore(build(tmp_path / "plain")).feature(0) is None


@pytest.mark.parametrize("second", [None, np.zeros(3, np.float32)])
def test_features_are_of_all_rows_and_of_one_length(tmp_path, second):
    with (
        pytest.raises(ValueError, match="feature"),
        FaceStoreWriter(tmp_path / "a", image_size=56, seed=3, made_by="a test") as writer,
    ):
        writer.append(b"x", 0, np.zeros(2, np.float32))
        writer.append(b"y", 0, second)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_is_a_store(tmp_path):
    assert len(open_source(build(tmp_path / "faces", [], []))) == 0


def test_images_are_loaded_in_the_order_asked_and_broken_ones_named(tmp_path):
    grey = [np.full((8, 8, 3), 20 * i, np.uint8) for i in range(5)]
    images = [encode(g) for g in grey]
    images[3] = images[3][:-30]
    store = open_source(build(tmp_path / "faces", images, range(5)))
    loaded = load_images(store, 4, [4, 0, 2])
    assert loaded.shape == (3, 4, 4, 3)
    assert np.abs(loaded.mean((1, 2, 3)) - [80, 0, 40]).max() < 3
    with pytest.raises(InputError, match=r"part-00000\.rec, key 4: not a readable image"):
        load_images(store, 4)
