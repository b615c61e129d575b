"""ONNX recognizers; the oracle is the PyTorch module that a file was made from."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from vec2face.evaluation.verification import evaluate
from vec2face.faces.benchmarks import load_benchmark
from vec2face.faces.images import to_tensor
from vec2face.faces.source import load_images, open_source
from vec2face.recognizers.onnx import OnnxRecognizer, to_torch
from vec2face.recognizers.onnx_export import export
from vec2face.recognizers.onnx_graph import fixed_batch, free_batch, read_model
from vec2face.runtime.files import InputError

SIZE = 16
DATA = os.environ.get("VEC2FACE_DATA")
real = pytest.mark.skipif(not DATA, reason="VEC2FACE_DATA names no folder of real inputs")
slow = pytest.mark.skipif("VEC2FACE_SLOW" not in os.environ, reason="minutes: VEC2FACE_SLOW=1")


class Residual(nn.Module):
    """The parts of an IResNet: two stages of a block each, PReLU, batch norms, a linear head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.PReLU(8))
        self.shorts = nn.ModuleList(nn.Conv2d(c, 2 * c, 1, 2) for c in (8, 16))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c, 2 * c, 3, 1, 1), nn.PReLU(2 * c), nn.Conv2d(2 * c, 2 * c, 3, 2, 1)
            )
            for c in (8, 16)
        )
        self.last = nn.Sequential(nn.BatchNorm2d(32), nn.Flatten())
        self.head = nn.Sequential(nn.Linear(32 * 16, 12), nn.BatchNorm1d(12))

    def stages(self, x):
        ends = [self.stem(x)]
        for block, short in zip(self.blocks, self.shorts, strict=True):
            ends.append(block(ends[-1]) + short(ends[-1]))
        return ends

    def forward(self, x):
        return self.head(self.last(self.stages(x)[-1]))


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    module = Residual()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
    return module.eval()


@pytest.fixture(scope="module")
def path(module, tmp_path_factory):
    file = tmp_path_factory.mktemp("onnx") / "residual.onnx"
    export(module, file, SIZE)
    return file


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (7, SIZE, SIZE, 3), np.uint8)


def fixed(path, file, batch, target=None, as_node=False):
    """Fix the batch of a file, and make its Flatten a Reshape to a constant shape."""
    model = onnx.load(path)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    (flatten,) = [n for n in model.graph.node if n.op_type == "Flatten"]
    shape = numpy_helper.from_array(np.array(target or [batch, -1], np.int64), "to")
    at = list(model.graph.node).index(flatten)
    reshape = helper.make_node("Reshape", [flatten.input[0], "to"], list(flatten.output))
    constant = helper.make_node("Constant", [], ["to"], value=shape)
    nodes = [*model.graph.node[:at], *([constant] if as_node else []), reshape]
    nodes += model.graph.node[at + 1 :]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    if not as_node:
        model.graph.initializer.append(shape)
    onnx.checker.check_model(model)
    onnx.save(model, file)
    return file


