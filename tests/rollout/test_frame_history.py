"""What a policy that looks back is shown at each control step."""

import numpy as np

from drifting_vla_jax.rollout.frame_history import FrameHistory


def shown(history, stride, steps):
    """Numbers of the time steps whose images are shown at the last of some control steps."""
    memory = FrameHistory(history, stride)
    for step in range(steps):
        memory.see({"top": np.full((2, 2, 3), step, np.uint8)})
    return memory.shown()["top"][..., 0, 0, 0].tolist()


def test_no_history_is_the_present_image_alone():
    memory = FrameHistory(0, 1)
    memory.see({"top": np.full((2, 2, 3), 7, np.uint8)})
    assert memory.shown()["top"].shape == (2, 2, 3) and not memory.needs_every_step


def test_oldest_first_and_the_first_image_stands_in_for_what_was_before_it():
    assert shown(2, 1, 1) == [0, 0, 0]
    assert shown(2, 1, 2) == [0, 0, 1]
    assert shown(2, 1, 5) == [2, 3, 4]
    assert shown(2, 3, 5) == [0, 1, 4]
    assert shown(2, 3, 20) == [13, 16, 19]
