"""What every simulator must do, whichever it is."""

import numpy as np
import pytest

from drifting_vla_jax.envs import env as env_lib
from drifting_vla_jax.envs.env import InvalidActionError, make

SIMULATORS = {
    "dummy": (("front", "side"), "reach-red", "reach-rd"),
    "metaworld": (("top", "zoom"), "drawer-open", "drawer-opn"),
}
DOWN = np.array([0.0, 0.5**0.5, 0.0, 0.5**0.5])  # a unit quaternion; Meta-World's own


@pytest.fixture(scope="module", params=SIMULATORS)
def simulator(request):
    cameras, task, typo = SIMULATORS[request.param]
    env = make(request.param, cameras=cameras, image_size=48, frame_skip=4)
    yield env, cameras, task, typo
    env.close()
    env.close()  # a second time does nothing


def target(state, offset=(0.0, 0.0, 0.0), gripper=1.0) -> np.ndarray:
    return np.concatenate([state[:3] + offset, DOWN, [gripper]])


def test_an_observation_is_what_was_asked_for(simulator):
    env, cameras, task, _ = simulator
    observation, instruction = env.reset(task, 0, 3)
    assert tuple(observation.images) == cameras
    assert all(i.shape == (48, 48, 3) and i.dtype == np.uint8 and i.std() > 5 for i in observation.images.values())
    assert observation.state.dtype == np.float32 and observation.state.shape == (len(env.state_names),)
    assert 0 <= observation.state[3] <= 1 and len(instruction) > 5


def test_the_scene_is_a_function_of_the_seed(simulator):
    env, cameras, task, _ = simulator
    first = env.reset(task, 0, 5)[0].images[cameras[0]]
    other = env.reset(task, 0, 6)[0].images[cameras[0]]
    again = env.reset(task, 0, 5)[0].images[cameras[0]]
    assert (first == again).all() and (first != other).any()


def test_an_absolute_target_is_reached(simulator):
    env, _, task, _ = simulator
    observation, _ = env.reset(task, 0, 1)
    goal = target(observation.state, (0.05, -0.03, 0.04))
    for _ in range(15):
        step = env.step(goal, render=False)
    assert np.linalg.norm(step.observation.state[:3] - goal[:3]) < 0.01


def test_the_gripper_opens_and_closes(simulator):
    env, _, task, _ = simulator
    openings = []
    for command in (0.0, 1.0):
        state = env.reset(task, 0, 1)[0].state
        for _ in range(12):
            step = env.step(target(state, gripper=command), render=False)
        openings.append(step.observation.state[3])
    assert openings[0] < openings[1] - 0.1


def test_unrendered_steps_have_no_images(simulator):
    env, cameras, task, _ = simulator
    state = env.reset(task, 0, 1)[0].state
    assert not env.step(target(state), render=False).observation.images
    assert tuple(env.step(target(state)).observation.images) == cameras


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.zeros(7), "shape"),
        (np.full(8, np.nan), "not finite"),
        (np.array([0, 0.6, 0.2, 0, 0, 0, 2, 1.0]), "norm 2.0000; expected 1"),
    ],
)
def test_an_action_that_is_no_pose_is_refused(simulator, action, message):
    env, _, task, _ = simulator
    env.reset(task, 0, 1)
    with pytest.raises(InvalidActionError, match=message):
        env.step(action)


def test_unknown_names_are_refused_with_the_nearest(simulator):
    env, _, task, typo = simulator
    with pytest.raises(ValueError, match=task):
        env.reset(typo, 0, 0)
    with pytest.raises(ValueError, match="camera"):
        type(env)(cameras=("nowhere",), image_size=48, frame_skip=1)
    with pytest.raises(ValueError, match="unknown environment 'pybullet'; expected one of dummy, metaworld"):
        env_lib.make("pybullet", cameras=(), image_size=8, frame_skip=1)
