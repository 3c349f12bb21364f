"""The Meta-World adapter beyond the common contract: its 50 tasks, its pictures, its limits, its expert."""

import numpy as np
import pytest

from drifting_vla_jax.envs import mujoco_rendering
from drifting_vla_jax.envs.base import check_action
from drifting_vla_jax.envs.metaworld import env as metaworld
from drifting_vla_jax.envs.metaworld.tasks import DIFFICULTY, INSTRUCTIONS


@pytest.fixture(scope="module")
def env():
    env = metaworld.MetaWorld(("top", "zoom"), 64, 2)
    yield env
    env.close()


def test_every_task_with_an_expert_has_a_name_and_words(env):
    from metaworld.env_dict import ENV_CLS_MAP
    from metaworld.policies import ENV_POLICY_MAP

    assert {f"{t}-v3" for t in env.info.tasks} == set(ENV_CLS_MAP) == set(ENV_POLICY_MAP)
    for task, phrases in INSTRUCTIONS.items():
        assert 4 <= len(set(phrases)) == len(phrases) <= 6, task
        assert all(len(p.encode()) <= 44 for p in phrases), task
    everything = [phrase for phrases in INSTRUCTIONS.values() for phrase in phrases]
    assert len(everything) == len(set(everything)), "two tasks are asked for in the same words"


def test_difficulty_groups_are_the_published_ones():
    assert {name: len(tasks) for name, tasks in DIFFICULTY.items()} == {
        "easy": 28,
        "medium": 11,
        "hard": 6,
        "very hard": 5,
    }
    assert sorted(t for tasks in DIFFICULTY.values() for t in tasks) == sorted(INSTRUCTIONS)


def test_the_scene_does_not_depend_on_what_ran_before(env):
    """Resetting moves bodies and sites of the model; they must not be carried into the next scene."""

    def scene(seed):
        env.reset("door-open", 0, seed)
        data = env._sim.data
        return np.concatenate([data.qpos, data.qvel, data.geom_xpos.ravel(), data.site_xpos.ravel(), env._privileged])

    fresh = scene(7)
    scene(8)
    for _ in range(40):
        env.advance(env.expert_command())
    np.testing.assert_array_equal(fresh, scene(7))
    env.reset("drawer-open", 0, 0)
    np.testing.assert_array_equal(fresh, scene(7))


def test_goals_differ_from_seed_to_seed(env):
    goals = []
    for seed in range(20):
        env.reset("drawer-open", 0, seed)
        goals.append(env._sim._target_pos.copy())
    assert len(np.unique(np.round(goals, 6), axis=0)) == 20
    assert np.ptp(goals, axis=0)[0] > 0.1  # over the whole width that Meta-World allows, 20 cm


def test_the_quaternion_is_unit_and_constant(env):
    env.reset("drawer-open", 0, 0)
    first = env.pose()
    for _ in range(20):
        env.advance(env.expert_command())
    last = env.pose()
    assert first.dtype == np.float32 and first.shape == (7,)
    np.testing.assert_array_equal(first[3:], last[3:])
    assert np.linalg.norm(first[3:]) == pytest.approx(1, abs=1e-6) and first[6] >= 0
    check_action(np.append(first, 1.0))
    w, x, y, z = env._sim.data.body("mocap").xquat
    np.testing.assert_allclose(first[3:], [x, y, z, w], atol=1e-6)  # Hamilton, x y z w
    assert abs(np.dot(first[3:], env._sim.data.body("hand").xquat[[1, 2, 3, 0]])) > 0.99  # within 16 degrees


def test_an_episode_ends_after_500_simulator_steps_without_an_error(env):
    observation, _ = env.reset("drawer-open", 0, 0)
    hold = np.array([*observation.state[:3], *metaworld.HAND_QUATERNION, 1.0])
    ends = [env.step(hold, render=False).done for _ in range(250)]
    assert ends[-1] and not any(ends[:-1])
    with pytest.raises(ValueError, match="ended after 500 simulator steps; reset"):
        env.step(hold)