def test_features_are_those_of_the_module(module, path, images):
    recognizer = OnnxRecognizer(path)
    assert (recognizer.input_size, recognizer.dimension) == (SIZE, 12)
    features = recognizer.features(images)
    assert features.dtype == np.float32
    with torch.no_grad():
        expected = module(to_tensor(images)).numpy()
    assert np.allclose(features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("as_node", [False, True])
@pytest.mark.parametrize("target", [None, "whole", [-1, 512]])
def test_files_of_a_fixed_batch_take_any(path, images, tmp_path, batch, as_node, target):
    target = [batch, 512] if target == "whole" else target
    file = fixed(path, tmp_path / "fixed.onnx", batch, target, as_node)
    assert fixed_batch(read_model(file)) == batch
    assert fixed_batch(free_batch(read_model(file))) is None
    expected = OnnxRecognizer(path).features(images)
    recognizer = OnnxRecognizer(file)
    for size in (1, 2, 3, 64):
        assert np.allclose(recognizer.features(images, size), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        network = to_torch(file)
        assert np.allclose(network(to_tensor(images)).numpy(), expected, rtol=1e-4, atol=1e-5)
        assert network(to_tensor(images[:1])).shape == (1, 12)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_file_that_cannot_be_freed_runs_in_its_own_batches(images, tmp_path, batch):
    # The batch size is a constant of its Slice, which is not among what is rewritten.
    stored = np.random.default_rng(0).normal(size=(batch, 3 * SIZE * SIZE)).astype(np.float32)
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Concat", ["flat", "stored"], ["both"], axis=0),
        helper.make_node("Slice", ["both", "zero", "batch"], ["first"]),
        helper.make_node("ReduceMean", ["first"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Reshape", ["mean", "out"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 1])],
        [
            numpy_helper.from_array(np.array(value), name)
            for name, value in {
                "shape": [batch, -1],
                "zero": [0],
                "batch": [batch],
                "out": [batch, 1],
            }.items()
        ]
        + [numpy_helper.from_array(stored, "stored")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "a.onnx")
    features = OnnxRecognizer(tmp_path / "a.onnx").features(images)
    assert features.shape == (7, 1)
    assert np.allclose(features[:, 0], images.mean((1, 2, 3)) / 127.5 - 1, atol=1e-5)
    with pytest.raises(InputError, match=r"a\.onnx"):
        to_torch(tmp_path / "a.onnx")


def test_a_free_batch_that_a_reshape_fixes_is_freed(path, images, tmp_path):
    file = fixed(path, tmp_path / "a.onnx", 1, [1, -1])
    model = onnx.load(file)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "None"
    onnx.save(model, file)
    expected = OnnxRecognizer(path).features(images)
    assert np.allclose(OnnxRecognizer(file).features(images), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        found = to_torch(file)(to_tensor(images)).numpy()
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_images_of_any_size_and_number(path, images):
    recognizer = OnnxRecognizer(path)
    doubled = images.repeat(2, 1).repeat(2, 2)
    assert np.allclose(recognizer.features(doubled), recognizer.features(images), atol=1e-5)
    mixed = recognizer.features([images[0], doubled[1], images[2]])
    assert np.allclose(mixed, recognizer.features(images[:3]), atol=1e-5)
    assert recognizer.features(images[:0]).shape == (0, 12)
    for wrong in (images.astype(np.float32), images[..., :2], images[:, 0]):
        with pytest.raises(InputError, match="image 0 is"):
            recognizer.features(wrong)


def test_taps_are_the_ends_of_the_residual_stages(module, path, images):
    network = to_torch(path)
    x = to_tensor(images)
    with torch.no_grad():
        features, taps = network.forward_with_taps(x)
        stages = module.stages(x)
        assert torch.allclose(features, network(x))
        assert all(torch.equal(a, b) for a, b in zip(taps, network.taps(x), strict=True))
    assert network.tap_sizes == [16, 8, 4]
    # The last stage may be seen behind its batch norm, which is the last before the Flatten.
    stages[-1] = module.last[0](stages[-1])
    for tap, stage in zip(taps, stages, strict=True):
        assert torch.allclose(tap, stage, rtol=1e-4, atol=1e-5)


def test_the_network_is_frozen_and_its_gradient_is_the_modules(module, path, images):
    network = to_torch(path)
    assert not any(p.requires_grad for p in network.parameters())
    holder = nn.Sequential(network).train()
    assert not any(part.training for part in network.modules())
    grads = []
    for net in (holder, module):
        x = to_tensor(images).requires_grad_()
        net(x).square().sum().backward()
        grads.append(x.grad)
    assert torch.allclose(grads[0], grads[1], rtol=1e-3, atol=1e-5)
    small = to_tensor(images[:, ::2, ::2]).requires_grad_()
    network.taps(small)[1].mean().backward()
    assert small.grad.abs().sum() > 0
    with pytest.raises(InputError, match=r"expected \(B, 3, H, W\)"):
        network(torch.zeros(3, 16, 16))


def test_export_is_deterministic_and_tells_nothing_of_the_machine(module, path, tmp_path):
    module.train()
    export(module, tmp_path / "again.onnx", SIZE)
    assert module.training
    module.eval()
    content = path.read_bytes()
    assert content == (tmp_path / "again.onnx").read_bytes()
    here = str(Path(__file__).resolve().parents[1]).encode()
    assert here not in content
    assert b".py" not in content


def test_half_stored_weights_halve_the_file_and_keep_the_features(path, module, images, tmp_path):
    export(module, tmp_path / "half.onnx", SIZE, half=True)
    assert (tmp_path / "half.onnx").stat().st_size < 0.65 * path.stat().st_size
    expected = OnnxRecognizer(path).features(images)
    recognizer = OnnxRecognizer(tmp_path / "half.onnx")
    features = recognizer.features(images)
    assert np.allclose(features, expected, rtol=0.02, atol=0.01)
    assert not np.array_equal(features, expected)
    with torch.no_grad():
        network = to_torch(tmp_path / "half.onnx")
        assert np.allclose(network(to_tensor(images)).numpy(), features, rtol=1e-4, atol=1e-5)


def simple(file, kind=TensorProto.FLOAT, shape=(1, 3, SIZE, SIZE), inputs=("x",)):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info("y", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, file)
    return file


@pytest.mark.parametrize("use", [OnnxRecognizer, to_torch])
def test_files_with_the_wrong_input_are_refused(use, tmp_path):
    file = tmp_path / "a.onnx"
    with pytest.raises(InputError, match=r"a\.onnx: no such ONNX file"):
        use(file)
    file.write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"a\.onnx: not an ONNX model"):
        use(file)
    for wrong, message in (
        ({"kind": TensorProto.UINT8}, "is uint8; expected one float32 input"),
        ({"shape": (1, SIZE, SIZE, 3)}, r"is \(1, 16, 16, 3\); expected"),
        ({"shape": (1, 1, SIZE, SIZE)}, r"is \(1, 1, 16, 16\); expected"),
        ({"shape": (1, 3, SIZE)}, r"is \(1, 3, 16\); expected"),
        ({"shape": (1, 3, "h", "w")}, r"is \(1, 3, \?, \?\); expected"),
        ({"shape": (1, 3, 2000000, 2000000)}, "takes 1 images of 2000000 pixels"),
        ({"shape": (10**9, 3, SIZE, SIZE)}, "takes 1000000000 images of 16 pixels"),
        ({"inputs": ("x", "z")}, r"2 inputs \(x, z\)"),
    ):
        with pytest.raises(InputError, match=message):
            use(simple(file, **wrong))


def test_a_loop_and_cut_weights_are_refused(path, tmp_path):
    model = onnx.load(path)
    body = helper.make_graph([], "b", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", ""], [], body=body))
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"a\.onnx: (it holds a loop|not an ONNX model)"):
        OnnxRecognizer(tmp_path / "a.onnx")
    model = onnx.load(path)
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-3]
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=r"a\.onnx: not an ONNX model"):
        OnnxRecognizer(tmp_path / "a.onnx")


@pytest.mark.parametrize("damage", ["kind of input", "constant", "cast"])
def test_damage_that_the_checker_passes_is_refused(path, damage, tmp_path):
    model = onnx.load(path)
    if damage == "kind of input":
        model.graph.input[0].type.tensor_type.elem_type = 33
    elif damage == "constant":
        node = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("v", 1, [], [1.0]))
        node.attribute[0].t.raw_data = bytes(16)
        del node.attribute[0].t.float_data[:]
        model.graph.node.insert(0, node)
    else:
        model.graph.node[0].CopyFrom(helper.make_node("Cast", ["images"], ["x"]))
    onnx.save(model, tmp_path / "x.onnx")
    for use in (OnnxRecognizer, to_torch):
        with pytest.raises(InputError, match=r"x\.onnx"):
            use(tmp_path / "x.onnx")


def test_a_file_without_features_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"its output is \(3, 16, 16\) an image"):
        OnnxRecognizer(simple(tmp_path / "a.onnx"))


