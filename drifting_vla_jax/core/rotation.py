"""Quaternions as matrices, and as the six numbers that networks see: q and -q are one rotation, six numbers have no sign.

quaternion  x y z w (Hamilton), of any length but 0
6d          first and second column of the rotation matrix: where the x and the y axis point; continuous
"""

from __future__ import annotations

import numpy as np


def matrix(quaternion: np.ndarray) -> np.ndarray:
    """Quaternions [*n, 4] as rotation matrices, float64 [*n, 3, 3]; raises ValueError for one without a length."""
    quaternion = np.asarray(quaternion, np.float64)
    norm = np.linalg.norm(quaternion, axis=-1, keepdims=True)
    if not np.all(norm > 0):
        raise ValueError("a quaternion (x y z w) is zero or not finite; expected a rotation")
    x, y, z, w = np.moveaxis(quaternion / norm, -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_6d(quaternion: np.ndarray) -> np.ndarray:
    """Quaternions [*n, 4] as the first two columns of their matrices, one after the other, float64 [*n, 6]."""
    columns = matrix(quaternion)
    return np.concatenate([columns[..., 0], columns[..., 1]], axis=-1)


def angle_degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between unit quaternions [..., 4], in degrees; the same for q and -q."""
    dot = np.clip(np.abs(np.sum(a * b, axis=-1)), 0.0, 1.0)
    return np.degrees(2 * np.arccos(dot))
