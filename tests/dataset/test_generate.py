import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.parameters import SMOKE, changed
from vec2face.dataset import generate as dataset
from vec2face.dataset.perturbation import Perturbation
from vec2face.faces.images import decode, encode, to_uint8
from vec2face.faces.source import open_source
from vec2face.generator.masks import masks as draw_masks
from vec2face.generator.network import Vec2Face
from vec2face.runtime.files import InputError, fingerprint


class Stub(nn.Module):
    """Paints blocks from feature and masks, with per-sample arithmetic that never rounds apart."""

    image_size = 16

    def __init__(self, fail_at=None):
        super().__init__()
        self.batches, self.fail_at = [], fail_at

    def forward(self, features, drop, mask):
        if len(self.batches) == self.fail_at:
            raise KeyboardInterrupt
        self.batches.append(len(features))
        assert features.dtype == torch.float32
        assert drop.shape == mask.shape == (len(features), 49)
        assert not torch.is_grad_enabled()
        levels = torch.tanh(features[:, :16])
        rows = (mask[:, :16].float() + drop[:, :16]) / 8
        image = (levels[:, :, None] * levels[:, None, :] + rows[:, :, None]).clamp(-1, 1)
        return torch.stack([image, -image, image.transpose(1, 2)], 1)


def masks(first, count):
    return draw_masks(4, first, count, 0.1, 1.0, 0.15)


IDENTITIES = np.random.default_rng(0).normal(size=(7, 24)).astype(np.float32)
MIXTURE = Perturbation(4, 5, [0.3, 0.7], [0.6, 0.4], 0.5, 1.0)


def run(folder, generator=None, identities=IDENTITIES, **options):
    return dataset.generate(
        generator or Stub(),
        identities,
        MIXTURE,
        masks,
        store=folder / "generated",
        vectors=folder / "vectors.npy",
        work=folder / "work",
        made_by="test",
        **options,
    )


def content(folder):
    return fingerprint(folder / "generated", folder / "vectors.npy")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(dataset, "BLOCK", 8)


def test_store_vectors_and_labels_are_those_of_the_samples(tmp_path):
    summary = run(tmp_path, quality=90)
    source = open_source(tmp_path / "generated")
    assert source.labels.tolist() == np.repeat(np.arange(7), 5).tolist()
    vectors = np.load(tmp_path / "vectors.npy")
    expected, draws = MIXTURE.vectors(IDENTITIES, range(35))
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, expected)
    with torch.inference_mode():
        images = to_uint8(Stub()(torch.from_numpy(expected), *masks(0, 35)))
    for s in range(35):
        assert source.encoded(s) == encode(images[s], 90)
    assert decode(source.encoded(0), "x").shape == (16, 16, 3)
    assert summary["images"] == 35
    assert summary["draws"] == draws.sum()
    assert source.manifest["seed"] == 4
    assert source.manifest["image_size"] == 16


def test_the_generator_itself_ignores_the_batch_up_to_rounding():
    torch.manual_seed(0)
    generator = Vec2Face(
        changed(SMOKE.generator, decoder_blocks=2, channels=(8, 8, 16, 16), dropout=0.1),
        dimension=24,
    ).eval()
    vectors, _ = MIXTURE.vectors(IDENTITIES, range(10))
    whole = dataset.generate_images(generator, vectors, masks, batch=10).astype(int)
    assert whole.std() > 1
    for batch in (1, 4):
        images = dataset.generate_images(generator, vectors, masks, batch=batch)
        assert np.abs(images - whole).max() <= 1
    part = dataset.generate_images(generator, vectors[6:], masks, first=6)
    assert np.abs(part - whole[6:]).max() <= 1


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_images_do_not_depend_on_batch_size(tmp_path, batch):
    run(tmp_path / "one", batch=8)
    run(tmp_path / "two", batch=batch)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_block_size_changes_nothing(tmp_path, monkeypatch):
    run(tmp_path / "one", images_per_shard=20)
    monkeypatch.setattr(dataset, "BLOCK", 11)
    run(tmp_path / "two", images_per_shard=20)
    assert content(tmp_path / "one") == content(tmp_path / "two")


@given(st.integers(1, 10**8))
def test_shards_are_whole_blocks_and_enough_to_share(total):
    size = dataset.shard_size(total)
    assert size % dataset.BLOCK == 0
    assert 0 < size <= dataset.IMAGES_PER_SHARD
    if size > dataset.BLOCK:
        assert -(-total // size) > dataset.SHARDS / 2


def test_more_identities_begin_with_the_same_images(tmp_path):
    run(tmp_path / "few", identities=IDENTITIES[:3])
    run(tmp_path / "many")
    few, many = (open_source(tmp_path / n / "generated") for n in ("few", "many"))
    assert [few.encoded(i) for i in range(15)] == [many.encoded(i) for i in range(15)]


def test_interrupted_run_goes_on_where_it_stopped(tmp_path):
    run(tmp_path / "whole", batch=8)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Stub(fail_at=3), batch=8)
    assert not (tmp_path / "cut/generated").exists()
    generator = Stub()
    run(tmp_path / "cut", generator, batch=8)
    assert generator.batches == [8, 3]
    assert content(tmp_path / "whole") == content(tmp_path / "cut")


def test_damaged_shards_are_made_again(tmp_path):
    run(tmp_path, batch=8)
    shard = tmp_path / "work/store-00001/part-00000.rec"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 255
    shard.unlink()  # not through the link that the store is
    shard.write_bytes(data)
    (tmp_path / "work/store-00003-draws.json").write_bytes(b"{")
    generator = Stub()
    run(tmp_path, generator, batch=8)
    assert generator.batches == [8, 8]
    run(tmp_path / "whole", batch=8)
    assert content(tmp_path) == content(tmp_path / "whole")


def test_finished_shards_are_taken(tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(dataset, "join_stores", stop)
        run(tmp_path, images_per_shard=10)
    assert not (tmp_path / "generated").exists()
    generator = Stub()
    run(tmp_path, generator, images_per_shard=10)
    assert generator.batches == []
    run(tmp_path / "whole", images_per_shard=35)
    stores = [open_source(tmp_path / name) for name in ("generated", "whole/generated")]
    assert [len(store.manifest["shards"]) for store in stores] == [4, 1]
    assert [[s.encoded(i) for i in range(35)] for s in stores[:1]] == [
        [s.encoded(i) for i in range(35)] for s in stores[1:]
    ]


def test_impossible_mixture_stops_before_the_generator_runs(tmp_path):
    generator = Stub()
    with pytest.raises(InputError, match=r"sigma = 0\.3"):
        run(tmp_path, generator, identities=IDENTITIES / 100)
    assert generator.batches == []
    assert not (tmp_path / "work").exists()