@real
def test_mobilefacenet_is_the_same_in_onnxruntime_and_torch():
    file = Path(DATA) / "mobilefacenet.onnx"
    source = open_source(Path(DATA) / "celeba299.rec")
    images = load_images(source, 112, range(0, len(source), 800))
    recognizer = OnnxRecognizer(file)
    features = recognizer.features(images)
    assert features.shape == (8, 128)
    assert np.allclose(recognizer.features(images, 1), features, rtol=1e-4, atol=1e-4)
    network = to_torch(file)
    assert network.tap_sizes == [56, 28, 14, 7]
    with torch.no_grad():
        other = network(to_tensor(images)).numpy()
    assert np.abs(other - features).max() <= 1e-4 * np.abs(features).max()


@real
@slow
def test_mobilefacenet_reaches_its_stated_lfw_accuracy():
    # Stated with the file: 99.28 %, its threshold grid unstated. Ten folds as in insightface give
    # 5 956 of 6 000 pairs, 99.27 %: one pair fewer. With the channels swapped it is 98.97 %.
    recognizer = OnnxRecognizer(Path(DATA) / "mobilefacenet.onnx")
    result = evaluate(recognizer.features, load_benchmark(Path(DATA) / "lfw.bin"))
    assert abs(6000 * (result.accuracy - 0.9928)) < 2
