"""The fingerprint of code: words do not count, what is done does, wherever it is reached."""

import ast
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vec2face.runtime.code import code_of, reached, without_comments

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    path.stem for path in (ROOT / "stages").glob("*.py") if path.stem not in ("__init__", "code")
)


@pytest.fixture
def house(tmp_path):
    """A copy of the project's code, to change."""
    for folder in ("stages", "vec2face"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    return tmp_path


def lines(root):
    return {stage: code_of(stage, root) for stage in PROGRAMS}


def changed(root, module, edit):
    """Return the stages whose lines differ when ``edit`` has changed a module's text."""
    before, path = lines(root), root / module
    path.write_text(edit(path.read_text()))
    after = lines(root)
    return {stage for stage in PROGRAMS if before[stage] != after[stage]}


def commented(text):
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    return "# a remark\n" + text.replace('"""', '"""Other words. ', 1) + "\n\n# the end\n"


def test_comments_and_docstrings_change_no_stage(house):
    before = lines(house)
    for module in house.rglob("*.py"):
        if module.name != "__init__.py":
            module.write_text(commented(module.read_text()))
    assert lines(house) == before


@pytest.mark.parametrize(
    ("module", "some", "others"),
    [
        ("vec2face/identities/cosines.py", {"identities", "dataset"}, {"generator", "features"}),
        ("vec2face/faces/convert.py", set(), set(PROGRAMS)),
        ("vec2face/identities/pca.py", {"pca", "identities", "dataset"}, {"generator", "subset"}),
        ("vec2face/faces/archive.py", {"subset", "features", "pca"}, {"rendered_faces"}),
        ("vec2face/randomness.py", {"evaluate", "dataset", "subset"}, {"rendered_geometry"}),
        ("vec2face/recognizers/vit.py", {"recognizer", "evaluate"}, {"subset", "originals"}),
        ("stages/dataset.py", {"dataset"}, set(PROGRAMS) - {"dataset"}),
        ("vec2face/config/params.py", set(), set(PROGRAMS)),
    ],
)
def test_a_changed_module_changes_the_stages_that_reach_it(house, module, some, others):
    found = changed(house, module, lambda text: text + "\nCHANGED = 1\n")
    assert some <= found
    assert not found & others


def test_a_table_or_template_of_a_room_counts(house):
    table = "vec2face/report/paper/table1.csv"
    assert changed(house, table, lambda text: text + "x") == {"report"}


@pytest.mark.parametrize("file", ["__pycache__/images.f-1.py311.nbi", ".images.py.swp", ".a/b.csv"])
def test_what_running_and_editing_leave_beside_modules_does_not(house, file):
    """Numba keeps what it has compiled there, so that a first run would differ from a second."""
    before = lines(house)
    for room in ("stages", "vec2face/faces", "vec2face/report"):
        (house / room / file).parent.mkdir(exist_ok=True)
        (house / room / file).write_text("left")
    assert lines(house) == before


def test_python_itself_agrees_on_what_is_imported():
    """Every module that a stage has loaded after all its imports is in its closure."""
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    program = (
        "import sys, stages.dataset\n"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'vec2face'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
    )
    loaded = {Path(file).relative_to(ROOT).as_posix() for file in done.stdout.split()}
    assert loaded <= reached("stages/dataset.py")
    assert len(loaded) > 10


SOURCE = '''
"""Say."""
import re  # why

X = "# no comment"  # but this is


class A:
    """Docs
    over lines."""

    y = f"{X}# {1}"
    """What y is: äöü."""

    def f(self):
        \'\'\'Docs.\'\'\'
        text = """
# kept
"""
        return text, "ä"  # ü
'''


def test_what_is_left_is_the_program():
    left = without_comments(SOURCE)
    for gone in ("Say", "why", "but this", "Docs", "What y", "ü"):
        assert gone not in left
    for kept in ('X = "# no comment"', 'f"{X}# {1}"', "\n# kept\n", 'return text, "ä"'):
        assert kept in left
    assert "over lines" not in left


@given(st.lists(st.sampled_from(SOURCE.splitlines()[5:8] + ["# ä remark", ""]), max_size=6))
def test_more_comments_and_blank_lines_change_nothing(between):
    extra = [line for line in between if not line or line.startswith("#")]
    assert without_comments("\n".join([*extra, SOURCE, *extra])) == without_comments(SOURCE)
