"""From head coordinates to the pixels of an aligned crop (the ArcFace template)."""

import numpy as np

# insightface's five points in a 112x112 crop: eyes, nose, mouth corners, image-left first.
TEMPLATE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366],
                     [41.5493, 92.3655], [70.7299, 92.2041]])  # fmt: skip
TEMPLATE_SIZE = 112
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


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity (2, 3) that takes points (N, 2) to ``target`` (Umeyama, 1991)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, np.sign(np.linalg.det(u @ vt))])
    turn = (u * sign) @ vt
    scale = (s * sign).sum() / (a**2).sum()
    return np.concatenate(
        [scale * turn, (target.mean(0) - scale * turn @ source.mean(0))[:, None]], 1
    )


def align(landmarks: np.ndarray, size: float, jitter: np.ndarray) -> np.ndarray:
    """Return the similarity that puts projected landmarks (5, 2) on the template of ``size``.

    ``jitter`` (5, 2) is a detector's error, in pixels of the 112-pixel crop.
    """
    return similarity(landmarks, (TEMPLATE + jitter) * (size / TEMPLATE_SIZE))
