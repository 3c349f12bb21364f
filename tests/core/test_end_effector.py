"""What the network sees of the gripper: continuous, and the same from a file as from the simulator."""

from types import SimpleNamespace

import numpy as np

from drifting_vla_jax.core.end_effector import STATE_NAMES, make_action, make_state
from drifting_vla_jax.core.rotation import angle_degrees
from drifting_vla_jax.data.normalization import quaternion_from_6d
from drifting_vla_jax.data.sources.rlbench.episodes import read_demo
from drifting_vla_jax.data.sources.rlbench.source import to_episode
from drifting_vla_jax.envs.rlbench.env import RLBench

EPISODE = "train/close_jar/all_variations/episodes/episode1"


def test_by_hand():
    """A gripper turned half about x: its y axis points the other way. Open, at (1, 2, 3)."""
    state = make_state(np.array([1, 2, 3, 1, 0, 0, 0.0]), 1.0)
    assert dict(zip(STATE_NAMES, state.tolist())) == {
        **{"x": 1, "y": 2, "z": 3},
        **{"x_axis_x": 1, "x_axis_y": 0, "x_axis_z": 0, "y_axis_x": 0, "y_axis_y": -1, "y_axis_z": 0, "gripper": 1},
    }
    assert state.dtype == np.float32 and state.shape == (10,)


def test_the_state_does_not_jump_where_the_quaternion_changes_its_signs():
    """A gripper that points down and sways by a thousandth of a radian: w passes through 0."""
    sway = np.linspace(-5e-4, 5e-4, 11)
    poses = np.zeros((11, 7))
    poses[:, 3], poses[:, 6] = np.cos(sway), np.sin(sway)
    actions, states = make_action(poses, np.ones(11)), make_state(poses, np.ones(11))
    assert np.abs(np.diff(actions[:, 3:7], axis=0)).max() > 1.9 and (actions[:, 6] >= 0).all()
    assert np.abs(np.diff(states, axis=0)).max() < 3e-4
    np.testing.assert_array_equal(make_state(poses * [1, 1, 1, -1, -1, -1, -1], np.ones(11)), states)


def test_one_pose_has_one_action():
    poses = np.array([[0, 0, 0, 0.6, 0, 0, -0.8], [0, 0, 0, 1.2, 0, 0, 1.6]])
    expected = [[0, 0, 0, -0.6, 0, 0, 0.8, 0], [0, 0, 0, 0.6, 0, 0, 0.8, 1]]
    np.testing.assert_allclose(make_action(poses, np.array([0.0, 1.0])), expected, atol=1e-7)


def test_the_adapter_and_the_data_set_agree_on_a_recorded_observation(demos):
    demo = read_demo(demos / EPISODE)
    episode, adapter = to_episode(demo, ("front",), 0), RLBench.__new__(RLBench)
    adapter._cameras = ()  # all that _observe needs of a simulator
    assert len(RLBench.info.state_names) == episode.state.shape[1] == 10
    for t in range(len(episode)):
        seen = SimpleNamespace(gripper_pose=demo.gripper_pose[t], gripper_open=float(demo.gripper_open[t]))
        np.testing.assert_array_equal(adapter._observe(seen).state, episode.state[t])
    back = quaternion_from_6d(episode.state[:, 3:9])
    assert angle_degrees(back, demo.gripper_pose[:-1, 3:]).max() < 1e-3  # arccos near 1, of float32
