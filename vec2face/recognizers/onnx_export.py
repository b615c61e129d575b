"""Recognizers and other networks on faces, written as ONNX files."""

import io
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from vec2face.runtime.files import whole_file

_OPSET = 17


def export(
    module: nn.Module,
    path: Path | str,
    image_size: int,
    *,
    output: str = "features",
    half: bool = False,
) -> None:
    """Write a module (B, 3, S, S) -> (B, D) as ONNX with a free batch.

    Equal weights give equal bytes: nothing of time, place or call is stored. With ``half`` the
    weight matrices and kernels are stored as float16 and cast to float32 when the file is loaded,
    which halves the file and costs about 3 decimal digits of the weights; computing stays float32.
    """
    training = module.training
    example = torch.zeros(1, 3, image_size, image_size, device=next(module.parameters()).device)
    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # The new exporter needs onnxscript and more; the old one serves convolutional nets.
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module.eval(),
                (example,),
                buffer,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=_OPSET,
                input_names=["images"],
                output_names=[output],
                dynamic_axes={"images": {0: "batch"}, output: {0: "batch"}},
            )
    finally:
        module.train(training)
    model = onnx.load_from_string(buffer.getvalue())
    model.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    if half:
        _store_as_half(model.graph)
    onnx.checker.check_model(model)
    with whole_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


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
