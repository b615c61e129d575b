"""Networks written as ONNX files, and compared with what onnxruntime makes of these."""

import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from vec2face.recognizers.convention import Convention
from vec2face.recognizers.onnx_input import KEY
from vec2face.runtime.files import InputError, whole_file

_OPSET = 17
_CLOSE = 1e-3  # of the largest number: how far onnxruntime's may be off


def export(
    module: nn.Module,
    path: Path | str,
    image_size: int,
    *,
    output: str = "features",
    half: bool = False,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write a module (B, 3, S, S) -> (B, D) as ONNX with a free batch; see ``write_onnx``."""
    device = next(module.parameters()).device
    images = torch.zeros(1, 3, image_size, image_size, device=device)
    write_onnx(module, path, {"images": images}, output, half=half, about=about)


def export_recognizer(recognizer: nn.Module, path: Path | str) -> float:
    """Write a recognizer as ONNX, once onnxruntime has given the same features with it.

    Args:
        recognizer: with ``image_size``; it takes RGB in [-1, 1], which the file's metadata say.
        path: the file.

    Returns:
        How far the features are off, as a share of the largest number.

    Raises:
        InputError: if they are off by more than a thousandth; then nothing is written.
    """
    size: int = recognizer.image_size  # type: ignore[assignment]
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    about = {KEY: json.dumps(asdict(Convention()), sort_keys=True)}
    with torch.no_grad(), whole_file(path) as temporary:
        export(recognizer, temporary, size, about=about)
        return check_onnx(temporary, recognizer.eval()(images), {"images": images})


def write_onnx(
    module: nn.Module,
    path: Path | str,
    inputs: Mapping[str, Tensor],
    output: str,
    *,
    half: bool = False,
    about: Mapping[str, str] | None = None,
) -> None:
    """Write a module as ONNX whose first axis is a free batch, of all inputs and of the output.

    Equal weights give equal bytes: nothing of time, place or call is stored.

    Args:
        module: what to write.
        path: the file.
        inputs: an example of each, by its name, in the order of the module's arguments.
        output: the output's name.
        half: store weight matrices and kernels as float16, cast to float32 when the file is
            loaded. It halves the file and costs about 3 decimal digits of the weights; computing
            stays float32.
        about: metadata of the file.
    """
    training = module.training
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            shape = module.eval()(*inputs.values()).shape
            # The new exporter needs onnxscript and more; the old one serves convolutional nets.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module,
                tuple(inputs.values()),
                buffer,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=_OPSET,
                input_names=[*inputs],
                output_names=[output],
                dynamic_axes={name: {0: "batch"} for name in (*inputs, output)},
            )
    finally:
        module.train(training)
    model = onnx.load_from_string(buffer.getvalue())
    sides = model.graph.output[0].type.tensor_type.shape.dim
    for side, size in zip(sides[1:], shape[1:], strict=True):
        side.dim_value = size  # the exporter may have lost it
    model.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    if half:
        _store_as_half(model.graph)
    if about:
        helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model)
    with whole_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def check_onnx(path: Path | str, expected: Tensor, inputs: Mapping[str, Tensor]) -> float:
    """Run a file with onnxruntime; return how far its output is off, as a share of the largest.

    Raises:
        InputError: if it is off by more than a thousandth.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # failures come as exceptions
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    found = session.run(None, {name: value.cpu().numpy() for name, value in inputs.items()})[0]
    wanted = expected.detach().cpu().numpy()
    off = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not off <= _CLOSE:
        raise InputError(f"{path}: onnxruntime's numbers are off by {off:.1g} of the largest")
    return off


def _store_as_half(graph: onnx.GraphProto) -> None:
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        limit = np.finfo(np.float16).max
        if values.dtype != np.float32 or values.ndim < 2 or np.abs(values).max(initial=0) > limit:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/half"))
        casts.append(helper.make_node("Cast", [f"{name}/half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
