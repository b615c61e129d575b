"""Recognizers and other estimators on faces from ONNX files: to extract, to differentiate.

``OnnxRecognizer`` runs a file with onnxruntime, ``to_torch`` turns it into a frozen PyTorch module
for losses (``onnx_export`` writes one). Both take faces as RGB, (x / 255 - 0.5) / 0.5, whatever the
file expects (``onnx_input``), and yield features that are not normalised (docs/method.md).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from vec2face.faces.images import resize, to_tensor
from vec2face.faces.reading import reading
from vec2face.recognizers.convention import Convention
from vec2face.recognizers.onnx_graph import (
    fixed_batch,
    free_batch,
    image_input,
    pinned,
    read_model,
    upgraded,
)
from vec2face.recognizers.onnx_input import convention_of, take_ours
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import threads

_SHOWN = 400  # characters of another library's message


class OnnxRecognizer:
    """A recognizer run by onnxruntime on the CPU.

    The number of threads is the environment's ``VEC2FACE_THREADS``, or all cores this process may
    use. A file that fixes its batch is rewritten to take any; should the rewritten file not give
    the same features, images are run in the file's own batches.

    Args:
        path: the ONNX file; its one input is (N, 3, S, S) float32, its first output (N, D).

    Attributes:
        model: the graph, made to take RGB in [-1, 1].
        convention: what the file itself expects of its input.
        dimension: D, the length of a feature.
        input_size: S in pixels.

    Raises:
        InputError: if the file is none, or has another input or output.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        original, self.convention = _read(path)
        self._input, self.input_size = image_input(original)
        try:
            noise, expected = self._try(original)
        except InputError:
            if fixed_batch(original) is not None:
                raise
            original = pinned(original)
            noise, expected = self._try(original)
        self.model = original
        self.dimension = expected.shape[1]
        if self._fixed is not None:
            self._free(original, noise, expected)

    def _try(self, model: onnx.ModelProto) -> tuple[np.ndarray, np.ndarray]:
        """Run a model on noise; return the noise and its features."""
        self._fixed = fixed_batch(model)
        noise = _noise((self._fixed or 1) + 2, self.input_size)
        try:
            self._session = _session(model)
            found = self._run(noise)
        except Exception as error:  # onnxruntime's exceptions have no common base
            reason = str(error)[:_SHOWN]
            raise InputError(f"{self.path}: onnxruntime cannot run it: {reason}") from error
        if found.ndim != 2 or len(found) != len(noise):
            message = f"{self.path}: its output is {found.shape[1:]} an image; expected (D,)"
            raise InputError(message)
        return noise, found

    def _free(self, original: onnx.ModelProto, noise: np.ndarray, expected: np.ndarray) -> None:
        session, fixed = self._session, self._fixed
        try:
            self._session, self._fixed = _session(free_batch(original)), None
            same = _agree(self._run(noise), expected)
        except Exception:  # as above: the rewritten file does not run
            same = False
        if not same:
            self._session, self._fixed = session, fixed

    def features(
        self, images: np.ndarray | Sequence[np.ndarray], batch_size: int = 64, *, wide: bool = False
    ) -> np.ndarray:
        """Extract features.

        Args:
            images: N times (H, W, 3) uint8 RGB of any size; resized to the file's input.
            batch_size: images at a time; the features do not depend on it beyond float rounding.
            wide: give pixels of -127.5 to 127.5 instead, to see which ones make sense.

        Returns:
            (N, dimension) float32, not normalised.

        Raises:
            InputError: if an image is not (H, W, 3) uint8.
        """
        batches = [np.empty((0, self.dimension), np.float32)]
        for start in range(0, len(images), batch_size):
            batch = []
            for i, image in enumerate(images[start : start + batch_size], start):
                if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                    message = f"image {i} is {image.dtype} {image.shape}; expected uint8 (H, W, 3)"
                    raise InputError(message)
                batch.append(resize(image, self.input_size))
            batches.append(self._run(np.stack(batch), wide=wide))
        return np.concatenate(batches)

    def _run(self, images: np.ndarray, *, wide: bool = False) -> np.ndarray:
        """Run (N, S, S, 3) uint8, in the fixed batches of a file that has them."""
        ready = (images.transpose(0, 3, 1, 2).astype(np.float32) / 255 - 0.5) / 0.5
        if wide:
            ready *= 127.5
        step = self._fixed or len(ready)
        features = []
        for start in range(0, len(ready), step):
            batch = ready[start : start + step]
            missing = step - len(batch)
            full = np.concatenate([batch, np.repeat(batch[-1:], missing, 0)])
            features.append(self._session.run(None, {self._input: full})[0][: len(batch)])
        return np.concatenate(features)


