"""A YAML file as plain values, of bounded size and depth, in which no key stands twice."""

from pathlib import Path
from typing import Any

import yaml

from vec2face.runtime.files import InputError

LARGEST = 2**18  # bytes
DEEPEST = 20  # values within one another


def read_yaml(path: Path | str) -> Any:
    """Return a file's content.

    Raises:
        InputError: the file is missing, no YAML or too large, or a key stands twice.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > LARGEST:
        raise InputError(f"{path}: is above {LARGEST} bytes; give a parameter file")
    try:
        return yaml.load(content.decode("utf-8"), _Loader)  # noqa: S506 - it is a SafeLoader
    except _TwiceError as error:
        raise InputError(f"{path}: {error}; keep one of them") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not YAML: {error}") from error


class _TwiceError(ValueError):
    pass


class _Loader(yaml.SafeLoader):
    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f"over {DEEPEST} values lie within one another")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    where = f"lines {lines[key.value]} and {line}"
                    raise _TwiceError(f"{key.value} stands twice in one section, {where}")
                lines[key.value] = line
        return node
