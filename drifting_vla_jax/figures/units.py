"""Chunks as a person measures them: centimetres from where the end effector is, degrees, opening of the gripper.

A rotation has no three numbers that are safe to subtract: angles jump at 180 degrees, and q and -q are one orientation. So
an expert's orientation is given as its rotation vector from the mean expert orientation, and a predicted one as the
expert's plus the rotation vector that leads from the expert to it. Their difference is then the true error, always the
short way round.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

DIMENSIONS = ("x", "y", "z", "turn x", "turn y", "turn z", "gripper")
UNITS = ("cm", "cm", "cm", "°", "°", "°", "share")
BOUNDARY = ("x", "y", "z", "qx", "qy", "qz", "qw", "gripper")  # a chunk's 8 numbers
BOUNDARY_UNITS = ("cm", "cm", "cm", "", "", "", "", "share")


def measured(chunks: np.ndarray, wanted: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Answers and expert chunks in ``UNITS``.

    Args:
      chunks: [b g h 8]; wanted: [b h 8], both in metres, quaternions x y z w, opening. position: [b 3], m.

    Returns:
      [b g h 7] and [b h 7], positions from ``position``; their difference is the error, see above.
    """
    expert = Rotation.from_quat(wanted[..., 3:7].reshape(-1, 4))
    turned = (expert.mean().inv() * expert).as_rotvec(degrees=True).reshape(*wanted.shape[:-1], 3)
    both = np.broadcast_to(wanted[:, None, :, 3:7], chunks[..., 3:7].shape).reshape(-1, 4)
    errors = (Rotation.from_quat(both).inv() * Rotation.from_quat(chunks[..., 3:7].reshape(-1, 4))).as_rotvec(
        degrees=True
    )
    here = position[:, None]
    return (
        np.concatenate(
            [
                100 * (chunks[..., :3] - here[:, None]),
                turned[:, None] + errors.reshape(*chunks.shape[:-1], 3),
                chunks[..., 7:],
            ],
            axis=-1,
        ),
        np.concatenate([100 * (wanted[..., :3] - here), turned, wanted[..., 7:]], axis=-1),
    )


def one_hemisphere(chunks: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both [..., 8] with every quaternion's sign chosen towards the mean expert orientation (whose w is >= 0)."""
    mean = Rotation.from_quat(wanted[..., 3:7].reshape(-1, 4)).mean().as_quat(canonical=True)

    def signed(actions):
        sign = np.where(actions[..., 3:7] @ mean < 0, -1.0, 1.0)[..., None]
        return np.concatenate([actions[..., :3], sign * actions[..., 3:7], actions[..., 7:]], axis=-1)

    return signed(chunks), signed(wanted)
