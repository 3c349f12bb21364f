"""What a policy takes as a state and gives as an action: nothing honest is refused, no unit, sensor or network believed."""

import json

import numpy as np
import pytest

from drifting_vla_jax.core.action_layout import ActionLayout
from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.data.value_range import Bounds

NAMES = ("x", "y", "z", "gripper", "wrist")
JOINTS = ActionLayout("joints", ("lift", "elbow"), ("hand",))


def arm_space(rows: int = 400) -> ActionNormalizer:
    """An arm that works within half a meter; its gripper closes in one row, its wrist never turns."""
    rng = np.random.default_rng(0)
    state = np.zeros((rows, 5), np.float32)
    state[:, :3] = rng.uniform((-0.1, -0.2, -0.1), (0.4, 0.2, 0.4), (rows, 3))
    state[:2, :3] = (-0.1, -0.2, -0.1), (0.4, 0.2, 0.4)
    state[:, 3], state[7, 3] = 1.0, 0.0
    actions = np.tile(np.float32([0, 0, 0, 0, 0, 0, 1, 1]), (rows, 1))
    actions[:, :3] = state[:, :3] + rng.normal(0, 0.01, (rows, 3))
    return ActionNormalizer.fit(state, actions, np.arange(rows), np.full(rows, rows - 1), 4, "relative")


def joint_space() -> ActionNormalizer:
    angles = np.random.default_rng(0).uniform(-1.5, 1.5, (200, 3)).astype(np.float32)
    return ActionNormalizer.fit(angles, angles, np.arange(200), np.full(200, 199), 4, "absolute", JOINTS)


def old(space: ActionNormalizer) -> ActionNormalizer:
    """As a checkpoint of before the ends were kept has it."""
    return ActionNormalizer.from_json({key: value for key, value in space.to_json().items() if key != "ranges"})


def state(**changes) -> np.ndarray:
    values = dict.fromkeys(NAMES, 0.1) | {"gripper": 1.0, "wrist": 0.0} | changes
    return np.array([values[name] for name in NAMES], np.float32)


def test_the_ends_survive_a_checkpoint_and_old_ones_have_none():
    space = arm_space()
    back = ActionNormalizer.from_json(json.loads(json.dumps(space.to_json())))
    np.testing.assert_array_equal(back.ranges.state, space.ranges.state)
    np.testing.assert_array_equal(back.ranges.actions, space.ranges.actions)
    assert old(space).ranges is None and "ranges" not in old(space).to_json()


@pytest.mark.parametrize("space", [arm_space(), old(arm_space())], ids=["ends known", "old checkpoint"])
def test_what_an_arm_may_show_is_taken(space):
    bounds = Bounds(space, NAMES)
    for honest in ({}, {"gripper": 0.0}, {"wrist": 3.1}, {"wrist": -1e-30}, {"x": 0.9}, {"z": 1.3}):
        bounds.check_state(state(**honest))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z": 612.0}, r'^state\[2\] "z" is 612, the training data lie in -0.1 .. 0.4; is it in millimeters\?$'),
        ({"x": 25.0}, r'state\[0\] "x" is 25, the training data lie in -0.1 .. 0.4; is it in millimeters\?'),
        ({"y": 3e30}, r'state\[1\] "y" is 3e\+30, the training data lie in -0.2 .. 0.2$'),
        ({"gripper": 255.0}, r'state\[3\] "gripper" is 255, the training data lie in 0 .. 1$'),
        ({"wrist": 90.0}, r'"wrist" is 90, the training data lie in 0 .. 0$'),
        ({"x": 300.0, "y": 150.0}, r'"x" is 300, .*millimeters\? \(2 entries are far outside\)$'),
        ({"x": np.nan}, r"x\" is nan"),
        ({"x": -np.inf}, r"x\" is -inf"),
    ],
)
def test_what_no_sensor_of_the_data_could_say_is_refused_by_name(changes, message):
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
        Bounds(arm_space(), NAMES).check_state(state(**changes))


def test_an_old_checkpoint_refuses_by_mean_and_deviation():
    with pytest.raises(
        ValueError, match=r"state\[2\] is 612, at most .* from the training data's mean 0\.1\d* was exp"
    ):
        Bounds(old(arm_space())).check_state(state(z=612.0))


def test_degrees_for_radians_are_recognized():
    bounds = Bounds(joint_space(), ("lift", "elbow", "hand"))
    bounds.check_state(np.float32([3.1, -3.1, 0]))
    with pytest.raises(ValueError, match=r'"elbow" is -80, .*; is it in degrees\?'):
        bounds.check_state(np.float32([0.1, -80, 0]))


@pytest.mark.parametrize("space", [arm_space(), joint_space(), old(arm_space()), old(joint_space())])
def test_chunks_of_the_data_are_sound_and_absurd_ones_are_not(space):
    bounds, width = Bounds(space), space.mean.shape[-1]
    rng = np.random.default_rng(1)
    assert bounds.unsound(rng.normal(0, 3, (8, 4, width)).astype(np.float32)) is None
    assert bounds.unsound(np.zeros((0, 4, width), np.float32)) is None
    chunk = np.zeros((2, 4, width), np.float32)
    chunk[1, 2, 0] = 1e7
    first = space.layout.names[0]
    assert f'target 2 of the chunk has "{first}" = ' in bounds.unsound(chunk)
    for value in (np.nan, np.inf):
        assert bounds.unsound(np.full((1, 4, width), value)) == "the policy's actions are not finite"


def test_every_state_and_target_of_the_training_data_is_taken():
    """Outliers too: what was learned from is no mistake."""
    rng = np.random.default_rng(2)
    states = rng.standard_cauchy((500, 5)).astype(np.float32)
    actions = np.concatenate([states[:, :3], np.tile([0, 0, 0, 1, 1], (500, 1))], 1).astype(np.float32)
    space = ActionNormalizer.fit(states, actions, np.arange(500), np.full(500, 499), 1, "absolute")
    bounds = Bounds(space)
    for row in states:
        bounds.check_state(row)
    assert bounds.unsound(space.normalise(actions[:, None], states[:, :3])) is None
