"""What every simulator promises (envs/base.py), asked of each that can be had here."""

import functools
import importlib.util

import numpy as np
import pytest

from drifting_vla_jax.core.end_effector import STATE_NAMES
from drifting_vla_jax.envs import base as envs
from drifting_vla_jax.envs import registry

SIDEWAYS, DOWN = (0.0, 0.5**0.5, 0.0, 0.5**0.5), (0.5**0.5, 0.5**0.5, 0.0, 0.0)  # qx qy qz qw
SIMULATORS = {
    "dummy": {
        "task": "reach-red",
        "typo": ("reach-rad", "reach-red"),
        "cameras": ("front", "side"),
        "frame_skip": 2,
        "hand": SIDEWAYS,
    },
    "metaworld": {
        "task": "drawer-open",
        "typo": ("draw-open", "drawer-open"),
        "cameras": ("top", "zoom"),
        "frame_skip": 2,
        "hand": SIDEWAYS,
    },
    "robosuite": {
        "task": "lift",
        "typo": ("lifft", "lift"),
        "cameras": ("agentview", "wrist"),
        "frame_skip": 25,
        "hand": DOWN,
    },
}
STATES = {"robosuite": STATE_NAMES}
SIZE = 48


@pytest.fixture(scope="module", params=SIMULATORS)
def name(request):
    if request.param == "robosuite" and importlib.util.find_spec("robosuite") is None:
        pytest.skip("needs the extra [robosuite] and robosuite itself, see docs/how-to/use-robosuite.md")
    return request.param


@pytest.fixture(scope="module")
def about(name):
    return SIMULATORS[name]


@pytest.fixture(scope="module")
def env(name, about):
    env = registry.make(name, cameras=about["cameras"], image_size=SIZE, frame_skip=about["frame_skip"])
    yield env
    env.close()


def target(position, grip=1.0, hand=SIDEWAYS):
    return np.array([*position, *hand, grip], np.float32)


@pytest.fixture(scope="module")
def action(about):
    return functools.partial(target, hand=about["hand"])


def test_an_observation_has_every_view_and_only_the_named_state(env, about, name):
    observation, instruction = env.reset(about["task"], 0, 0)
    assert tuple(observation.images) == about["cameras"]
    for image in observation.images.values():
        assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8 and image.std() > 5
    assert env.info.state_names == STATES.get(name, ("x", "y", "z", "gripper"))
    assert observation.state.shape == (len(env.info.state_names),) and observation.state.dtype == np.float32
    assert 0 <= observation.state[-1] <= 1
    assert instruction in env.instructions(about["task"])
    assert env.control_hz > 0 and about["task"] in env.info.tasks


def test_the_scene_is_a_function_of_the_seed_alone(env, about, action):
    first, words = env.reset(about["task"], 0, 5)
    other, _ = env.reset(about["task"], 0, 6)
    for _ in range(10):
        env.step(action(first.state[:3] + 0.05, grip=0.0), render=False)
    again, again_words = env.reset(about["task"], 0, 5)
    assert words == again_words
    np.testing.assert_array_equal(first.state, again.state)
    for camera in about["cameras"]:
        np.testing.assert_array_equal(first.images[camera], again.images[camera])
        assert np.any(first.images[camera] != other.images[camera]), f"{camera} shows the same scene for two seeds"


def test_any_integer_is_a_scene_of_its_own(env, about):
    scenes = {
        env.reset(about["task"], 0, seed)[0].images[about["cameras"][0]].tobytes() for seed in (0, 10**9, 2**70, -3)
    }
    assert len(scenes) == 4


def test_paraphrases_vary_with_the_seed(env, about):
    assert len({env.reset(about["task"], 0, seed)[1] for seed in range(12)}) > 1


def test_an_absolute_target_is_reached(env, about, action):
    start = env.reset(about["task"], 0, 1)[0].state[:3].astype(float)
    goal = start + [0.06, -0.05, 0.07]
    for _ in range(20):
        step = env.step(action(goal), render=False)
    assert np.linalg.norm(step.observation.state[:3] - goal) < 0.01


def test_zero_closes_the_gripper_and_one_opens_it(env, about, action):
    openings = {}
    for grip in (0.0, 1.0):
        position = env.reset(about["task"], 0, 1)[0].state[:3]
        for _ in range(20):
            step = env.step(action(position, grip), render=False)
        openings[grip] = step.observation.state[-1]
    assert openings[0.0] < 0.5 < openings[1.0]


