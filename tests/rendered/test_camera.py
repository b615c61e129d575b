import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vec2face.rendered.camera import PIVOT, TEMPLATE, align, project, rotation, similarity


@given(
    st.floats(0.2, 5),
    st.floats(-3.1, 3.1),
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.integers(0, 1000),
)
def test_a_similarity_is_recovered(scale, angle, dx, dy, seed):
    points = np.random.default_rng(seed).normal(size=(5, 2))
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    matrix = np.array([[c, -s, dx], [s, c, dy]])
    moved = points @ matrix[:, :2].T + matrix[:, 2]
    assert np.allclose(similarity(points, moved), matrix, atol=1e-8)


def test_a_mirrored_face_is_not_flipped_back():
    mirrored = TEMPLATE * [-1, 1]
    matrix = similarity(mirrored, TEMPLATE)
    assert np.linalg.det(matrix[:, :2]) > 0


def test_yaw_turns_to_the_picture_s_right_and_pitch_upwards():
    nose = PIVOT + [0, 0, 1.4]
    right = project(nose[None], rotation(30, 0), 10)[0]
    up = project(nose[None], rotation(0, 20), 10)[0]
    assert right[0] > 0.5  # x grows to the right
    assert abs(right[1]) < 1e-6
    assert up[1] < -0.3  # y grows downwards
    assert abs(up[0]) < 1e-6


def test_near_things_are_larger():
    points = np.stack([PIVOT + [1, 0, 1], PIVOT + [1, 0, -1]]).astype(np.float32)
    near, far = project(points, rotation(0, 0), 8)[:, 0]
    assert near > 1 > far


def test_the_template_scales_with_the_picture_and_jitter_moves_it():
    still = np.zeros((5, 2))
    matrix = align(TEMPLATE, 56, still)
    assert np.allclose(matrix, [[0.5, 0, 0], [0, 0.5, 0]], atol=1e-9)
    moved = align(TEMPLATE, 112, still + [3, 0])
    assert np.allclose(moved, [[1, 0, 3], [0, 1, 0]], atol=1e-9)
