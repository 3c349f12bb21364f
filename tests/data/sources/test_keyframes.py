"""The keyframe rule, against PerAct's own answers and on cases a reader can check."""

import numpy as np
import pytest

from drifting_vla_jax.data.sources.rlbench import episodes as peract
from drifting_vla_jax.data.sources.rlbench.keyframes import discover
from tests.peract_fixture import expected


@pytest.mark.parametrize("name", sorted(expected()))
def test_the_keypoints_of_peracts_own_code(name, demos):
    assert peract.read_demo(demos / name).keyframes() == expected()[name]["peract_keypoints"]


def moving(gripper, still=()):
    """Discovered keyframes of an arm that moves at 1 rad/s except at the frames ``still``."""
    speed = np.ones((len(gripper), 7))
    speed[list(still)] = 0.1
    return discover(gripper, speed)


@pytest.mark.parametrize(
    ("gripper", "still", "found"),
    [
        ([1] * 8, (), [7]),  # the last
        ([1, 1, 1, 0, 0, 0, 1, 1, 1], (), [3, 6, 8]),  # the gripper
        ([1] * 12, (4,), [4, 11]),  # standing still at exactly 0.1 rad/s
        ([1] * 14, range(3, 14), [3, 8, 13]),  # for long: four frames of rest, and not in the last two frames
        ([1] * 9, (0,), [8]),  # the first frame never is one, but it starts the rest
        ([1] * 9, (0, 3, 5), [5, 8]),
        ([1, 1, 1, 1, 1, 0, 0, 0, 0, 0], (4, 5, 6), [5, 9]),  # the gripper changes nearby: standing does not count
        ([1, 1, 1, 1, 0, 0], (), [5]),  # neighbours at the end: the later one stays
        ([1, 0], (), [1]),
        ([1, 1, 1, 0], (1,), [3]),  # at 1 the frame before the first is the last one, which is closed
    ],
)
def test_cases(gripper, still, found):
    assert moving(gripper, still) == found
