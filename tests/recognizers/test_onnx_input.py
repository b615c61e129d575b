"""What ONNX files expect of their pixels; the oracle is the arithmetic of what was put in front."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from vec2face.cli import main
from vec2face.faces.images import to_tensor
from vec2face.recognizers.features import open_recognizer
from vec2face.recognizers.onnx import OnnxRecognizer, to_torch
from vec2face.recognizers.onnx_input import KEY
from vec2face.runtime.files import InputError

SIZE = 16
IMAGES = np.random.default_rng(1).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
DRAW = np.random.default_rng(2)
KERNEL = DRAW.normal(size=(4, 3, SIZE, SIZE)).astype(np.float32) / SIZE
IMAGENET = (np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]))


def node(kind, *stored, first=True, **attributes):
    """Return one node of a chain: its kind, what it reads beside the chain, its attributes."""
    return kind, [np.asarray(value) for value in stored], first, attributes


def column(values):
    return np.asarray(values, np.float32).reshape(1, 3, 1, 1)


def write(path, chain, *, as_nodes=False, metadata=None):
    """Write a chain of nodes and one convolution over the whole picture."""
    nodes, tensors, last = [], [], "x"
    for number, (kind, stored, first, attributes) in enumerate(chain):
        names = [f"{number}_{i}" for i in range(len(stored))]
        tensors += [
            numpy_helper.from_array(v if v.dtype.kind == "i" else v.astype(np.float32), n)
            for v, n in zip(stored, names, strict=True)
        ]
        read = [last, *names] if first else [*names, last]
        nodes.append(helper.make_node(kind, read, [f"out{number}"], **attributes))
        last = f"out{number}"
    tensors.append(numpy_helper.from_array(KERNEL, "kernel"))
    nodes += [
        helper.make_node("Conv", [last, "kernel"], ["map"]),
        helper.make_node("Flatten", ["map"], ["y"]),
    ]
    if as_nodes:
        nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in tensors] + nodes
        tensors = []
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 3, SIZE, SIZE]), ("y", ["n", 4]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def features(pixels):
    """Return the features of (N, S, S, 3) pixels as the convolution sees them."""
    return np.einsum("nhwc,dchw->nd", np.asarray(pixels, np.float64), KERNEL)


def check(path, expected):
    scale = np.abs(expected).max()
    assert np.abs(OnnxRecognizer(path).features(IMAGES) - expected).max() < 1e-4 * scale
    with torch.no_grad():
        found = to_torch(path)(to_tensor(IMAGES)).numpy()
    assert np.abs(found - expected).max() < 1e-4 * scale


X = IMAGES.astype(np.float64)
ONES = np.ones(3)
SCALINGS = {
    "div": ([node("Div", 255.0)], X / 255),
    "div, sub, div": (
        [node("Div", 255.0), node("Sub", 0.5), node("Div", 0.5)],
        X / 127.5 - 1,
    ),
    "mul": ([node("Mul", 1 / 255)], X / 255),
    "mul from the left": ([node("Mul", 1 / 255, first=False)], X / 255),
    "add": ([node("Add", -127.5), node("Mul", 1 / 128)], (X - 127.5) / 128),
    "sub alone": ([node("Sub", 127.5)], X - 127.5),
    "sub from": ([node("Sub", 127.5, first=False)], 127.5 - X),
    "means of channels": ([node("Sub", column([123, 117, 104]))], X - [123, 117, 104]),
    "imagenet": (
        [
            node("Mul", 1 / 255),
            node("Sub", column(IMAGENET[0])),
            node("Div", column(IMAGENET[1])),
        ],
        (X / 255 - IMAGENET[0]) / IMAGENET[1],
    ),
    "norm": (
        [node("BatchNormalization", ONES, 0 * ONES, 125 * ONES, 5000 * ONES, epsilon=2e-5)],
        (X - 125) / np.sqrt(5000 + 2e-5),
    ),
    "cast, sub": ([node("Cast", to=TensorProto.FLOAT), node("Sub", 127.5)], X - 127.5),
    "cast to bytes": (
        [node("Cast", to=TensorProto.INT32), node("Cast", to=TensorProto.FLOAT)],
        X,
    ),
    "identity, div": ([node("Identity"), node("Div", 128.0)], X / 128),
    "reordered": ([node("Gather", [2, 1, 0], axis=1), node("Div", 255.0)], X[..., ::-1] / 255),
    "unit": ([node("Sub", 0.5), node("Div", 0.5)], X / 127.5 - 1),
    "unit imagenet": (
        [node("Sub", column(IMAGENET[0])), node("Div", column(IMAGENET[1]))],
        (X / 255 - IMAGENET[0]) / IMAGENET[1],
    ),
    "none": ([], X / 127.5 - 1),
    "to unit": ([node("Mul", 0.5), node("Add", 0.5)], X / 255),
    "to bytes": ([node("Mul", 127.5), node("Add", 127.5)], X),
    "norm of ours": (
        [node("BatchNormalization", 9 * ONES, ONES, -0.1 * ONES, 0.2 * ONES, epsilon=0.0)],
        (X / 127.5 - 0.9) / np.sqrt(0.2) * 9 + 1,
    ),
}


@pytest.mark.parametrize("as_nodes", [False, True])
@pytest.mark.parametrize("name", SCALINGS)
def test_scaling_inside_the_graph_is_given_the_range_it_wants(tmp_path, name, as_nodes):
    chain, seen = SCALINGS[name]
    path = write(tmp_path / "a.onnx", chain, as_nodes=as_nodes)
    expected = features(seen)
    if name == "cast to bytes":  # has no gradient, so no use in PyTorch
        found = OnnxRecognizer(path).features(IMAGES)
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    else:
        check(path, expected)


@pytest.mark.parametrize(
    ("stated", "seen"),
    [
        ([], X / 255),
        (["--channels", "bgr"], X[..., ::-1] / 255),
        (["--mean", "0.5", "--std", "0.5"], (X / 127.5 - 1) / 255),
        (["--std", "1"], X / 255 / 255),
    ],
)
def test_what_is_stated_at_the_import_wins_over_what_is_told(tmp_path, capsys, stated, seen):
    path = write(tmp_path / "a.onnx", [node("Div", 255.0)], metadata={"author": "x"})
    assert main(["import-recognizer", str(path), str(tmp_path / "b.onnx"), *stated]) == 0
    assert "b.onnx: " in capsys.readouterr().out
    check(tmp_path / "b.onnx", features(seen))
    kept = {entry.key: entry.value for entry in onnx.load(tmp_path / "b.onnx").metadata_props}
    assert kept["author"] == "x"


def test_the_convention_in_use_is_said(tmp_path, caplog):
    path = write(tmp_path / "a.onnx", [node("Div", 255.0)])
    main(["import-recognizer", str(path), str(tmp_path / "b.onnx"), "--channels", "bgr"])
    with caplog.at_level("INFO"):
        open_recognizer(path)
        open_recognizer(tmp_path / "b.onnx")
    assert "a.onnx: takes RGB in [0, 255]" in caplog.text
    assert "b.onnx: takes BGR in [0, 255]" in caplog.text


@pytest.mark.parametrize(
    "stated",
    ["", "[]", "{}}", '{"mean": "x"}', '{"std": 0}', '{"std": NaN}', '{"gamma": 1}', "[" * 9999],
)
def test_a_stated_convention_that_cannot_be_is_refused(tmp_path, stated):
    path = write(tmp_path / "a.onnx", [], metadata={KEY: stated})
    with pytest.raises(InputError, match=r"a\.onnx: its vec2face\.convention is no convention"):
        OnnxRecognizer(path)


def test_imports_that_cannot_be_are_refused(tmp_path, capsys):
    path = str(write(tmp_path / "a.onnx", []))
    assert main(["import-recognizer", path, str(tmp_path / "b.safetensors")]) == 2
    assert "name it *.onnx" in capsys.readouterr().err
    assert main(["import-recognizer", path, str(tmp_path / "b.onnx"), "--std", "0"]) == 2
    assert "std is not 0" in capsys.readouterr().err
    assert json.dumps(sorted(p.name for p in tmp_path.iterdir())) == '["a.onnx"]'
