"""dvc.yaml names every module that a stage's bytes depend on, so that no result is stale."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
# They say where things are, how often they are saved and who computes them, not what comes out.
WITHOUT_EFFECT = {
    f"vec2face/{name}.py" for name in ("distributed", "files", "params", "runtime/checkpoint")
} | {"stages/__init__.py", "vec2face/__init__.py"}


def imported(program):
    """Return the modules of this project that a program imports, directly or not."""
    seen, rest = set(), [program]
    while rest:
        path = rest.pop()
        if path in seen:
            continue
        seen.add(path)
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
            elif isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            files = (f"{name.replace('.', '/')}.py" for name in names)
            rest += [file for file in files if (ROOT / file).is_file()]
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_it_imports(stage):
    deps = STAGES[stage].get("do", STAGES[stage])["deps"]
    needed = imported(f"stages/{stage}.py") - WITHOUT_EFFECT
    missing = {f for f in needed if not any(f == d or f.startswith(f"{d}/") for d in deps)}
    assert not missing
