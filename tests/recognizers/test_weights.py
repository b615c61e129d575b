"""Checkpoints of others: nothing in them is run, what is wrong is named."""

import argparse
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from vec2face.recognizers.weights import load_into, read_checkpoint, read_state_dict
from vec2face.runtime.files import InputError


class Evil:
    """Would write a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_an_old_checkpoints_namespace_is_replaced(tmp_path):
    content = {"state_dict": {"a": torch.ones(2)}, "args": argparse.Namespace(lr=0.1, gpus=[1, 2])}
    torch.save(content, tmp_path / "old.pth")
    assert torch.equal(read_state_dict(tmp_path / "old.pth")["a"], torch.ones(2))
    assert not isinstance(read_checkpoint(tmp_path / "old.pth")["args"], argparse.Namespace)


def test_a_score_of_numpy_is_passed_over(tmp_path):
    content = {"state_dict": {"a": torch.ones(2)}, "best": np.float64(99.8), "n": np.int64(3)}
    torch.save(content, tmp_path / "old.pth")
    assert torch.equal(read_state_dict(tmp_path / "old.pth")["a"], torch.ones(2))


@pytest.mark.parametrize("where", [None, "state_dict", "state_dict_backbone", "model"])
def test_weights_are_found_and_half_ones_widened(tmp_path, where):
    weights = {"a": torch.ones(2).half(), "n": torch.tensor(3)}
    torch.save({where: weights, "epoch": 1} if where else weights, tmp_path / "w.pt")
    found = read_state_dict(tmp_path / "w.pt")
    assert found["a"].dtype == torch.float32
    assert found["n"].dtype == torch.int64


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save({"state_dict": {}, "hook": Evil(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth: it holds a posix\.system.*save the weights"):
        read_checkpoint(tmp_path / "evil.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Evil(tmp_path / "ran")))
    with pytest.raises(InputError, match=r"bare\.pth"):
        read_checkpoint(tmp_path / "bare.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04rubbish"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.pth: not a PyTorch checkpoint"):
        read_checkpoint(tmp_path / "x.pth")


def crowded(what):
    """A few bytes that promise gigabytes."""
    one = torch.ones(1).half()
    if what == "stride 0":
        return {"conv1.weight": one.expand(10**6, 10**6)}
    if what == "one tensor under many names":
        large = torch.ones(2**18).half()
        return {f"layer{i}": large for i in range(100)}
    if what == "empty":
        return {"input_layer.0.weight": torch.ones(10**9, 0), "body.0.res_layer.1.weight": one}
    if what == "sparse":
        return {"conv1.weight": torch.sparse_coo_tensor([[0], [0]], [1.0], (10**9, 10**6))}
    return {"conv1.weight": torch.empty(10**6, 10**6, device="meta")}


@pytest.mark.parametrize(
    "what", ["stride 0", "one tensor under many names", "empty", "sparse", "without memory"]
)
def test_tensors_take_no_more_memory_than_the_file_holds(tmp_path, what):
    torch.save(crowded(what), tmp_path / "w.pth")
    said = "no numbers in input_layer" if what == "empty" else "over 16 times its size, or not d"
    with pytest.raises(InputError, match=rf"w\.pth: .*{said}"):
        read_state_dict(tmp_path / "w.pth")


def test_weights_may_be_shared(tmp_path):
    """Tied weights, averages beside them, views of one storage, lists within lists."""
    weights = torch.arange(10**5, dtype=torch.float32)
    network = {"a": weights, "b": weights, "c": weights[:300].view(3, 100)}
    again = [network, network]
    again.append(again)
    torch.save({"state_dict": network, "ema": again}, tmp_path / "w.pth")
    found = read_state_dict(tmp_path / "w.pth")
    assert all(torch.equal(found[name], value) for name, value in network.items())


def test_a_truncated_checkpoint_is_refused(tmp_path):
    torch.save({"a": torch.ones(1000)}, tmp_path / "x.pth")
    (tmp_path / "x.pth").write_bytes((tmp_path / "x.pth").read_bytes()[:-500])
    with pytest.raises(InputError, match=r"x\.pth: not a PyTorch checkpoint"):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("behind", [b"", b"PK\5\6" + bytes(18)])
def test_the_old_format_is_read_and_its_lengths_are_bounded(tmp_path, behind):
    """A string whose damaged length asks for 4 GiB asks for no memory.

    Nor with the end of a zip behind, by which Python tells a zip, and PyTorch does not.
    """
    path = tmp_path / "x.pth"
    name = "weight of the layer"
    weights = torch.arange(1000.0)
    torch.save({name: weights}, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_checkpoint(path)[name], weights)
    content = path.read_bytes()
    text = b"X" + len(name).to_bytes(4, "little") + name.encode()
    assert text in content
    path.write_bytes(content.replace(text, b"X\xf0\xff\xff\x7f" + name.encode()) + behind)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"x\.pth: not a PyTorch checkpoint"):
        read_checkpoint(path)
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert largest < 10**8


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.pth: no such checkpoint"):
        read_checkpoint(tmp_path / "none.pth")


def test_a_checkpoint_without_weights_says_what_it_holds(tmp_path):
    torch.save({"optimizer": {}, "epoch": 3}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=r"entries optimizer, epoch, not a state dict"):
        read_state_dict(tmp_path / "x.pth")


def test_loading_fills_in_counters_only():
    net = nn.BatchNorm1d(2)
    state = {k: v + 1 for k, v in net.state_dict().items() if k != "num_batches_tracked"}
    load_into(net, state, "x")
    assert torch.equal(net.running_var, torch.full((2,), 2.0))
    with pytest.raises(InputError, match="missing: bias"):
        load_into(net, {k: v for k, v in state.items() if k != "bias"}, "x")


def test_torchscript_is_called_so(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"x\.pt: it is TorchScript"):
        read_checkpoint(tmp_path / "x.pt")


def test_a_zip_that_unpacks_to_far_more_is_not_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", bytes(10**7))
    with pytest.raises(InputError, match="over 16 times"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_generator_of_the_authors_is_called_one(tmp_path):
    torch.save({"model_vec2face": {"a": torch.ones(2)}}, tmp_path / "g.pth")
    with pytest.raises(InputError, match="it is a generator"):
        read_state_dict(tmp_path / "g.pth")
