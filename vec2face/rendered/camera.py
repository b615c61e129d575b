"""From head coordinates to the picture plane."""

import numpy as np

PIVOT = np.array([0.0, 7.0, 0.1], np.float32)  # dm: the head turns about it


def rotation(yaw: float, pitch: float) -> np.ndarray:
    """Return the (3, 3) rotation of a head: degrees; yaw to the picture's right, pitch upwards."""
    y, p = np.radians([yaw, -pitch])
    turn = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    return (nod @ turn).astype(np.float32)


def project(points: np.ndarray, turn: np.ndarray, distance: float) -> np.ndarray:
    """Turn (N, 3) dm and project: x right, y down (units of the picture plane), z to the camera."""
    seen = (points - PIVOT) @ turn.T
    scale = distance / (distance - seen[:, 2:])
    return np.concatenate([seen[:, :1] * scale, -seen[:, 1:2] * scale, seen[:, 2:]], 1)
