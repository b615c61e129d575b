"""Files as insightface exports them; the oracle is their arithmetic in float64."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from vec2face.faces.images import to_tensor
from vec2face.recognizers.onnx import OnnxRecognizer, to_torch

SIZE = 16


class Export:
    """An IResNet of one block with a batch of one, as ONNX nodes and as functions side by side."""

    def __init__(self, *, scaled, constants=False):
        self.draw = np.random.default_rng(5)
        self.weights, self.nodes, self.steps = {}, [], []
        self.scaled, self.constants = scaled, constants
        x = "data"
        if scaled:
            x = self.add("Sub", x, lambda a, w: a - w, [127.5])
            x = self.add("Mul", x, lambda a, w: a * w, [0.0078125])
        x = self.prelu(self.norm(self.conv(x, 6, 3, 3, 1), 6), 6)
        branch = self.prelu(self.norm(self.conv(self.norm(x, 6), 10, 6, 3, 1), 10), 10)
        branch = self.norm(self.conv(branch, 10, 10, 3, 2), 10)
        short = self.norm(self.conv(x, 10, 6, 1, 2), 10)
        x = self.add("Add", [branch, short], lambda a, b: a + b)
        x = self.add("Flatten", self.norm(x, 10), lambda a: a.reshape(len(a), -1), axis=1)
        matrix, shift = self.draw.normal(0, 0.04, (12, 640)), self.draw.normal(size=12)
        x = self.add("Gemm", x, lambda a, m, s: a @ m.T + s, matrix, shift, transB=1)
        self.output = self.norm(x, 12)

    def add(self, kind, sources, function, *stored, **attributes):
        name = f"{kind.lower()}{len(self.nodes)}"
        names = [f"{name}_{i}" for i in range(len(stored))]
        self.weights.update(zip(names, (np.asarray(w, np.float32) for w in stored), strict=True))
        read = [*([sources] if isinstance(sources, str) else sources), *names]
        self.nodes.append(helper.make_node(kind, read, [name], name=name, **attributes))
        self.steps.append((name, read, function))
        return name

    def conv(self, x, outputs, inputs, kernel, stride):
        weight = self.draw.normal(
            0, (inputs * kernel**2) ** -0.5, (outputs, inputs, kernel, kernel)
        )
        return self.add(
            "Conv",
            x,
            lambda a, w: torch.conv2d(a, w, stride=stride, padding=kernel // 2),
            weight,
            kernel_shape=[kernel] * 2,
            pads=[kernel // 2] * 4,
            strides=[stride] * 2,
        )

    def norm(self, x, channels):
        scale, variance = self.draw.uniform(0.5, 1.5, (2, channels))
        shift, mean = self.draw.normal(0, 0.3, (2, channels))

        def function(a, *stored):
            g, b, m, v = (w.reshape(1, -1, *[1] * (a.ndim - 2)) for w in stored)
            return (a - m) * (v + 2e-5) ** -0.5 * g + b

        return self.add(
            "BatchNormalization", x, function, scale, shift, mean, variance, epsilon=2e-5
        )

    def prelu(self, x, channels):
        slope = self.draw.uniform(0.1, 0.4, (channels, 1, 1))
        return self.add("PRelu", x, lambda a, w: torch.where(a < 0, a * w, a), slope)

    def save(self, file, opset=11):
        tensors = [numpy_helper.from_array(w, name) for name, w in self.weights.items()]
        if self.constants:
            head = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors]
            tensors, nodes = [], [*head, *self.nodes]
        else:
            nodes = self.nodes
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("data", [1, 3, SIZE, SIZE]), (self.output, [1, 12]))
        ]
        graph = helper.make_graph(nodes, "arcface", ends[:1], ends[1:], tensors)
        version = helper.make_opsetid("", opset)
        model = helper.make_model(graph, opset_imports=[version], ir_version=6)
        onnx.checker.check_model(model)
        onnx.save(model, file)
        return file

    def run(self, images):
        """Map uint8 (N, 16, 16, 3) to (N, 12)."""
        x = torch.from_numpy(images).permute(0, 3, 1, 2).double()
        values = {"data": x if self.scaled else x / 127.5 - 1}
        values |= {name: torch.from_numpy(w).double() for name, w in self.weights.items()}
        for name, read, function in self.steps:
            values[name] = function(*(values[r] for r in read))
        return values[self.output].numpy()


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_exports_of_insightface_are_the_same_three_ways(scaled, constants, tmp_path):
    export = Export(scaled=scaled, constants=constants)
    file = export.save(tmp_path / "a.onnx")
    images = np.random.default_rng(1).integers(0, 256, (7, SIZE, SIZE, 3), np.uint8)
    expected = export.run(images)
    close = 1e-4 * np.abs(expected).max()
    recognizer, network = OnnxRecognizer(file), to_torch(file)
    for size in (1, 3, 64):
        assert np.abs(recognizer.features(images, size) - expected).max() <= close
    with torch.no_grad():
        assert np.abs(network(to_tensor(images)).numpy() - expected).max() <= close
        assert network(to_tensor(images[:1])).shape == (1, 12)
    assert network.tap_sizes == [16, 8]


@pytest.mark.parametrize("opset", [7, 8])
def test_the_operators_of_mxnets_exports_have_a_pytorch_form(opset, tmp_path):
    export = Export(scaled=True, constants=False)
    model = onnx.load(export.save(tmp_path / "a.onnx", opset))
    model.ir_version = 3  # of that time, when weights were inputs
    model.graph.input.extend(
        helper.make_tensor_value_info(w.name, w.data_type, w.dims) for w in model.graph.initializer
    )
    onnx.save(model, tmp_path / "a.onnx")
    network = to_torch(tmp_path / "a.onnx")
    images = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    expected = OnnxRecognizer(tmp_path / "a.onnx").features(images)
    with torch.no_grad():
        found = network(to_tensor(images)).numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
