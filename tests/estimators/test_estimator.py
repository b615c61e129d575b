"""Estimators of all kinds, on networks made here and, where there are some, on real ones."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from scipy.spatial.transform import Rotation
from torch.nn import functional

from vec2face.config.attributes import EstimatorConfig
from vec2face.estimators.estimator import READINGS, cut, open_estimator
from vec2face.faces.images import to_tensor
from vec2face.faces.source import load_images, open_source
from vec2face.recognizers.onnx_export import export
from vec2face.runtime.files import InputError

DATA = os.environ.get("VEC2FACE_DATA")


def config(file, network="onnx", reading="plain", outputs=("a",), **changes):
    takes = {"box": [0, 0, 1, 1], "side": None, "channels": "rgb", "mean": [0.5], "std": [0.5]}
    gives = {
        "reading": reading,
        "outputs": dict.fromkeys(outputs, "degrees"),
        "opposite": [],
        "classes": [],
    }
    return EstimatorConfig(
        file=str(file),
        network=network,
        takes={**takes, **{k: v for k, v in changes.items() if k in takes}},
        gives={**gives, **{k: v for k, v in changes.items() if k in gives}},
    )


@pytest.fixture
def sums(tmp_path):
    """An ONNX file, 8 x 8 pixels: weighted means of the three channels, as often as weights say."""

    def make(weights, batch="n"):
        image = helper.make_tensor_value_info("i", TensorProto.FLOAT, (batch, 3, 8, 8))
        out = helper.make_tensor_value_info("o", TensorProto.FLOAT, (batch, len(weights)))
        stored = [numpy_helper.from_array(np.float32(weights).T, "w")]
        nodes = [
            helper.make_node("GlobalAveragePool", ["i"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["o"]),
        ]
        graph = helper.make_graph(nodes, "g", [image], [out], stored)
        opset = [helper.make_opsetid("", 13)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "e.onnx")
        return tmp_path / "e.onnx"

    return make


def test_pixels_come_as_the_file_takes_them(sums):
    """(x / 255 - mean) / std in its own order of channels."""
    file = sums([[1, 0, 0], [0, 0, 1]])
    images = torch.full((2, 3, 24, 24), -1.0)
    images[:, 0] = torch.tensor([0.0, 1.0])[:, None, None]  # red: 127.5 and 255
    red = {"channels": "bgr", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.25, 0.2]}
    found = open_estimator(config(file, outputs=("blue", "red"), **red))(images)
    assert found["red"].tolist() == pytest.approx([(0.5 - 0.3) / 0.2, (1 - 0.3) / 0.2])
    assert found["blue"].tolist() == pytest.approx([(0 - 0.1) / 0.5] * 2)


def test_opposite_outputs_change_their_sign_and_gradients_are_those_of_differences(sums):
    file = sums([[1, 2, 3], [3, 2, 1]])
    estimator = open_estimator(config(file, outputs=("a", "b"), opposite=["b"]))
    images = torch.rand(3, 3, 20, 20, requires_grad=True)
    values = estimator(images)
    plain = open_estimator(config(file, outputs=("a", "b")))(images)
    assert torch.equal(values["b"], -plain["b"])
    assert torch.equal(values["a"], plain["a"])
    values["a"].sum().backward()
    with torch.no_grad():
        moved = estimator(images + 0.01 * images.grad)["a"] - values["a"]
    expected = 0.01 * images.grad.pow(2).sum((1, 2, 3))
    assert torch.allclose(moved, expected, rtol=0.01)
    assert all(p.grad is None for p in estimator.parameters())


@pytest.mark.parametrize(
    ("box", "edges"),
    [((0, 0, 1, 1), (0, 0)), ((-0.25, -0.25, 1.25, 1.25), (2, 2)), ((-0.125, 0, 1, 1), (1, 0))],
)
def test_a_larger_box_repeats_the_edge(box, edges):
    images = torch.arange(2 * 3 * 64.0).view(2, 3, 8, 8)
    low, high = edges
    padded = np.pad(
        images.numpy(),
        ((0, 0), (0, 0), (0 if box[1] == 0 else low, high), (low, high)),
        mode="edge",
    )
    assert np.array_equal(cut(images, box).numpy(), padded)


def test_a_smaller_box_is_a_window():
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(cut(images, (0.25, 0.5, 0.75, 1)), images[:, :, 8:, 4:12])


@pytest.mark.parametrize("side", [7, 16, 40])
@pytest.mark.parametrize("box", [(0, 0, 1, 1), (-0.25, 0, 1.25, 0.75)])
def test_a_cut_and_its_gradient_are_those_of_padding_and_interpolation(box, side):
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    edges = (4, 4, 0, 0) if box[0] else (0, 0, 0, 0)
    padded = functional.pad(images, edges, mode="replicate")[:, :, : 12 if box[0] else 16]
    wanted = functional.interpolate(padded, (side, side), mode="bilinear", antialias=True)
    found = cut(images, box, side)
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)
    weights = torch.rand_like(found)
    one, other = (torch.autograd.grad((x * weights).sum(), images)[0] for x in (found, wanted))
    assert torch.allclose(one, other, rtol=0, atol=1e-12)


def test_a_cut_asks_for_no_sum_without_order():
    """Neither padding nor interpolation, whose gradients are such sums on a GPU."""
    graph, seen = [cut(torch.rand(1, 3, 16, 16, requires_grad=True), (-1, 0, 1, 1), 9).grad_fn], ""
    while graph:
        node = graph.pop()
        seen += type(node).__name__
        graph += [before for before, _ in node.next_functions if before is not None]
    assert "Upsample" not in seen
    assert "Pad" not in seen
    assert seen


def test_an_expectation_is_the_mean_of_its_classes(sums):
    file = sums([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    stated = {"reading": "expectation", "classes": [10, 20, 40], "mean": [0.0], "std": [1.0]}
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    p = (images.mean((2, 3)) + 1) / 2
    wanted = (p * torch.tensor([10.0, 20, 40])).sum(1) / p.sum(1)
    found = open_estimator(config(file, outputs=("age",), **stated))(images)["age"]
    assert torch.allclose(found, wanted)


def test_a_length_is_the_features(sums):
    file = sums([[1, 0, 0], [0, 2, 0]])
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    found = open_estimator(config(file, reading="length", outputs=("quality",)))(images)["quality"]
    means = images.mean((2, 3))
    assert torch.allclose(found, torch.hypot(means[:, 0], 2 * means[:, 1]))


def test_a_camera_is_read_as_its_rotation():
    """By 3DDFA's own account of a rotation R, whatever its scale and translation."""
    rng = np.random.default_rng(0)
    rotations = Rotation.random(40, rng).as_matrix()
    rotations = rotations[np.abs(rotations[:, 2, 0]) < 0.98]
    count = len(rotations)
    scales, shifts = rng.uniform(0.1, 3, (count, 1, 1)), rng.normal(size=(count, 3, 1))
    cameras = np.concatenate([scales * rotations, shifts], 2).reshape(count, 12)
    numbers = torch.from_numpy(np.concatenate([cameras, np.zeros((count, 50))], 1))
    gives = config("x", reading="camera", outputs=("yaw", "pitch", "roll")).gives
    for found, r in zip(READINGS["camera"](numbers, gives).numpy(), rotations, strict=True):
        x = np.arcsin(r[2, 0])
        y = np.arctan2(r[2, 1] / np.cos(x), r[2, 2] / np.cos(x))
        z = np.arctan2(r[1, 0] / np.cos(x), r[0, 0] / np.cos(x))
        assert np.allclose(found, np.degrees([x, y, z]), atol=1e-6)


