"""The code that a stage's result depends on, computed from what its program imports.

Every stage of ``dvc.yaml`` depends on one small file, ``data/code/<stage>``: a checksum for each
module that its program can reach by imports. A changed function therefore reruns exactly the stages
that can reach its module. Comments and docstrings are cut out before, so that they rerun nothing.
Unfinished work is named by the same lines (``vec2face.runtime.resume``).

``vec2face/config`` is left out: it holds no value that decides a byte, and the keys of
``params.yaml`` that do are dependencies of their own.
"""

import ast
import hashlib
import io
import tokenize
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEFT_OUT = "vec2face/config/"


def code_of(stage: str, root: Path = ROOT) -> str:
    """Return a line for each file that the program of a stage reaches: checksum and path.

    Files that are no modules (the paper's tables, page templates) count with the modules of their
    folder. What Python and numba keep in ``__pycache__`` does not, nor do hidden files.

    Args:
        stage: its program's name in ``stages/``.
        root: the folder of ``stages`` and ``vec2face``.
    """
    reachable = reached(f"stages/{stage}.py", root)
    modules = {module for module in reachable if not module.startswith(LEFT_OUT)}
    data = {
        file.relative_to(root).as_posix()
        for folder in {(root / module).parent for module in modules} - {root / "vec2face"}
        for file in folder.rglob("*")
        if file.is_file() and file.suffix not in (".py", ".md")
        if not any(part.startswith((".", "__pycache__")) for part in file.relative_to(root).parts)
    }
    return "".join(f"{_checksum(root / name)}  {name}\n" for name in sorted(modules | data))


def reached(program: str, root: Path = ROOT) -> set[str]:
    """Return the modules below ``root`` that a program imports, itself included, as posix paths.

    Imports inside functions count, so that what a parameter may choose is always among them.
    """
    seen: set[str] = set()
    left = [program]
    while left:
        name = left.pop()
        if name in seen or not (root / name).is_file():
            continue
        seen.add(name)
        for module in _imported((root / name).read_text()):
            parts = module.split(".")
            packages = ["/".join(parts[:n]) + "/__init__.py" for n in range(1, len(parts) + 1)]
            left += ["/".join(parts) + ".py", *packages]
    return seen


@cache
def without_comments(source: str) -> str:
    """Cut comments, docstrings and other bare strings, and what space they leave, out of Python."""
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    spans = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            begin = starts[row - 1] + len(lines[row - 1].decode()[:column].encode())
            spans.append((begin, begin + len(token.string.encode())))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
                spans.append((starts[node.lineno - 1] + node.col_offset, end))
    kept, last = [], 0
    for begin, end in sorted(spans):
        kept.append(source.encode()[last:begin])
        last = end
    text = b"".join([*kept, source.encode()[last:]]).decode()
    return "\n".join(line.rstrip() for line in text.splitlines() if line.strip())


@cache
def _imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def _checksum(path: Path) -> str:
    if path.suffix == ".py":
        content = without_comments(path.read_text()).encode()
    else:
        content = path.read_bytes()
    return hashlib.sha256(content).hexdigest()