def test_an_odd_frame_skip_ends_in_time_too():
    env = metaworld.MetaWorld((), 64, 7)
    observation, _ = env.reset("drawer-open", 0, 0)
    hold = np.array([*observation.state[:3], *metaworld.HAND_QUATERNION, 1.0])
    steps = 0
    while not env.step(hold).done:
        steps += 1
    assert steps == 500 // 7 and env.control_hz == pytest.approx(80 / 7)
    env.close()


@pytest.mark.parametrize("task", ["button-press-topdown", "drawer-open", "window-open"])
def test_the_expert_succeeds_and_success_is_read_now_not_latched(env, task):
    env.reset(task, 0, 3)
    seen = []
    for _ in range(400):
        success, _ = env.advance(env.expert_command())
        seen.append(success)
        if success:
            break
    assert seen[-1] and not seen[0]
    env.reset(task, 0, 3)
    step = env.step(np.append(env.pose(), 1.0), render=False)
    assert not step.success


def test_displaced_starts_are_near_and_functions_of_the_seed(env):
    plain = env.reset("drawer-open", 0, 0)[0].state[:3]
    starts = [env.reset_displaced("drawer-open", 0, seed)[0].state[:3] for seed in (1, 2, 1)]
    np.testing.assert_array_equal(starts[0], starts[2])
    assert np.linalg.norm(starts[0] - starts[1]) > 0.01
    assert all(0.005 < np.linalg.norm(s - plain) < 0.2 for s in starts)
    assert env._sim.curr_path_length == 0  # the way there is not part of the episode


def test_a_target_is_where_the_hand_is_and_what_it_presses(env):
    """Against a drawer that is shut the target lies behind it and keeps the pressure; the hand's own pose lets go of it."""

    def ahead():
        return (env.holding_target() - env.pose()[:3])[1]

    def shut():
        env.reset("drawer-close", 0, 0)
        for _ in range(90):
            env.advance(env.expert_command())

    env.reset("drawer-close", 0, 0)
    for _ in range(12):
        env.advance(np.array([0.0, 1.0, 0.0, 1.0]))
    np.testing.assert_allclose(env.target()[:3], env.pose()[:3], atol=4e-3)  # on its way, 3.4 cm in a control step
    shut()
    pressing, target, pose = ahead(), env.target(), env.pose()
    assert pressing > 0.01
    np.testing.assert_allclose(target[1] - pose[1], pressing, atol=1e-3)
    for aim, kept in ((target, pressing), (pose, 0.0)):
        shut()
        for _ in range(6):
            env.step(np.append(aim, 0.0).astype(np.float32), render=False)
        np.testing.assert_allclose(ahead(), kept, atol=3e-3)


def test_an_expert_that_writes_into_its_observation_does_no_harm(env):
    env.reset("door-open", 0, 0)
    np.testing.assert_array_equal(env.expert_command(), env.expert_command())


@pytest.mark.parametrize("camera", ["top", "zoom"])
def test_points_of_the_world_are_where_the_picture_shows_them(env, camera):
    """What a view looks at is in its middle; half of its half-height above that, along its own up, a quarter further up."""
    env.reset("drawer-open", 0, 0)
    env.render(camera, 96)
    (lookat, distance, azimuth, elevation) = metaworld.VIEWS[camera]
    a, e = np.radians([azimuth, elevation])
    forward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    up = np.array([-np.sin(e) * np.cos(a), -np.sin(e) * np.sin(a), np.cos(e)])
    half = distance * np.tan(np.radians(env._sim.model.vis.global_.fovy / 2))
    right = np.cross(forward, up)
    points = lookat + np.array([0 * up, up * half / 2, right * half, -3 * distance * forward])
    places = env.project(camera, points)
    np.testing.assert_allclose(places[:3], [[0.5, 0.5], [0.5, 0.25], [1.0, 0.5]], atol=1e-5)
    assert np.isnan(places[3]).all()  # behind the camera


