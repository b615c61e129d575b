"""Stage 1, code: what each stage's program reaches by imports, as checksums of modules.

    python -m stages.code

Reads stages/ and vec2face/; writes data/code/<stage>, on which the stage depends in dvc.yaml: a
changed function reruns the stages that can reach it, a comment reruns no stage but this one.
"""

from pathlib import Path

from stages import run
from stages.artifacts import artifacts
from vec2face.runtime.code import code_of
from vec2face.runtime.files import whole_folder


def main() -> None:
    """Write a file for each program of this folder but this one."""
    programs = {path.stem for path in Path(__file__).parent.glob("*.py")}
    with whole_folder(artifacts.code) as folder:
        for stage in sorted(programs - {"__init__", "artifacts", "code"}):
            (folder / stage).write_text(code_of(stage))


if __name__ == "__main__":
    run(main)
