"""The house along the flow: who may import whom, computed from the imports."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = (
    *("runtime", "config", "randomness"),  # above all
    *("faces", "recognizers", "estimators", "generator", "identities", "dataset"),
    *("evaluation", "report", "rendered", "planning", "cli"),
)


def imports(path):
    """Return the modules of this project that a file imports, by their paths below vec2face."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            names = [f"{node.module}.{name.name}" for name in node.names] + [node.module]
        elif isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        for name in names:
            file = ROOT / f"{name.replace('.', '/')}.py"
            if name.startswith("vec2face.") and file.is_file():
                found.add(file)
    return found


MODULES = sorted((ROOT / "vec2face").rglob("*.py"))
IMPORTS = {path: imports(path) for path in MODULES}


def room(path):
    return path.relative_to(ROOT / "vec2face").parts[0].removesuffix(".py")


def test_every_module_has_a_room():
    assert {room(path) for path in MODULES} - {"__init__", "__main__"} == set(ROOMS)


def test_no_room_imports_one_further_down():
    upward = {
        f"{path.relative_to(ROOT)} imports {target.relative_to(ROOT)}"
        for path, targets in IMPORTS.items()
        for target in targets
        if room(path) != "__main__" and ROOMS.index(room(target)) > ROOMS.index(room(path))
        if room(path) != "__init__"
    }
    assert not upward


def test_no_modules_import_each_other_in_a_circle():
    left = dict(IMPORTS)
    while free := [path for path, targets in left.items() if not targets & left.keys()]:
        left = {path: targets for path, targets in left.items() if path not in free}
    assert not {str(path.relative_to(ROOT)) for path in left}


def test_the_library_imports_no_stage():
    assert not [p for p in MODULES if "from stages" in p.read_text()]