@pytest.mark.slow
@pytest.mark.parametrize("task", ["button-press-topdown", "drawer-close", "drawer-open", "door-open", "window-open"])
def test_both_views_show_object_and_hand(env, task):
    """Of each view a good part changes with the object's place, and with the hand's."""
    first, other = (env.reset(task, 0, seed)[0].images for seed in (0, 5))
    for camera in ("top", "zoom"):
        assert np.mean(np.any(first[camera] != other[camera], axis=-1)) > 0.03, f"object in {camera}"
    start = env.reset(task, 0, 0)[0]
    for _ in range(8):
        step = env.step(np.append(start.state[:3] + 0.04, [*metaworld.HAND_QUATERNION, 1.0]))
    for camera in ("top", "zoom"):
        moved = np.any(step.observation.images[camera] != start.images[camera], axis=-1)
        assert np.mean(moved) > 0.02, f"hand in {camera}"


def test_stock_cameras_work_by_name(env):
    env.reset("drawer-open", 0, 0)
    pictures = {name: env.render(name, 64) for name in metaworld.STOCK_CAMERAS}
    assert len({p.tobytes() for p in pictures.values()}) == len(pictures)
    assert all(p.std() > 5 for p in pictures.values())


@pytest.mark.slow
def test_coarse_meshes_look_the_same_and_leave_the_model_alone(env, monkeypatch):
    env.reset("door-open", 0, 0)
    model = env._sim.model
    faces, counts = model.mesh_face.copy(), model.mesh_facenum.copy()
    coarse = env.render("zoom", 96)
    np.testing.assert_array_equal(model.mesh_face, faces)
    np.testing.assert_array_equal(model.mesh_facenum, counts)
    env.reset("drawer-open", 0, 0)
    env.reset("door-open", 0, 0)  # a renderer of its own
    monkeypatch.setattr(mujoco_rendering, "SMALL_MESH_FACES", 10**9)
    exact = env.render("zoom", 96)
    difference = np.abs(coarse.astype(float) - exact).mean()
    assert 0 < difference < 2, "grey levels of 255, on average"


def test_vertices_are_merged_within_a_cube_and_no_further():
    vertices = np.array([[0.1, 0.1, 0], [0.2, 0.1, 0], [1.5, 0.5, 0], [0.5, 1.5, 0]], np.float32)
    faces = np.array([[0, 2, 3], [1, 2, 3], [0, 1, 2]])  # the first two become one, the third a line
    merged, kept = mujoco_rendering._cluster(vertices, faces, cell=1.0)
    np.testing.assert_array_equal(kept, [True, False, False])
    assert set(merged[0]) in ({0, 2, 3}, {1, 2, 3})
    same, kept = mujoco_rendering._cluster(vertices, faces, cell=0.01)
    np.testing.assert_array_equal(same, faces)
    assert kept.all()


def test_the_users_choice_of_renderer_is_respected(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setitem(mujoco_rendering._ANSWERS, "osmesa", lambda: True)
    assert mujoco_rendering.choose_backend() == "osmesa"


def test_without_any_renderer_the_line_that_installs_one_is_said(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    for name in ("egl", "osmesa"):
        monkeypatch.setitem(mujoco_rendering._ANSWERS, name, lambda: False)
    with pytest.raises(ValueError, match="apt-get install -y libosmesa6 libegl-mesa0"):
        metaworld.MetaWorld(("top",), 64, 2)


@pytest.mark.parametrize("name", ["glfw", "vulkan"])
def test_a_chosen_renderer_that_does_not_draw_here_is_named(monkeypatch, name):
    monkeypatch.setenv("MUJOCO_GL", name)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ValueError, match=f"MUJOCO_GL is '{name}', which does not draw on this machine"):
        metaworld.MetaWorld(("top",), 64, 2)
