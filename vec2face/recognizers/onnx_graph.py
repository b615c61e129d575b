"""ONNX recognizers as graphs: read with care, freed from a fixed batch size.

Published recognizers often fix a batch of one, in the input's shape and in the constants of Reshape
nodes. ``free_batch`` rewrites both, so that one file serves any batch.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.shape_inference import infer_shapes
from onnx.version_converter import convert_version

from vec2face.runtime.files import InputError

_BATCH = "batch"
_OPSET = 9
_KINDS = {kind: name.lower() for name, kind in onnx.TensorProto.DataType.items()}
_MOST_PIXELS = 2**24  # of one call, such as 1024 images of 128 x 128: what is tried stays small


def read_model(path: Path | str) -> onnx.ModelProto:
    """Read an ONNX file with one image input (N, 3, S, S) float32; N fixed or free.

    The pixels it takes are its own (``onnx_input``).

    Raises:
        InputError: if the file is missing, is no ONNX model, or takes another input.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path}: no such ONNX file; give a recognizer's (.onnx, .safetensors or a checkpoint)"
        )
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        for tensor in model.graph.initializer:
            numpy_helper.to_array(tensor)  # raises where data and shape differ
        for node in model.graph.node:
            _constant(node)
    except Exception as error:  # protobuf and the checker raise unrelated types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: not an ONNX model ({reason}); download it again") from error
    if any(node.op_type in ("Loop", "Scan") for node in model.graph.node):
        raise InputError(f"{path}: it holds a loop, which could run for ever; export it without")
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in stored]
    expected = "expected one float32 input of (batch, 3, S, S)"
    if len(inputs) != 1 or not model.graph.output:
        names = ", ".join(value.name for value in inputs) or "none"
        raise InputError(f"{path}: {len(inputs)} inputs ({names}); {expected}")
    kind, shape = inputs[0].type.tensor_type.elem_type, _shape(inputs[0])
    if kind != onnx.TensorProto.FLOAT:
        name = _KINDS.get(kind, f"of kind {kind}")
        raise InputError(f"{path}: the input {inputs[0].name} is {name}; {expected}")
    if len(shape) != 4 or shape[1] != 3 or shape[2] is None or shape[2] != shape[3]:
        found = ", ".join("?" if side is None else str(side) for side in shape)
        raise InputError(f"{path}: the input {inputs[0].name} is ({found}); {expected}")
    if (shape[0] or 1) * shape[2] ** 2 > _MOST_PIXELS:
        raise InputError(
            f"{path}: the input takes {shape[0] or 1} images of {shape[2]} pixels a side"
        )
    del model.graph.input[:]
    model.graph.input.extend(inputs)  # old files list their weights as inputs too
    return model


def image_input(model: onnx.ModelProto) -> tuple[str, int]:
    """Return the input's name and its side S in pixels."""
    value = model.graph.input[0]
    return value.name, value.type.tensor_type.shape.dim[2].dim_value


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """Return the batch size the file fixes, None if it takes any."""
    return _shape(model.graph.input[0])[0]


def pinned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that fixes a batch of one.

    Exporters leave a batch free in the input that the graph's Reshapes fix to the one of their
    example.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    for output in copy.graph.output:
        if output.type.tensor_type.shape.dim:
            output.type.tensor_type.shape.dim[0].dim_value = 1
    return copy


def free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that takes any batch and has its first output only.

    Only the first dimension of input, output and Reshapes changes. Constants become initialisers,
    and initialisers that are cast on use (float16 in small files) are cast here: converters to
    other frameworks look for weights among the initialisers.
    """
    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    graph = freed.graph
    _fold_constants(graph)
    batch = fixed_batch(freed)
    if batch is not None:
        _free_reshapes(freed, batch)
    del graph.value_info[:]  # it repeats the old shapes
    del graph.output[1:]
    for value in (graph.input[0], graph.output[0]):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    return freed


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    dims = value.type.tensor_type.shape.dim
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in dims
    ]


def upgraded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of today's operators: those before opset 9 have no PyTorch form."""
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), _OPSET)
    if version >= _OPSET:
        return model
    newer = onnx.ModelProto()
    newer.CopyFrom(model)
    newer.ir_version = max(model.ir_version, 4)  # weights need be no inputs
    return convert_version(newer, _OPSET)


def stored_values(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Return what is stored in a graph by its name: initialisers, constants, and casts of those."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if (value := _constant(node)) is not None:
            values[node.output[0]] = value
        elif node.op_type in ("Cast", "Identity") and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    return values


def _fold_constants(graph: onnx.GraphProto) -> None:
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        value = _constant(node)
        if node.op_type == "Cast" and node.input[0] in tensors:
            kind = helper.get_node_attr_value(node, "to")
            stored = numpy_helper.to_array(tensors[node.input[0]])
            value = stored.astype(helper.tensor_dtype_to_np_dtype(kind))
        if value is None:
            kept.append(node)
            continue
        tensors[node.output[0]] = numpy_helper.from_array(value, node.output[0])
    used = {name for node in kept for name in node.input} | {value.name for value in graph.output}
    del graph.node[:]
    graph.node.extend(kept)
    del graph.initializer[:]
    graph.initializer.extend(tensor for name, tensor in tensors.items() if name in used)


def _constant(node: onnx.NodeProto) -> np.ndarray | None:
    if node.op_type != "Constant":
        return None
    attribute = node.attribute[0]
    value = helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return numpy_helper.to_array(value)
    if attribute.name in ("value_float", "value_floats"):
        return np.array(value, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.array(value, np.int64)
    return None


def _free_reshapes(model: onnx.ModelProto, batch: int) -> None:
    graph = model.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    inferred = infer_shapes(model).graph
    shapes = {v.name: _shape(v) for v in (*inferred.value_info, *inferred.input, *inferred.output)}
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] not in values:
            continue
        target = values[node.input[1]].tolist()
        source, result = shapes.get(node.input[0], [None]), shapes.get(node.output[0], [None])
        if not target or target[0] not in (batch, -1) or source[:1] != [batch]:
            continue
        if result[:1] == [batch] and None not in result:
            target = [-1, *result[1:]]
        elif target[0] == batch:
            target[0] = 0  # copy the batch of what comes in
        name = f"{node.output[0]}/free_batch_{number}"
        graph.initializer.append(numpy_helper.from_array(np.array(target, np.int64), name))
        node.input[1] = name
