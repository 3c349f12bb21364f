"""Rotations there and back, chunks, and what normalisation must never lose."""

import json

import numpy as np
import pytest

from drifting_vla_jax.core.action_layout import END_EFFECTOR, ActionLayout
from drifting_vla_jax.core.rotation import angle_degrees, rotation_6d
from drifting_vla_jax.data.normalization import (
    ActionNormalizer,
    chunk_indices,
    from_network,
    quaternion_from_6d,
    to_network,
)
from tests.small import episode

HALF = 0.5**0.5
BIMANUAL, JOINTS = ActionLayout("bimanual"), ActionLayout("joints", ("shoulder", "elbow"), ("gripper",))


def quaternions(n=200, seed=0):
    q = np.random.default_rng(seed).standard_normal((n, 4))
    q /= np.linalg.norm(q, axis=-1, keepdims=True)
    return q * np.where(q[:, 3:] < 0, -1, 1)


def test_quaternion_to_6d_and_back():
    q = quaternions()
    np.testing.assert_allclose(quaternion_from_6d(rotation_6d(q)), q, atol=1e-6)


def test_w_comes_back_without_a_sign():
    q = quaternions()
    assert (quaternion_from_6d(rotation_6d(-q))[:, 3] >= 0).all()


@pytest.mark.parametrize("axis", [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [HALF, HALF, 0, 0], [0, -0.6, 0.8, 0]])
def test_half_turns_survive(axis):
    """At 180 degrees w is 0 and the sign of q is free: only the rotation is compared."""
    q = np.array([axis], np.float64)
    back = quaternion_from_6d(rotation_6d(q))
    assert back[0, 3] >= 0
    assert angle_degrees(back, q)[0] < 1e-3


def test_what_a_network_says_becomes_a_unit_quaternion():
    columns = 3 * np.random.default_rng(0).standard_normal((500, 6))
    q = quaternion_from_6d(columns)
    np.testing.assert_allclose(np.linalg.norm(q, axis=-1), 1.0, atol=1e-9)
    assert (q[:, 3] >= 0).all()


def actions_and_position(n=5, h=3):
    rng = np.random.default_rng(1)
    xyz, gripper = rng.uniform(-1, 1, (n, h, 3)), rng.uniform(0, 1, (n, h, 1))
    actions = np.concatenate([xyz, quaternions(n * h).reshape(n, h, 4), gripper], axis=-1)
    return actions.astype(np.float32), rng.uniform(-1, 1, (n, 3))


@pytest.mark.parametrize("frame", ["relative", "absolute"])
def test_from_network_undoes_to_network(frame):
    actions, position = actions_and_position()
    back = from_network(to_network(actions, position, frame), position, frame)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, actions, atol=1e-6)


def test_relative_positions_start_from_the_present_end_effector():
    actions, position = actions_and_position()
    network = to_network(actions, position, "relative")
    np.testing.assert_allclose(network[..., :3], actions[..., :3] - position[:, None], atol=1e-12)
    np.testing.assert_array_equal(to_network(actions, position, "absolute")[..., :3], actions[..., :3])


def test_gripper_is_clipped_to_what_a_gripper_can_do():
    values = to_network(*actions_and_position(1, 2), "absolute")
    values[0, :, 9] = [-0.3, 1.7]
    assert from_network(values, np.zeros((1, 3)), "absolute")[0, :, 7].tolist() == [0.0, 1.0]


def test_chunks_start_one_step_ahead_and_stop_at_the_episodes_end():
    rows, real = chunk_indices(np.array([0, 2]), np.arange(4), np.full(4, 3), 3)
    assert rows.tolist() == [[0, 1, 2], [2, 3, 3]]
    assert real.tolist() == [[True, True, True], [True, True, False]]


def test_a_stride_skips_rows_and_ends_with_the_last():
    """Every second row of an episode of rows 0 to 3: the chunk from 2 has one target, its last."""
    rows, real = chunk_indices(np.array([0, 1, 2, 3]), np.array([1, 2, 3, 3]), np.full(4, 3), 3)
    assert rows.tolist() == [[1, 3, 3], [2, 3, 3], [3, 3, 3], [3, 3, 3]]
    assert real.tolist() == [[True, True, False]] * 2 + [[True, False, False]] * 2