def test_what_does_not_fit_names_key_and_file(sums, tmp_path):
    with pytest.raises(InputError, match=r"none\.onnx: no such ONNX file"):
        open_estimator(config(tmp_path / "none.onnx"))
    file = sums([[1, 0, 0]])
    with pytest.raises(InputError, match=r"estimators\.pose: .*e\.onnx does not do as it says"):
        open_estimator(config(file, outputs=("yaw", "pitch")), "estimators.pose")
    with pytest.raises(InputError, match=r"e\.onnx does not do as it says"):
        open_estimator(config(file, reading="expectation", classes=[1, 2]))


@pytest.mark.skipif(not DATA, reason="needs real estimators (VEC2FACE_DATA)")
def test_two_real_estimators_of_pose_agree_and_mirroring_turns_yaw():
    """FSA-Net and 3DDFA, both turned: their yaw is positive to the picture's left."""
    fsanet = config(
        Path(DATA) / "headpose_fsanet.onnx",
        outputs=("yaw", "pitch", "roll"),
        box=[-12 / 112, -12 / 112, 124 / 112, 124 / 112],
        channels="bgr",
        std=[128 / 255],
        opposite=["yaw"],
    )
    ddfa = config(
        Path(DATA) / "headpose_3ddfa_mb05.onnx",
        outputs=("yaw", "pitch", "roll"),
        reading="camera",
        box=[-8 / 112, -8 / 112, 120 / 112, 120 / 112],
        channels="bgr",
        std=[128 / 255],
        opposite=["yaw"],
    )
    source = open_source(Path(DATA) / "celeba299.rec")
    images = to_tensor(load_images(source, 112, np.arange(0, len(source), 200)))
    with torch.no_grad():
        one, other = (open_estimator(c)(images)["yaw"].numpy() for c in (fsanet, ddfa))
        mirrored = open_estimator(fsanet)(images.flip(3))["yaw"].numpy()
    assert np.corrcoef(one, other)[0, 1] > 0.9
    assert np.abs(one - other).mean() < 5
    assert np.corrcoef(one, -mirrored)[0, 1] > 0.97


