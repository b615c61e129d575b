"""The detector, on ONNX graphs made here; the decoding against a loop over every anchor."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from vec2face.faces.align import TEMPLATE, align
from vec2face.faces.detect import FaceDetector, suppress
from vec2face.runtime.files import InputError

LAYOUTS = {6: (3, 2), 9: (3, 2), 10: (5, 1), 15: (5, 1)}  # strides, anchors a place
BLACK = np.zeros((128, 256, 3), np.uint8)
FACE = (TEMPLATE - 56) / 56 * 20  # points of a face 40 pixels wide, from its centre


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("VEC2FACE_THREADS", "1")


def save(path, nodes, outputs, stored, shape):
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in stored.items()]
    graph = helper.make_graph(nodes, "detector", [image], values, tensors)
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def constant(path, arrays, shape=(1, 3, 128, 256)):
    """A graph that yields the arrays whatever it sees."""
    names = [f"o{i}" for i in range(len(arrays))]
    nodes = [helper.make_node("Identity", [f"c{i}"], [n]) for i, n in enumerate(names)]
    return save(path, nodes, names, {f"c{i}": a for i, a in enumerate(arrays)}, shape)


def random_outputs(outputs):
    """Outputs for an input of 128 x 256, few of them above 0.5."""
    rng = np.random.default_rng(outputs)
    strides, anchors = LAYOUTS[outputs]
    counts = [(128 >> 3 + s) * (256 >> 3 + s) * anchors for s in range(strides)]
    arrays = [rng.random((n, 1)) ** 6 for n in counts]
    arrays += [rng.uniform(0.2, 4, (n, 4)) for n in counts]
    if outputs in (9, 15):
        arrays += [rng.normal(0, 2, (n, 10)) for n in counts]
    return [a.astype(np.float32) for a in arrays]


def by_loop(arrays, threshold, overlap):
    """The faces (score, box, points) in the input's pixels, one anchor at a time."""
    strides, anchors = LAYOUTS[len(arrays)]
    faces = []
    for level in range(strides):
        stride = 2 ** (level + 3)
        n = 0
        for row in range(128 // stride):
            for column in range(256 // stride):
                for _ in range(anchors):
                    score = float(arrays[level][n, 0])
                    left, top, right, bottom = arrays[strides + level][n].astype(float) * stride
                    x, y = column * stride, row * stride
                    points = None
                    if len(arrays) > 2 * strides:
                        offsets = arrays[2 * strides + level][n].astype(float).reshape(5, 2)
                        points = [(x + u * stride, y + v * stride) for u, v in offsets]
                    if score >= threshold:
                        faces.append((score, (x - left, y - top, x + right, y + bottom), points))
                    n += 1
    kept = []
    for face in sorted(faces, key=lambda f: -f[0]):
        if all(shared(face[1], other[1]) <= overlap for other in kept):
            kept.append(face)
    return kept


def shared(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    area = sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b))
    return width * height / (area - width * height)


@pytest.mark.parametrize("outputs", [6, 9, 10, 15])
@pytest.mark.parametrize("batched", [False, True])
def test_decoding_is_that_of_the_loop(tmp_path, outputs, batched):
    arrays = random_outputs(outputs)
    path = constant(tmp_path / "net.onnx", [a[None] if batched else a for a in arrays])
    # 64 x 128 pixels are half the input: what the loop finds is twice as large.
    faces = FaceDetector(path).detect(BLACK[::2, ::2])
    expected = by_loop(arrays, 0.5, 0.4)
    assert len(faces.scores) == len(expected) > 10
    assert np.allclose(faces.scores, [face[0] for face in expected])
    assert np.allclose(faces.boxes, [np.divide(face[1], 2) for face in expected], atol=1e-3)
    if outputs in (6, 10):
        assert faces.points is None
    else:
        assert np.allclose(faces.points, [np.divide(f[2], 2) for f in expected], atol=1e-3)


def test_thresholds_are_kept(tmp_path):
    arrays = random_outputs(9)
    path = constant(tmp_path / "net.onnx", arrays)
    for threshold, overlap in ((0.2, 0.1), (0.9, 0.4), (0.6, 1.0)):
        faces = FaceDetector(path, threshold=threshold, overlap=overlap).detect(BLACK)
        expected = by_loop(arrays, threshold, overlap)
        assert np.allclose(faces.scores, [face[0] for face in expected])


def test_suppression_keeps_touching_boxes_and_drops_doubles():
    boxes = np.array([(0, 0, 9, 9), (1, 0, 10, 9), (11, 0, 19, 9), (0, 0, 9, 9)], float)
    assert suppress(boxes, np.array([0.5, 0.9, 0.7, 0.5]), 0.4).tolist() == [1, 2]
    assert suppress(boxes, np.array([0.5, 0.4, 0.7, 0.5]), 1.0).tolist() == [2, 0, 3, 1]
    assert suppress(boxes[:0], np.zeros(0), 0.4).tolist() == []


def red_finder(path, shape):
    """A net whose score is how red a place of stride 8 is; box and points are those of FACE."""
    nodes, outputs, stored = [], [], {}
    for kind, values in {"score": [0], "box": [20] * 4, "points": FACE.ravel()}.items():
        width = len(values)
        stored[f"{kind}_shape"] = np.array([-1, width])
        for stride in (8, 16, 32):
            name = f"{kind}{stride}"
            weight = np.zeros((2 * width, 3, stride, stride), np.float32)
            if name == "score8":  # of the first anchor: 1 if it is red, 0 if it is grey
                weight[0, 0], weight[0, 1] = 0.5 / stride**2, -0.5 / stride**2
            stored[f"{name}_weight"] = weight
            stored[f"{name}_bias"] = np.tile(np.divide(values, stride), 2).astype(np.float32)
            inputs = ["image", f"{name}_weight", f"{name}_bias"]
            conv = helper.make_node("Conv", inputs, [f"{name}_map"], strides=[stride, stride])
            turn = helper.make_node("Transpose", [f"{name}_map"], [f"{name}_t"], perm=[0, 2, 3, 1])
            nodes += [
                conv,
                turn,
                helper.make_node("Reshape", [f"{name}_t", f"{kind}_shape"], [name]),
            ]
            outputs.append(name)
    return save(path, nodes, outputs, stored, shape)


@pytest.mark.parametrize("shape", [(1, 3, 160, 320), (1, 3, "h", "w")])
def test_a_red_face_is_found_where_it_is(tmp_path, shape):
    detector = FaceDetector(red_finder(tmp_path / "red.onnx", shape))
    height, width = (160, 320) if shape[2] == 160 else (640, 640)  # 640 if the file leaves it free
    # Scales of the picture in the input: 1/3 (tall), 2 (the input's shape) and 1/2 (wide).
    pictures = {1 / 3: (height * 3, width), 2: (height // 2, width // 2), 0.5: (height, width * 2)}
    for scale, size in pictures.items():
        image = np.full((*size, 3), 90, np.uint8)
        x, y = int(48 / scale), int(40 / scale)
        side = int(8 / scale)
        image[y : y + side, x : x + side] = (255, 0, 0)
        faces = detector.detect(image)
        assert len(faces.scores) == 1
        assert np.allclose(faces.boxes[0], np.array([28, 20, 68, 60]) / scale)
        assert np.allclose(detector.landmarks(image), (FACE + (48, 40)) / scale, atol=1e-3)
        blue = np.ascontiguousarray(image[..., ::-1])
        assert detector.landmarks(blue) is None


def test_the_main_face_is_large_and_central(tmp_path):
    arrays = [np.zeros_like(a) for a in random_outputs(9)]
    # The surest is small, the largest lies in a corner.
    for place, score, half in ((4 * 32 + 4, 0.9, 2), (8 * 32 + 16, 0.8, 4), (15 * 32, 0.7, 4.5)):
        arrays[0][2 * place] = score
        arrays[3][2 * place] = half
        arrays[6][2 * place] = score  # five equal points, told apart by this
    points = FaceDetector(constant(tmp_path / "net.onnx", arrays)).landmarks(BLACK)
    assert np.allclose(points, np.full((5, 2), 0.8 * 8) + (16 * 8, 8 * 8))


@pytest.mark.parametrize("far", [-300, 600, np.nan, np.inf])
def test_points_far_outside_are_no_face(tmp_path, far):
    """A damaged or foreign detector leaves a picture out; it does not end the work."""
    arrays = [np.zeros_like(a) for a in random_outputs(9)]
    place = 8 * 32 + 16
    arrays[0][2 * place], arrays[3][2 * place] = 0.9, 4
    detector = FaceDetector(constant(tmp_path / "near.onnx", arrays))
    assert align(BLACK, detector.landmarks(BLACK) + TEMPLATE / 8).shape == (112, 112, 3)
    arrays[6][2 * place, 3] = far / 8
    detector = FaceDetector(constant(tmp_path / "far.onnx", arrays))
    assert detector.landmarks(BLACK) is None


def test_a_detector_without_points_cannot_align(tmp_path):
    detector = FaceDetector(constant(tmp_path / "boxes.onnx", random_outputs(6)))
    with pytest.raises(InputError, match=r"boxes\.onnx: finds faces but not their five points"):
        detector.landmarks(BLACK)


def test_what_is_no_detector_is_refused(tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(InputError, match="no such file"):
        FaceDetector(path)
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match="cannot load it"):
        FaceDetector(path)
    arrays = random_outputs(9)
    wrong = {
        "and 1 outputs": (arrays[:1], (1, 3, 128, 256)),
        r"input \[1, 128\]": (arrays, (1, 128)),
        r"input \[1, 1, 128, 256\]": (arrays, (1, 1, 128, 256)),
        r"scores \(1024, 1\) at stride 8, not 4096 x 1": (arrays, (1, 3, 256, 512)),
        "boxes .* at stride 8": ([*arrays[:3], *arrays[6:], *arrays[3:6]], (1, 3, 128, 256)),
        "points .* at stride 32": ([*arrays[:8], arrays[8][:, :9]], (1, 3, 128, 256)),
    }
    for message, (outputs, shape) in wrong.items():
        constant(path, outputs, shape)
        with pytest.raises(InputError, match=f"no SCRFD or RetinaFace .*{message}.*expected"):
            FaceDetector(path)