def test_keyframes_follow_one_another():
    """Rows 0 to 5, keyframes at 2, 3 and 5: from row 0 they come in turn; after one comes the next."""
    rows, real = chunk_indices(np.array([0, 2, 3, 4]), np.array([2, 2, 2, 3, 5, 5]), np.full(6, 5), 3)
    assert rows.tolist() == [[2, 3, 5], [2, 3, 5], [3, 5, 5], [5, 5, 5]]
    assert real.tolist() == [[True] * 3, [True] * 3, [True, True, False], [True, False, False]]


def test_entry_k_is_the_pose_k_plus_1_steps_later():
    """In the small episodes the end effector reaches every target, so the target of row t + k is the state at t + k + 1."""
    demo = episode(0)
    rows, real = chunk_indices(np.array([4]), np.arange(len(demo)), np.full(len(demo), len(demo) - 1), 3)
    assert real.all()
    np.testing.assert_array_equal(demo.actions[rows[0], :3], demo.state[[5, 6, 7], :3])


def walks(steps=6):
    """Two episodes: 1 cm per step along +x and along -x; rotation and gripper never change."""
    state, actions = [], []
    for direction in (0.01, -0.01):
        x = direction * np.arange(steps + 1)
        state.append(np.stack([x[:-1], 0 * x[:-1], 0 * x[:-1], 1 + 0 * x[:-1]], axis=1))
        pose = np.tile([0.0, 0.0, 0.0, 0.0, HALF, 0.0, HALF, 0.25], (steps, 1))
        pose[:, 0] = x[1:]
        actions.append(pose)
    last = np.repeat([steps - 1, 2 * steps - 1], steps)
    rows = np.arange(2 * steps)
    return np.concatenate(state).astype(np.float32), np.concatenate(actions).astype(np.float32), rows, last


def test_each_step_of_the_chunk_has_its_own_scale():
    """k + 1 steps of 1 cm to either side: mean 0, standard deviation k + 1 cm, padding left out."""
    space = ActionNormalizer.fit(*walks(), horizon=4, frame="relative")
    np.testing.assert_allclose(space.mean[:, 0], 0.0, atol=1e-8)
    np.testing.assert_allclose(space.std[:, 0], [0.01, 0.02, 0.03, 0.04], rtol=1e-5)


def test_denormalise_undoes_normalise():
    state, actions, rows, last = walks()
    space = ActionNormalizer.fit(state, actions, rows, last, horizon=3, frame="relative")
    rows, _ = chunk_indices(rows, rows, last, 3)
    values = space.normalise(actions[rows], state[:, :3])
    assert values.dtype == np.float32 and values.shape == (12, 3, 10)
    np.testing.assert_allclose(space.denormalise(values, state[:, :3]), actions[rows], atol=1e-6)


def test_what_never_changes_is_masked_and_comes_back_whatever_the_network_says():
    state, actions, rows, last = walks()
    space = ActionNormalizer.fit(state, actions, rows, last, horizon=3, frame="relative")
    assert space.active[:, 0].all() and not space.active[:, 1:].any()
    said = 100 * np.random.default_rng(0).standard_normal((2, 3, 10))
    out = space.denormalise(said, state[:2, :3])
    np.testing.assert_allclose(out[..., 1:], np.broadcast_to(actions[0, 1:], (2, 3, 7)), atol=1e-7)


def test_state_is_centred_and_the_position_comes_back():
    state, actions, rows, last = walks()
    space = ActionNormalizer.fit(state, actions, rows, last, horizon=2, frame="relative")
    normalised = space.normalise_state(state)
    np.testing.assert_allclose(normalised[:, 0].std(), 1.0, rtol=1e-4)
    np.testing.assert_allclose(normalised[:, 3], 0.0)  # the gripper never moved: finite, not 0 / 0
    np.testing.assert_allclose(space.position(normalised), state[:, :3], atol=1e-6)


