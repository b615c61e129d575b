"""From head coordinates to the picture plane."""

import numpy as np

PIVOT = np.array([0.0, 7.0, 0.1], np.float32)  # dm: the point about which the head turns


def rotation(yaw: float, pitch: float) -> np.ndarray:
    """Return the (3, 3) rotation of a head: right in the picture by yaw, up by pitch (degrees)."""
    y, p = np.radians([yaw, -pitch])
    turn = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    return (nod @ turn).astype(np.float32)


def project(points: np.ndarray, turn: np.ndarray, distance: float) -> np.ndarray:
    """Turn points (N, 3) dm and project them: x right, y down, z towards the camera, in dm."""
    seen = (points - PIVOT) @ turn.T
    scale = distance / (distance - seen[:, 2:])
    return np.concatenate([seen[:, :1] * scale, -seen[:, 1:2] * scale, seen[:, 2:]], 1)
