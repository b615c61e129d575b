"""Faces and their five points in photographs, by insightface's detectors as ONNX files.

SCRFD and RetinaFace (``det_10g.onnx``, ``scrfd_10g_kps.onnx``, ...) look at a grid of anchors at
every stride. An anchor has a score, the distances from its place to the four sides of a box, and
perhaps the offsets of five points, all in strides. Outputs come by kind, and in a kind by stride:

    6 or 9     strides 8, 16, 32, two anchors a place; 9 with points
    10 or 15   strides 8, 16, 32, 64, 128, one anchor a place; 15 with points
"""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import onnxruntime

from vec2face.runtime.files import InputError
from vec2face.runtime.processes import threads

_LAYOUTS = {6: (3, 2), 9: (3, 2), 10: (5, 1), 15: (5, 1)}  # outputs: strides, anchors a place
_WIDTHS = {"scores": 1, "boxes": 4, "points": 10}
_FREE_SIZE = 640


class Faces(NamedTuple):
    """F faces of one picture, the surest first; coordinates are its pixels.

    Attributes:
        boxes: (F, 4) float32, left, top, right, bottom.
        scores: (F,) float32, in [0, 1].
        points: (F, 5, 2) float32, None from a detector without points.
    """

    boxes: np.ndarray
    scores: np.ndarray
    points: np.ndarray | None


class FaceDetector:
    """A detector run by onnxruntime on the CPU, in the threads of ``VEC2FACE_THREADS``.

    Args:
        path: the ONNX file.
        threshold: the lowest score of a face.
        overlap: of two boxes that share more than this (intersection over union), one stays.

    Raises:
        InputError: if the file is no such detector.
    """

    def __init__(self, path: Path | str, *, threshold: float = 0.5, overlap: float = 0.4):
        self.path, self.threshold, self.overlap = Path(path), threshold, overlap
        if not self.path.is_file():
            raise InputError(f"{path}: no such file; expected a detector, such as det_10g.onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads()
        options.log_severity_level = 4  # failures come as exceptions
        try:
            self._session = onnxruntime.InferenceSession(
                self.path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise InputError(f"{path}: onnxruntime cannot load it: {error}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(outputs) not in _LAYOUTS or len(shape) != 4 or shape[1] != 3:
            raise self._refusal(f"input {shape} and {len(outputs)} outputs")
        self._input = inputs[0].name
        self._height, self._width = (
            side if isinstance(side, int) else _FREE_SIZE for side in shape[2:]
        )
        self.detect(np.zeros((8, 8, 3), np.uint8))  # a wrong file is told now

    def detect(self, image: np.ndarray) -> Faces:
        """Find the faces in a picture (H, W, 3) uint8, RGB.

        The picture is scaled to fit the file's input (640 x 640 if that is free), at its top left.
        """
        height, width = image.shape[:2]
        # One side fills the input; the other is cut to whole pixels, in insightface's arithmetic.
        ratio = height / width
        if ratio > self._height / self._width:
            size = max(1, int(self._height / ratio)), self._height
        else:
            size = self._width, max(1, int(self._width * ratio))
        canvas = np.zeros((self._height, self._width, 3), np.uint8)
        canvas[: size[1], : size[0]] = cv2.resize(image, size)
        ready = (canvas.transpose(2, 0, 1)[None].astype(np.float32) - 127.5) / 128
        try:
            outputs = self._session.run(None, {self._input: ready})
        except Exception as error:  # as above
            raise self._refusal(f"it does not run ({error})") from error
        scale = size[1] / height
        boxes, scores, points = self._decode(outputs)
        kept = suppress(boxes, scores, self.overlap)
        return Faces(
            boxes[kept] / scale, scores[kept], None if points is None else points[kept] / scale
        )

    def landmarks(self, image: np.ndarray) -> np.ndarray | None:
        """Return the (5, 2) points of a picture's main face, None without a face.

        Nor is that a face whose points lie farther outside than the picture is wide and high. The
        main face is large and central: of all the one with the greatest area less twice the
        squared distance of its centre from the picture's, as insightface chooses.

        Raises:
            InputError: if the detector has no points.
        """
        boxes, _, points = self.detect(image)
        if points is None:
            raise InputError(f"{self.path}: finds faces but not their five points; use a _kps file")
        if not len(boxes):
            return None
        height, width = image.shape[:2]
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - (width // 2, height // 2)
        main = points[np.argmax(area - 2 * np.square(offset).sum(axis=1))]
        sides = np.array([width, height])
        return main if ((main >= -sides) & (main <= 2 * sides)).all() else None

    def _decode(self, outputs: list[np.ndarray]) -> Faces:
        """Return the anchors that reach the threshold, in pixels of the input."""
        levels, anchors = _LAYOUTS[len(outputs)]
        kinds = dict(zip(_WIDTHS, range(len(outputs) // levels), strict=False))
        found: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
        for level in range(levels):
            stride = 8 << level
            rows, columns = self._height // stride, self._width // stride
            places = np.stack(np.meshgrid(range(columns), range(rows)), axis=-1).reshape(-1, 2)
            places = places.repeat(anchors, axis=0).astype(np.float32) * stride
            level_outputs = {}
            for kind, number in kinds.items():
                values = outputs[number * levels + level]
                if values.size != len(places) * _WIDTHS[kind] or values.shape[-1] != _WIDTHS[kind]:
                    expected = f"{len(places)} x {_WIDTHS[kind]}"
                    raise self._refusal(f"{kind} {values.shape} at stride {stride}, not {expected}")
                level_outputs[kind] = values.reshape(len(places), -1)
            sure = level_outputs["scores"][:, 0] >= self.threshold
            found["scores"].append(level_outputs["scores"][sure, 0])
            ends = level_outputs["boxes"][sure] * (-stride, -stride, stride, stride)
            found["boxes"].append(np.tile(places[sure], 2) + ends)
            if "points" in kinds:
                offsets = level_outputs["points"][sure] * stride
                found["points"].append(np.tile(places[sure], 5) + offsets)
        whole = {kind: np.concatenate(parts, dtype=np.float32) for kind, parts in found.items()}
        points = whole["points"].reshape(-1, 5, 2) if "points" in whole else None
        return Faces(whole["boxes"], whole["scores"], points)

    def _refusal(self, found: str) -> InputError:
        return InputError(
            f"{self.path}: no SCRFD or RetinaFace detector of insightface: {found}; expected an"
            " input (1, 3, H, W) and 6, 9, 10 or 15 outputs, such as det_10g.onnx"
        )


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float) -> np.ndarray:
    """Return which boxes stay, the surest first: greedy non-maximum suppression.

    Boxes count their last pixels (a side is its difference plus one), as insightface has it.

    Args:
        boxes: (N, 4) left, top, right, bottom.
        scores: (N,).
        overlap: a box goes if it shares more than this with one that stays.
    """
    order = np.argsort(-scores, kind="stable")
    area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        corner = np.minimum(boxes[best, 2:], boxes[order, 2:])
        sides = np.maximum(corner - np.maximum(boxes[best, :2], boxes[order, :2]) + 1, 0)
        shared = sides.prod(axis=1)
        order = order[shared <= overlap * (area[best] + area[order] - shared)]
    return np.array(kept, np.int64)