@pytest.mark.parametrize("frame", ["relative", "absolute"])
@pytest.mark.parametrize("layout", [BIMANUAL, JOINTS, ActionLayout("joints", ("lift",))], ids=str)
def test_every_layout_comes_back(layout, frame):
    """Normalised to unit size, whatever its numbers are; what it is relative to is what the state begins with."""
    actions, state = of_layout(layout)
    rows, last = np.arange(len(state)), np.full(len(state), len(state) - 1)
    space = ActionNormalizer.fit(state, actions, rows, last, 3, frame, layout)
    chunks, now = actions[chunk_indices(rows, rows, last, 3)[0]], state[:, : layout.present_dim]
    values = space.normalise(chunks, now)
    assert values.shape == (len(state), 3, layout.network_dim) and space.active.all()
    np.testing.assert_allclose(values.std((0, 1)), 1.0, atol=0.15)
    np.testing.assert_allclose(space.position(space.normalise_state(state)), now, atol=1e-5)
    np.testing.assert_allclose(space.denormalise(values, now), chunks, atol=1e-5)
    back = ActionNormalizer.from_json(json.loads(json.dumps(space.to_json())))
    assert back.layout == layout and np.array_equal(back.mean, space.mean)


def test_each_arm_is_relative_to_itself_and_each_joint_too():
    """Targets 1 cm ahead of the left arm, 2 cm ahead of the right, 3 rad ahead of the joint; grippers are where they are."""
    now = np.array([[1.0, 2, 3, 40, 50, 60]])
    arm = [0, 0, 0, 1, 0.5]
    both = np.array([[[1.01, 2.01, 3.01, *arm, 40.02, 50.02, 60.02, *arm]]])
    network = to_network(both, now, "relative", BIMANUAL)[0, 0]
    np.testing.assert_allclose(network[[0, 1, 2, 10, 11, 12]], [0.01] * 3 + [0.02] * 3)
    assert network[9] == network[19] == 0.5
    network = to_network(np.array([[[4.0, 5, 0.25]]]), np.array([[1.0, 2]]), "relative", JOINTS)
    np.testing.assert_allclose(network[0, 0], [3, 3, 0.25])
    assert from_network(network + [0, 0, 9], np.array([[1.0, 2]]), "relative", JOINTS)[0, 0].tolist() == [4, 5, 1]


def of_layout(layout, n=60):
    """n rows of random actions and of states that begin with where things are."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(0, 1, (n, layout.dim))
    for i, part in enumerate(part for part in layout.parts if part.kind == "rotation"):
        actions[:, part.boundary] = quaternions(n, seed=i)
    return actions.astype(np.float32), rng.uniform(-1, 1, (n, layout.present_dim + 1)).astype(np.float32)


def test_statistics_survive_json():
    space = ActionNormalizer.fit(*walks(), horizon=3, frame="absolute")
    back = ActionNormalizer.from_json(json.loads(json.dumps(space.to_json())))
    old = ActionNormalizer.from_json({key: value for key, value in space.to_json().items() if key != "layout"})
    assert back.layout == old.layout == END_EFFECTOR
    assert back.frame == "absolute" and back.horizon == 3
    for name in ("mean", "std", "state_mean", "state_std"):
        np.testing.assert_array_equal(getattr(back, name), getattr(space, name))


def test_a_horizon_beyond_every_episode_is_refused():
    with pytest.raises(ValueError, match="horizon is 7, but no episode has more than 6 targets"):
        ActionNormalizer.fit(*walks(), horizon=7, frame="relative")


def test_unknown_frame_is_refused():
    with pytest.raises(ValueError, match=r"config.action.frame is 'wrist'; expected one of relative, absolute"):
        ActionNormalizer.fit(*walks(), horizon=3, frame="wrist")


@pytest.mark.parametrize(
    ("other", "degrees"),
    [
        ([0, 0, 0, 1], 0),
        ([0, 0, 0, -1], 0),
        ([0, 0, HALF, HALF], 90),
        ([1, 0, 0, 0], 180),
        ([0, 0.5, 0, 0.75**0.5], 60),
    ],
)
def test_rotation_error_by_hand(other, degrees):
    error = angle_degrees(np.array([[0.0, 0.0, 0.0, 1.0]]), np.array([other], np.float64))
    np.testing.assert_allclose(error, degrees, atol=1e-5)