@pytest.mark.skipif(not DATA, reason="needs real estimators (VEC2FACE_DATA)")
def test_a_real_estimator_of_quality_falls_with_blur():
    lightqnet = config(
        Path(DATA) / "lightqnet100.onnx", outputs=("quality",), channels="bgr",
        mean=[128 / 255], std=[128 / 255],
    )  # fmt: skip
    source = open_source(Path(DATA) / "celeba299.rec")
    images = to_tensor(load_images(source, 112, np.arange(0, len(source), 300)))
    blurred = functional.avg_pool2d(images, 9, 1, 4, count_include_pad=False)
    estimator = open_estimator(lightqnet)
    with torch.no_grad():
        sharp, soft = (estimator(x)["quality"] for x in (images, blurred))
    assert sharp.mean() > 0.5
    assert soft.mean() < 0.4


def test_batch_norms_keep_their_statistics(tmp_path):
    """A converted network starts in training mode; it must be left before its first use."""
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten()
    net = torch.nn.Sequential(*layers, torch.nn.Linear(144, 2))
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2)
    export(net.eval(), tmp_path / "n.onnx", 8, output="degrees")
    images = torch.rand(5, 3, 8, 8) * 2 - 1
    estimator = open_estimator(config(tmp_path / "n.onnx", outputs=("yaw", "pitch")))
    for _ in range(2):
        with torch.no_grad():
            found = estimator(images)
            both = torch.stack([found["yaw"], found["pitch"]], 1)
            assert torch.allclose(both, net(images), atol=1e-5)


@pytest.mark.parametrize("batch", ["n", 1])
def test_a_reshape_to_one_image_takes_many(tmp_path, batch):
    """Exporters leave a batch free in the input and fix it within the graph."""
    image = helper.make_tensor_value_info("i", TensorProto.FLOAT, (batch, 3, 8, 8))
    out = helper.make_tensor_value_info("o", TensorProto.FLOAT, (batch, 1))
    weights = np.random.default_rng(0).normal(size=(192, 1)).astype(np.float32)
    stored = [
        numpy_helper.from_array(weights, "w"),
        numpy_helper.from_array(np.array([1, -1]), "s"),
    ]
    nodes = [
        helper.make_node("Reshape", ["i", "s"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["o"]),
    ]
    graph = helper.make_graph(nodes, "g", [image], [out], stored)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "e.onnx")
    images = torch.randn(5, 3, 8, 8)
    found = open_estimator(config(tmp_path / "e.onnx"))(images)["a"].numpy()
    assert np.allclose(found, (images.flatten(1).numpy() @ weights)[:, 0], atol=1e-4)
