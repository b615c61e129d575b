import numpy as np

from vec2face.rendered.camera import PIVOT, project, rotation


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
