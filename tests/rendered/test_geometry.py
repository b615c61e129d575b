import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vec2face.rendered.geometry import load_geometry, vertex_normals
from vec2face.rendered.makehuman import EYE_LEFT, EYE_RIGHT, SKIN, TEETH, TONGUE
from vec2face.runtime.files import InputError


def test_landmarks_lie_where_a_face_has_them(geometry):
    nose, left, right = geometry.mean[geometry.landmarks[2:]]
    eyes = [geometry.mean[ball].mean(0) for ball in geometry.eyeballs]
    assert eyes[0][0] > 0.2 > -0.2 > eyes[1][0]  # the subject's left eye is at +x
    assert left[0] > 0.1 > -0.1 > right[0]
    assert min(e[1] for e in eyes) > nose[1] > max(left[1], right[1])
    assert nose[2] > left[2] > eyes[0][2]  # towards the camera: nose, mouth, eyes
    assert abs(nose[0]) < 0.02
    assert np.allclose(left * [-1, 1, 1], right, atol=0.02)


def test_every_target_that_is_not_one_sided_moves_both_sides_alike(geometry):
    moved = np.abs(geometry.deltas[geometry.index("chin/chin-width-incr")]).sum(1)
    left, right = geometry.mean[:, 0] > 0.01, geometry.mean[:, 0] < -0.01
    assert moved[left].sum() == pytest.approx(moved[right].sum(), rel=0.02)
    assert moved[geometry.mean[:, 1] > 7.4].max() < 1e-3  # and no forehead


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from(["float32", "float64"]))
def test_a_vertex_normal_is_the_mean_of_its_triangles_weighted_by_area(seed, kind):
    draw = np.random.default_rng(seed)
    vertices = draw.normal(size=(8, 3)).astype(kind)
    triangles = np.array([draw.choice(8, 3, replace=False) for _ in range(12)], np.int32)
    found = vertex_normals(vertices, triangles)
    for v in range(8):
        total = np.zeros(3)
        for a, b, c in vertices[triangles[(triangles == v).any(1)]].astype(float):
            total += np.cross(b - a, c - a)  # twice the area long
        length = np.linalg.norm(total)
        if length > 0.1:
            assert np.allclose(found[v], total / length, atol=1e-4)
        elif v not in triangles:  # triangles that cancel leave rounding
            assert not found[v].any()


def test_the_skin_faces_outwards_and_eyes_lie_behind_lids(geometry):
    normals = vertex_normals(geometry.mean, geometry.triangles)
    nose = geometry.landmarks[2]
    assert normals[nose, 2] > 0.7
    assert set(np.unique(geometry.parts)) >= {SKIN, EYE_LEFT, EYE_RIGHT}


def test_what_is_hollow_sees_less_sky(geometry):
    assert geometry.occlusion.min() >= 0
    assert geometry.occlusion.max() <= 1
    crown = np.argmax(geometry.mean[:, 1])
    mouth = np.unique(geometry.triangles[np.isin(geometry.parts, [TEETH, TONGUE])])
    assert geometry.occlusion[crown] > 0.9
    assert geometry.occlusion[mouth].mean() < 0.2


def test_hair_is_rooted_in_the_scalp(geometry):
    total = geometry.hair_weights.sum(-1)
    assert np.all(np.isclose(total, 1, atol=1e-5) | (total == 0))
    roots = (geometry.mean[geometry.hair_vertices] * geometry.hair_weights[..., None]).sum(2)
    assert roots[0, :, 1].min() > 8.3  # the first row is the crown
    front = roots[8, geometry.hair_vertices.shape[1] // 2]
    assert front[2] > 0.5  # the middle column faces forwards
    assert abs(front[0]) < 0.02


def test_a_file_that_is_no_head_is_named(tmp_path):
    for content in (None, b"nothing", b""):
        path = tmp_path / "head.npz"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=r"head\.npz.*geometry"):
            load_geometry(path)
    np.savez(path, vertices=np.zeros(3))
    with pytest.raises(InputError, match=r"head\.npz"):
        load_geometry(path)
