"""Keyframes: the few moments of a demonstration that a planner needs to be told.

PerAct's rule (Shridhar et al., and its published code). Frame i > 0 is a keyframe if

    the gripper opened or closed since frame i - 1,  or  i is the last frame,  or  the arm stands still there:
    no joint is faster than 0.1 rad/s, the gripper does not change from i - 2 to i + 1, i is not among the last two
    frames, and no keyframe of standing still was among the four frames before

and if the last two keyframes are neighbours, the earlier is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

SLOW = 0.1  # rad/s
PAUSE = 4  # frames after a keyframe of standing still in which there is no other


def discover(gripper_open: Sequence[float], joint_velocities: Float[np.ndarray, "t j"]) -> list[int]:
    """Frames of a demonstration of t frames, ascending; the last one is always among them.

    Frames before the first count from the end, as in PerAct's code: at i = 1 the gripper is compared with the last one.
    """
    count, found, wait = len(gripper_open), [], 0
    slow = np.all(np.abs(joint_velocities) <= SLOW, axis=1)
    for i in range(count):
        same = i < count - 2 and len({gripper_open[j] for j in (i - 2, i - 1, i, i + 1)}) == 1
        stands = bool(slow[i]) and same and wait <= 0
        wait = PAUSE if stands else wait - 1
        if i > 0 and (gripper_open[i] != gripper_open[i - 1] or i == count - 1 or stands):
            found.append(i)
    if len(found) > 1 and found[-1] - found[-2] == 1:
        found.pop(-2)
    return found
