"""What an ONNX file expects of its pixels, and how it is made to take ours.

An exporter may leave the scaling of pixels in the graph or not, and says nowhere which. So the
range is told from the first nodes; the order of channels leaves no trace, and is RGB unless
``state_convention`` has written another one into the file's metadata.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vec2face.faces.reading import reading
from vec2face.recognizers.convention import Convention
from vec2face.recognizers.onnx_graph import read_model, stored_values
from vec2face.runtime.files import InputError, whole_file

KEY = "vec2face.convention"
"""The entry of ``metadata_props`` that holds a ``Convention`` as JSON."""

UNIT = Convention(mean=0.0, std=1.0)
WIDE = Convention(mean=0.0, std=1 / 255)

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


def convention_of(model: onnx.ModelProto, where: Path | str) -> Convention:
    """Return the convention that is stated in a file, or else told from its first nodes.

    From the input on, nodes are followed as long as they are x * slope + shift with stored numbers
    (Sub, Add, Mul, Div, Cast, a reordering of channels), up to the first batch norm, whose
    statistics are those of its input. The input is 0 to 255 if slopes are below 1 / 16 or what
    becomes 0 lies beyond 16, or if it is cast to whole numbers; it is [0, 1] if what becomes 0 lies
    near 0.5 and slopes are 1.5 or more, as for [0, 1] to [-1, 1]. Else it is [-1, 1].

    Raises:
        InputError: if what is stated is no convention.
    """
    stated = next((entry.value for entry in model.metadata_props if entry.key == KEY), None)
    if stated is not None:
        try:
            return Convention(**json.loads(stated))
        except (TypeError, ValueError, RecursionError) as error:
            message = f"{where}: its {KEY} is no convention ({error}); import it again"
            raise InputError(message) from error
    slope, shift, whole = _first_scaling(model.graph)
    zero = -shift / slope
    if whole or (np.abs(slope) < 1 / 16).all() or (np.abs(zero) > 16).all():
        return WIDE
    unit = (np.abs(slope) >= 1.5) & (zero >= 0.3) & (zero <= 0.6)
    return UNIT if unit.all() else Convention()


def take_ours(model: onnx.ModelProto, convention: Convention) -> None:
    """Make a model of a convention take ours, RGB in [-1, 1]."""
    graph = model.graph
    steps: list[tuple[str, np.ndarray | None]] = []
    if convention.channels == "bgr":
        steps.append(("Gather", np.array([2, 1, 0])))
    if (convention.scale, convention.shift) != (1, 0):
        steps.append(("Mul", np.array([convention.scale], np.float32)))
        steps.append(("Add", np.array([convention.shift], np.float32)))
    if _first_scaling(graph)[2]:
        steps.append(("Round", None))  # a cast to whole numbers would cut 99.99999 to 99
    name = last = graph.input[0].name
    nodes = []
    for number, (kind, stored) in enumerate(steps):
        read, last = [last], f"{name}/ours_{number}"
        if stored is not None:
            read.append(f"{last}/{kind}")
            graph.initializer.append(numpy_helper.from_array(stored, read[1]))
        nodes.append(helper.make_node(kind, read, [last]))
        if kind == "Gather":
            nodes[-1].attribute.append(helper.make_attribute("axis", 1))
    for node in graph.node:
        node.input[:] = [last if read == name else read for read in node.input]
    nodes.extend(graph.node)
    del graph.node[:]
    graph.node.extend(nodes)


def state_convention(
    source: Path | str, destination: Path | str, stated: Mapping[str, Any]
) -> Convention:
    """Write an ONNX file again with its convention in the metadata.

    Args:
        source: the file; tensors kept beside it come into the new one.
        destination: an ``.onnx``.
        stated: fields of ``Convention`` that are other than ``convention_of`` tells.

    Returns:
        The convention.

    Raises:
        InputError: if it is no ONNX file, the destination has another ending, or what is stated is
            no convention.
    """
    if Path(destination).suffix != ".onnx":
        raise InputError(f"{destination}: an ONNX file stays one; name it *.onnx")
    model = read_model(source)
    with reading(source, "download it again"):
        convention = convention_of(model, source).but(stated, source)
    entries = {entry.key: entry.value for entry in model.metadata_props}
    entries[KEY] = json.dumps(asdict(convention), sort_keys=True)
    helper.set_model_props(model, entries)
    with whole_file(destination) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    return convention


def _first_scaling(graph: onnx.GraphProto) -> tuple[np.ndarray, np.ndarray, bool]:
    """Return slope and shift (3,) of the first nodes, and whether they cast to whole numbers."""
    stored = stored_values(graph)
    slope, shift, whole = np.ones(3), np.zeros(3), False
    name = graph.input[0].name
    while len(readers := [node for node in graph.node if name in node.input]) == 1:
        node = readers[0]
        if node.op_type == "Cast":
            whole = whole or helper.get_node_attr_value(node, "to") not in _FLOATS
        step = _affine(node, name, stored)
        if step is None:
            break
        factor, offset = step
        slope, shift = slope * factor, shift * factor + offset
        if node.op_type == "BatchNormalization":
            break
        name = node.output[0]
    return slope, shift, whole


def _affine(
    node: onnx.NodeProto, name: str, stored: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return factor and offset (3,) of a node that reads ``name``; None if it has none."""
    one, zero = np.ones(3), np.zeros(3)
    kind, first = node.op_type, node.input[0] == name
    numbers = [stored.get(read) for read in node.input if read != name]
    # A number a channel or one for all; anything else is no scaling of pixels.
    found = [np.resize(v, 3) for v in numbers if v is not None and v.size in (1, 3)]
    if len(found) != len(numbers) or not all(np.isfinite(v).all() for v in found):
        return None
    if kind in ("Identity", "Cast") or (kind == "Gather" and numbers[0].size == 3):  # type: ignore[union-attr]
        return one, zero
    if kind == "BatchNormalization" and len(found) == 4:
        deviation = np.sqrt(np.maximum(found[3], 1e-12))
        return 1 / deviation, -found[2] / deviation
    if len(found) != 1 or (kind in ("Mul", "Div") and not found[0].all()):
        return None
    number = found[0].astype(np.float64)
    return {
        ("Add", True): (one, number),
        ("Add", False): (one, number),
        ("Sub", True): (one, -number),
        ("Sub", False): (-one, number),
        ("Mul", True): (number, zero),
        ("Mul", False): (number, zero),
        ("Div", True): (1 / number, zero),
    }.get((kind, first))