def test_rendering_is_skipped_when_not_asked_for_and_changes_nothing(env, about, action):
    def run(render):
        position = env.reset(about["task"], 0, 2)[0].state[:3]
        return [env.step(action(position + 0.05), render=render).observation for _ in range(5)]

    seen, blind = run(True), run(False)
    assert all(not o.images for o in blind) and all(len(o.images) == 2 for o in seen)
    np.testing.assert_array_equal([o.state for o in seen], [o.state for o in blind])


def test_a_picture_for_a_video_of_any_size(env, about):
    env.reset(about["task"], 0, 0)
    image = env.render(about["cameras"][0], 72)
    assert image.shape == (72, 72, 3) and image.dtype == np.uint8


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (np.zeros(7), r"shape \(7,\)"),
        (np.array([np.nan, 0, 0, 0, 0, 0, 1, 1]), "not finite"),
        (np.array([0, 0.6, 0.2, 0, 0, 0, 0.5, 1]), "norm 0.5"),
    ],
)
def test_an_action_that_is_no_pose_is_refused(env, about, bad, said):
    env.reset(about["task"], 0, 0)
    with pytest.raises(envs.InvalidActionError, match=said) as caught:
        env.step(bad)
    assert caught.value.outcome == "invalid_action"


def test_unknown_names_are_refused_and_the_right_ones_offered(name, env, about):
    typo, meant = about["typo"]
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        env.reset(typo, 0, 0)
    with pytest.raises(ValueError, match="unknown variation 7"):
        env.reset(about["task"], 7, 0)
    with pytest.raises(ValueError, match=f"unknown camera 'tob'.*{about['cameras'][0]}"):
        registry.make(name, cameras=("tob",), image_size=SIZE, frame_skip=2)
    with pytest.raises(ValueError, match="unknown simulator 'metawold'; did you mean 'metaworld'"):
        registry.make("metawold", cameras=(), image_size=SIZE, frame_skip=2)


def test_closing_twice_is_harmless_and_stepping_after_it_says_what_to_do(env, about, action):
    env.reset(about["task"], 0, 0)
    env.close()
    env.close()
    with pytest.raises(ValueError, match="call reset"):
        env.step(action([0, 0.6, 0.2]))
    env.reset(about["task"], 0, 0)  # and it can be used again


def test_dummy_succeeds_at_the_ball_it_was_asked_for():
    env = registry.make("dummy", cameras=(), image_size=SIZE, frame_skip=2)
    env.reset("reach-blue", 0, 3)
    red = np.flatnonzero(np.all(env.render("above", 200) == (220, 40, 40), axis=-1))
    assert len(red) > 50
    for _ in range(60):
        picture = env.render("above", 200)
        row, column = np.argwhere(np.all(picture == (40, 80, 230), axis=-1)).mean(0)
        x, y = -0.3 + (column + 0.5) / 200 * 0.6, 0.9 - (row + 0.5) / 200 * 0.6
        side = env.render("front", 200)
        height = 0.4 - (np.argwhere(np.all(side == (40, 80, 230), axis=-1)).mean(0)[0] + 0.5) / 200 * 0.4
        step = env.step(target([x, y, height]), render=False)
        if step.success:
            break
    assert step.success and step.info["metres_left"] < 0.02


def test_dummy_projects_points_to_where_it_draws_them():
    env = registry.make("dummy", cameras=("front", "above"), image_size=48, frame_skip=1)
    observation, _ = env.reset("reach-red", 0, 3)
    ball = env._balls["red"][None]
    for camera in ("front", "above"):
        x, y = (48 * env.project(camera, ball)[0]).astype(int)
        assert observation.images[camera][y, x].tolist() in (
            [220, 40, 40],
            [255, 255, 255],
        )  # the ball, or the hand on it


def test_dummy_fails_by_name():
    env = registry.make("dummy", cameras=(), image_size=SIZE, frame_skip=2)
    env.reset("reach-red", 0, 0)
    with pytest.raises(envs.IKError, match=r"2\.00 m away"):
        env.step(target([2.0, 0.0, 0.0]))
    env.reset("reach-red", 1, 0)
    env.step(target([0, 0.6, 0.2]))
    env.step(target([0, 0.6, 0.2]))
    with pytest.raises(envs.EnvCrashError):
        env.step(target([0, 0.6, 0.2]))
