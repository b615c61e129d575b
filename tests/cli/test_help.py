"""What the help and the pages say of commands."""

import re
import shlex
import subprocess
import sys

import pytest

from tests.parameters import ROOT
from vec2face.cli import COMMANDS, convert, main, parser
from vec2face.faces.convert import FORMS
from vec2face.faces.webdataset import SHARD

SLOW = ("numpy", "torch", "cv2", "numba", "pydantic", "scipy", "matplotlib", "onnx", "dvc")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def examples(text):
    """The commands in a text, without comments and what a shell does with their output."""
    lines = re.findall(r"^ *python -m vec2face ([^#\n]+)", text, re.MULTILINE)
    return [shlex.split(line.split(" > ")[0]) for line in lines]


def test_help_imports_nothing_slow():
    code = f"""
import sys
from vec2face.cli import main, parser
parser().format_help()
try:
    main(["generate", "--help"])
except SystemExit:
    sys.exit(", ".join(name for name in {SLOW} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "\n")  # an empty list
    assert "python -m vec2face generate sheet.png" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_that_it_takes(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    found = examples(capsys.readouterr().out)
    assert found
    for arguments in found:
        assert arguments[0] == name
        assert parser().parse_args(arguments).run is COMMANDS[name].run
    assert parser().parse_args([*found[0], "--json"]).json


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_can_be_given(page):
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    for arguments in examples("\n".join(blocks)):
        parser().parse_args(arguments)


def test_forms_of_faces_are_those_that_are_written():
    assert (convert.FORMS, convert.SHARD) == (FORMS, SHARD)


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "²", "9" * 30])
def test_a_number_that_is_none_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        main(["generate", "sheet.png", "--seed", text])
    assert "--seed: a whole number from 0" in capsys.readouterr().err
