"""The state and the action of RLBench, made from what it says of its gripper; in the data set as in the live simulator.

    gripper_pose  [*n, 7]   x y z (m, world), qx qy qz qw of the tip
    gripper_open  [*n]      1 open, 0 closed: MEASURED from the fingers
    state         [*n, 10]  x y z, where the gripper's x axis and its y axis point (unit, world), gripper_open
    action        [*n, 8]   x y z, unit qx qy qz qw with w >= 0, gripper: see envs/base.py

No quaternion in the state: for a gripper that points down w is about 0, so "w >= 0" changes all four signs from one time
step to the next, and the network would see a hand at rest jump.
"""

from __future__ import annotations

import numpy as np

from drifting_vla_jax.core.rotation import rotation_6d

STATE_NAMES = (
    *("x", "y", "z"),
    *("x_axis_x", "x_axis_y", "x_axis_z", "y_axis_x", "y_axis_y", "y_axis_z"),
    "gripper",
)
HZ = 20.0  # simulator steps, and recorded observations, per second


def make_state(gripper_pose: np.ndarray, gripper_open: np.ndarray | float) -> np.ndarray:
    """The state, float32 [*n, 10]."""
    pose = np.asarray(gripper_pose, np.float64)
    return _joined(pose[..., :3], rotation_6d(pose[..., 3:]), gripper_open)


def make_action(gripper_pose: np.ndarray, gripper_open: np.ndarray | float) -> np.ndarray:
    """The action whose target is this pose and opening, float32 [*n, 8]."""
    pose = np.asarray(gripper_pose, np.float64)
    quaternion = pose[..., 3:] / np.linalg.norm(pose[..., 3:], axis=-1, keepdims=True)
    return _joined(pose[..., :3], np.where(quaternion[..., 3:] < 0, -quaternion, quaternion), gripper_open)


def _joined(position: np.ndarray, orientation: np.ndarray, gripper_open: np.ndarray | float) -> np.ndarray:
    gripper = np.asarray(gripper_open, np.float64)[..., None]
    return np.concatenate([position, orientation, gripper], axis=-1).astype(np.float32)
