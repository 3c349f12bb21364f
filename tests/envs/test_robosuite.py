"""robosuite behind the project's interface: the hand goes where it is told and turns as it is told."""

import importlib.util

import numpy as np
import pytest

from drifting_vla_jax.core.rotation import matrix, rotation_6d
from drifting_vla_jax.envs.base import InvalidActionError, random_generator
from drifting_vla_jax.envs.robosuite import env as robosuite
from drifting_vla_jax.envs.robosuite.env import Robosuite, turned

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("robosuite") is None,
    reason="needs the extra [robosuite] and robosuite itself, see docs/how-to/use-robosuite.md",
)
HZ = 20


@pytest.fixture(scope="module")
def env():
    env = Robosuite((), 48, robosuite.SIMULATOR_HZ // HZ)
    yield env
    env.close()


def degrees(a, b):
    return np.degrees(2 * np.arccos(min(1.0, abs(float(np.dot(a, b))))))


def act(env, task, seed, scale, seconds=20):
    """Lets the expert act until success has lasted for half a second; returns whether it did, and all poses."""
    noise, poses, held = random_generator(seed, "action noise"), [], 0
    for _ in range(HZ * seconds - 1):
        success, _, _ = env.act(noise, scale, rest=False)
        poses.append(env.pose())
        held = held + 1 if success else 0
        if held == HZ // 2:
            break
    return held == HZ // 2, np.array(poses)


def test_it_has_twenty_actions_a_second(env):
    assert env.control_hz == HZ and "lift" in env.info.tasks


@pytest.mark.parametrize("seed", range(3))
def test_a_pose_is_reached_in_place_and_in_turn(env, seed):
    env.reset("lift", 0, seed)
    rng = np.random.default_rng(seed)
    goal = env.pose().astype(float)
    goal[:3] += rng.uniform(-0.1, 0.1, 3)
    goal[3:] = turned(goal[3:], np.radians([20, 20, 60]) * rng.uniform(-1, 1, 3))
    for _ in range(2 * HZ):
        env.step(np.append(goal, 1.0), render=False)
    assert np.linalg.norm(env.pose()[:3] - goal[:3]) < 0.004
    assert degrees(env.pose()[3:], goal[3:]) < 0.5


def test_a_target_that_moves_evenly_is_met_when_its_step_ends(env):
    """A recorded target is where the hand was one step later: it must be there again."""
    env.reset("lift", 0, 0)
    start, apart = env.pose().astype(float), []
    for k in range(1, HZ + 1):  # 20 cm and 46 degrees a second
        goal = start.copy()
        goal[1] += 0.2 * k / HZ
        goal[3:] = turned(start[3:], [0.0, 0.0, 0.8 * k / HZ])
        env.step(np.append(goal, 1.0), render=False)
        apart.append((np.linalg.norm(env.pose()[:3] - goal[:3]), degrees(env.pose()[3:], goal[3:])))
    metres, angles = np.array(apart[HZ // 2 :]).max(0)
    assert metres < 0.002 and angles < 1.0, "one step of the way is 10 mm and 2.3 degrees"


def test_the_state_is_the_pose_without_a_sign(env):
    """q and -q are one rotation; a hand that points down has w = 0 and changes from one to the other for nothing."""
    env.reset("lift", 0, 0)
    observation, pose = env.observe(), env.pose()
    np.testing.assert_allclose(observation.state[:3], pose[:3], atol=1e-6)
    np.testing.assert_allclose(observation.state[3:9], rotation_6d(pose[3:]), atol=1e-6)
    assert pose[6] >= 0 and matrix(pose[3:])[2, 2] < -0.95, "its z axis points down"


def test_a_scene_does_not_depend_on_what_ran_before(env):
    first = env.reset("stack", 0, 3)[0].state
    positions = env._data.qpos.copy()
    env.reset("lift", 0, 9)
    act(env, "lift", 9, 0.3, seconds=1)
    again = env.reset("stack", 0, 3)[0].state
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(positions, env._data.qpos)


def test_the_cube_lies_at_every_angle(env):
    angles = []
    for seed in range(24):
        env.reset("lift", 0, seed)
        frame = env._data.body("cube_main").xmat.reshape(3, 3)
        angles.append(np.degrees(np.arctan2(frame[1, 0], frame[0, 0])) % 90)
    assert np.histogram(angles, bins=3, range=(0, 90))[0].min() >= 4


def test_the_wrist_turns_to_the_cube(env):
    """Fingers close on two sides of the cube: the hand's angle is the cube's, but for quarter turns."""
    turns = []
    for seed in range(4):
        env.reset_displaced("lift", 0, seed)
        frame = env._data.body("cube_main").xmat.reshape(3, 3)
        cube = np.degrees(np.arctan2(frame[1, 0], frame[0, 0]))
        success, poses = act(env, "lift", seed, 0.0)
        assert success
        x_axis = matrix(poses[-1, 3:])[:, 0]
        hand = np.degrees(np.arctan2(x_axis[1], x_axis[0]))
        assert abs((hand - cube + 45) % 90 - 45) < 4
        turns.append(hand)
    assert np.ptp(turns) > 20


@pytest.mark.slow
@pytest.mark.parametrize("task", Robosuite.info.tasks)
def test_experts_succeed_under_noise(env, task):
    done = []
    for seed in range(3):
        env.reset_displaced(task, 0, seed)
        done.append(act(env, task, seed, 0.2)[0])
    assert sum(done) >= 2, f"{task}: {done}"


def test_an_action_that_is_no_rotation_is_refused(env):
    env.reset("lift", 0, 0)
    bad = np.append(env.pose(), 1.0)
    bad[3:7] *= 0.5
    with pytest.raises(InvalidActionError, match=r"norm 0\.5"):
        env.step(bad)


def test_a_projected_point_is_where_it_is_drawn(env):
    env.reset("lift", 0, 2)
    picture = env.render("agentview", 96).astype(int)
    row, column = np.argwhere(picture[..., 0] > 30 + 1.5 * picture[..., 1:].max(-1)).mean(0)  # all that is red
    across, down = env.project("agentview", env._data.body("cube_main").xpos[None])[0]
    assert abs(96 * across - column) < 3 and abs(96 * down - row) < 3


def test_names_are_checked():
    with pytest.raises(ValueError, match="did you mean 'stack'"):
        Robosuite.check_task("stak")
    with pytest.raises(ValueError, match="unknown camera 'top' of robosuite; expected one of agentview, wrist"):
        Robosuite(("top",), 48, 25)