def _read(path: Path | str) -> tuple[onnx.ModelProto, Convention]:
    """Return a model that takes RGB in [-1, 1], and what its file takes."""
    model = read_model(path)
    with reading(path, "download it again"):
        convention = convention_of(model, path)
        take_ours(model, convention)
    return model, convention


def _noise(count: int, size: int) -> np.ndarray:
    """Return images on which two forms of one network are compared."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def _agree(found: np.ndarray, expected: np.ndarray) -> bool:
    scale = float(np.abs(expected).max())
    return found.shape == expected.shape and np.allclose(found, expected, rtol=0, atol=1e-3 * scale)


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    options.use_deterministic_compute = True
    options.log_severity_level = 4  # failures come as exceptions
    # The package onnxruntime-gpu, in onnxruntime's place, has the first of these as well.
    able = onnxruntime.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in able]
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)


class TorchRecognizer(nn.Module):
    """A frozen recognizer, differentiable with respect to its images; made by ``to_torch``.

    Attributes:
        input_size: S in pixels; images of another size are resized (bilinear, antialiased).
        tap_sizes: the spatial size of each tap, from the image inwards.
    """

    def __init__(self, network: fx.GraphModule, input_size: int):
        super().__init__()
        self.input_size = input_size
        taps = _stage_ends(network, input_size)
        self.tap_sizes = [size for size, _ in taps]
        # One graph that yields the features and the taps; what nobody asks for costs nothing extra.
        graph = fx.Graph()
        copied: dict[fx.Node, fx.Node] = {}
        output = graph.graph_copy(network.graph, copied)
        graph.output((output, tuple(copied[node] for _, node in taps)))
        self.network = fx.GraphModule(network, graph)
        self.requires_grad_(requires_grad=False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the module this one is part of does."""
        del mode
        return super().train(mode=False)

    def forward_with_taps(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the features (B, D) and the taps of images (B, 3, H, W) in [-1, 1]."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise InputError(f"images are {tuple(images.shape)}; expected (B, 3, H, W)")
        size = self.input_size
        if images.shape[2:] != (size, size):
            images = functional.interpolate(
                images, (size, size), mode="bilinear", align_corners=False, antialias=True
            )
        features, taps = self.network(images)
        return features, list(taps)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, D), not normalised, of images (B, 3, H, W) in [-1, 1]."""
        return self.forward_with_taps(images)[0]

    def taps(self, images: Tensor) -> list[Tensor]:
        """Return the activations (B, C, h, w) at the end of every resolution stage."""
        return self.forward_with_taps(images)[1]


def to_torch(path: Path | str) -> TorchRecognizer:
    """Turn an ONNX file into a frozen PyTorch module that takes any batch.

    Raises:
        InputError: if the file is none, has another input, holds an operator without a PyTorch
            form in onnx2torch, or that form yields other features than onnxruntime.
    """
    from onnx2torch import convert  # noqa: PLC0415  (slow to import, needed only here)

    runtime = OnnxRecognizer(path)
    model = free_batch(runtime.model)
    try:
        recognizer = TorchRecognizer(convert(upgraded(model)), runtime.input_size)
    except Exception as error:
        reason = str(error)[:_SHOWN]
        raise InputError(
            f"{path}: it has no PyTorch form ({reason}); export it again, with opset 17"
        ) from error
    noise = _noise((fixed_batch(runtime.model) or 1) + 2, recognizer.input_size)
    expected = runtime.features(noise)
    with torch.no_grad():
        found = recognizer(to_tensor(noise)).numpy()
    if not _agree(found, expected):
        message = f"{path}: in PyTorch its features differ; export it again with a free batch"
        raise InputError(message)
    return recognizer


def _stage_ends(network: fx.GraphModule, input_size: int) -> list[tuple[int, fx.Node]]:
    """Find the last activation before each change of spatial size, as (size, node).

    Only nodes that everything passes through count (no edge of the graph leads around them): in a
    residual network these are the sums at the ends of blocks, not activations within a branch.
    """
    ShapeProp(network.eval()).propagate(
        torch.zeros(1, 3, input_size, input_size, dtype=torch.float32)
    )
    nodes = [n for n in network.graph.nodes if n.op not in ("get_attr", "output")]
    place = {node: i for i, node in enumerate(nodes)}
    ends: dict[int, fx.Node] = {}
    reach = 0  # the furthest reader of anything computed so far
    for i, node in enumerate(nodes):
        meta = node.meta.get("tensor_meta")
        shape: tuple[int, ...] = getattr(meta, "shape", ())
        if node.op != "placeholder" and reach <= i and len(shape) == 4 and shape[2] > 1:
            ends[shape[2]] = node
        reach = max([reach, *(place[user] for user in node.users if user in place)])
    return sorted(ends.items(), key=lambda end: -end[0])
