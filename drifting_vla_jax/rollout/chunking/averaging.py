"""One action out of several predictions of the same control step.

Positions and gripper are averaged linearly. Rotations: the normalised mean of the quaternions, each with the sign that puts
it in the hemisphere of the last one,

    q = sum_i w_i s_i q_i / |...|,   s_i = +1 if <q_i, q_last> >= 0 else -1

The other form, the largest eigenvector of sum_i w_i q_i q_i^T (Markley et al., J. Guidance 30, 2007), needs no signs but is
not what a blend wants: at 90 degrees apart a weight of 1/4 turns it by 18.4 degrees, this mean by 21.6, a steady turn by 22.5.
And where predictions disagree by more than 180 degrees it may jump between them, while this sum has a length of at
least w_last: every term points to the last one's side. Where they agree the two are the same to third order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WIDTH = 8  # of an action: one end effector's
ROTATION = slice(3, 7)  # of it: qx qy qz qw


def average_actions(actions: np.ndarray, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Actions [n 8] of one step and their weights [n], the leading one last, -> one action [8], float32, w >= 0.

    Weights need not add up to 1; the last must be above 0.

    Raises:
      ValueError: actions of another layout.
    """
    actions, weights = np.asarray(actions, np.float64), np.asarray(weights, np.float64)
    if actions.shape[-1] != WIDTH:
        raise ValueError(
            f"actions of {actions.shape[-1]} numbers are not averaged, only an end effector's {WIDTH}; execute chunks receding"
        )
    mean = weights @ actions / weights.sum()
    quaternions = actions[:, ROTATION]
    signs = np.where(quaternions @ quaternions[-1] >= 0, 1.0, -1.0)
    rotation = (weights * signs) @ quaternions
    rotation /= np.linalg.norm(rotation)
    mean[ROTATION] = -rotation if rotation[3] < 0 else rotation
    return mean.astype(np.float32)
