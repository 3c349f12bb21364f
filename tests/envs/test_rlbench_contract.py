"""The adapter and the worker on RLBench's and PyRep's own code, only the compiled simulator replaced (fake_coppeliasim.py).

    RLBENCH_SRC=/src/stepjam:/src/peract PYREP_SRC=/src/PyRep pytest tests/envs/test_rlbench_contract*.py -rs

RLBENCH_SRC: checkouts of stepjam/RLBench@02720bba and MohitShridhar/RLBench@ad991951, either or both; PYREP_SRC: of
stepjam/PyRep@8f420be8. They prove the calls, not dynamics, contact, rendering or success rates; the one task is ReachTarget.
"""

import numpy as np
import pytest

from drifting_vla_jax.envs import base as envs
from drifting_vla_jax.envs.rlbench import check
from drifting_vla_jax.envs.rlbench import control as rlbench_control
from tests.envs import fake_coppeliasim
from tests.envs.rlbench_on_fake import SIZE, TASK, WIDTH, action, command, skip_without_checkouts, target

skip_without_checkouts()
pytestmark = pytest.mark.filterwarnings("ignore:.*Overriding environment")  # gymnasium's, at a second import


# the fork


def test_the_fork_is_told_by_its_behaviour(make, checkout):
    env = make()
    arms = (checkout[0] / "rlbench/action_modes/arm_action_modes.py").read_text()
    assert env.fork == ("peract" if "ignore_collisions: bool" in arms else "stepjam")
    assert env._environment.action_shape == (WIDTH[env.fork],)
    seen = []
    env.reset(TASK, 0, 0)
    original = env._task[1].step
    env._task[1].step = lambda vector: seen.append(vector) or original(vector)
    env.step(action(target(env)))
    assert seen[0].shape == (WIDTH[env.fork],) and seen[0].dtype == np.float64


def test_all_18_tasks_where_they_are_and_a_clear_word_where_not(make):
    env = make()
    from drifting_vla_jax.envs.rlbench.tasks import ONLY_PERACT, TASKS

    here = TASKS if env.fork == "peract" else [task for task in TASKS if task not in ONLY_PERACT]
    assert len(TASKS) == 18 and list(env.tasks[: len(here)]) == list(here)
    for task in here:
        env.check_task(task)
        assert env._install.task_class(task).__name__.lower() == task.replace("_", "")
    if env.fork == "stepjam":
        for task in ONLY_PERACT:
            with pytest.raises(ValueError, match="only PerAct's fork has it: pip install --no-deps 'rlbench @ git"):
                env.check_task(task)
    with pytest.raises(ValueError, match="did you mean 'open_drawer'"):
        env.reset("open_drawr", 0, 0)


# what is seen


def test_five_views_of_one_size_and_a_pose(make, fake):
    env = make(cameras=("wrist", "front", "left_shoulder", "right_shoulder", "overhead"))
    observation, instruction = env.reset(TASK, 2, 7)
    assert tuple(observation.images) == ("wrist", "front", "left_shoulder", "right_shoulder", "overhead")
    for image in observation.images.values():
        assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8 and image.std() > 10
        assert image.flags["C_CONTIGUOUS"] and image.flags["OWNDATA"]
    assert len({image.tobytes() for image in observation.images.values()}) == 5
    assert np.mean(observation.images["front"][:8]) > np.mean(observation.images["front"][-8:])  # the sky is above
    assert observation.state.shape == (len(env.info.state_names),) == (10,) and observation.state.dtype == np.float32
    tip = env._environment._scene.robot.arm.get_tip()  # PyRep's own matrix: no quaternion in between
    np.testing.assert_allclose(observation.state[3:9], tip.get_matrix()[:3, :2].T.ravel(), atol=1e-6)
    assert observation.state[9] == 1 and 0.8 < observation.state[2] < 1.6
    assert instruction == "reach the lime target"  # the first of RLBench's three wordings


def test_points_of_the_world_are_where_the_pictures_show_them(make):
    """The lime target, in every view that it is in and not hidden."""
    env = make(cameras=("front", "left_shoulder", "right_shoulder", "overhead"))
    observation, _ = env.reset(TASK, 2, 0)
    found = 0
    for camera, picture in observation.images.items():
        place = SIZE * env.project(camera, target(env)[None])[0]
        if np.all(place >= 0) and np.all(place < SIZE):
            red, green, blue = picture[int(place[1]), int(place[0])].astype(int)
            found += green > red + 20 and green > blue + 20
    assert found >= 3


def test_only_what_is_asked_for_is_rendered(make, fake):
    env = make(cameras=("wrist",))
    env.reset(TASK, 0, 0)
    assert fake.rendered == {"cam_wrist": 1}
    step = env.step(action(target(env) + [0, 0, 0.15]), render=False)
    assert not step.observation.images and fake.rendered == {"cam_wrist": 1}
    assert env.step(action(target(env) + [0, 0, 0.1])).observation.images["wrist"].shape == (SIZE, SIZE, 3)
    assert fake.rendered == {"cam_wrist": 2}
    picture = env.render("overhead", 96)  # for a video: any view, any size
    assert picture.shape == (96, 96, 3) and picture.dtype == np.uint8 and picture.std() > 10
    assert env.step(action(target(env))).observation.images["wrist"].shape == (SIZE, SIZE, 3)
    assert not fake.calls["simGetVisionSensorDepthBuffer"]


# where it starts


def test_the_scene_is_a_function_of_task_variation_and_seed(make):
    env = make()
    start, _ = env.reset(TASK, 1, 5)
    first, colour = target(env), start.images["front"]
    env.step(action(first))
    for other in ((1, 6), (2, 5), (1, -5), (1, 10**12)):
        env.reset(TASK, *other)
        assert np.linalg.norm(target(env) - first) > 1e-3
    np.random.seed(1)
    again, _ = env.reset(TASK, 1, 5)
    np.testing.assert_array_equal(target(env), first)
    np.testing.assert_array_equal(again.images["front"], colour)
    np.testing.assert_allclose(again.state, start.state, atol=1e-6)


def test_a_variation_is_what_was_asked_for(make):
    env = make()
    assert [env.reset(TASK, v, 0)[1].split()[2] for v in (0, 3, 19)] == ["red", "green", "white"]
    for variation in (-1, 20):
        with pytest.raises(ValueError, match=f"unknown variation {variation} of {TASK}; expected 0 .. 19"):
            env.reset(TASK, variation, 0)
    with pytest.raises(ValueError, match="call reset"):
        env.step(action([0.3, 0, 1]))


# how it moves


@pytest.mark.parametrize(("control", "events"), [("plan", ()), ("ik", ()), ("ik_then_plan", ())])
def test_a_target_is_reached(make, fake, control, events):
    env = make(control=control)
    start = env.reset(TASK, 0, 3)[0].state
    goal = start[:3].astype(float) + [0.05, 0.08, -0.1]
    fake.planned.clear()  # RLBench itself has planned to see whether the scene can be solved
    step = env.step(action(goal, command(start)[3:7]))
    np.testing.assert_allclose(step.observation.state[:3], goal, atol=0.012)  # RLBench stops within 0.01 rad
    assert step.info["events"] == events and not step.success and not step.done
    assert bool(fake.planned) == (control == "plan")
    assert not any(fake.planned)  # collisions are ignored


def test_success_is_the_tasks_and_ends_a_path_early(make):
    env = make(control="plan")
    env.reset(TASK, 0, 4)
    step = env.step(action(target(env)))
    assert step.success and not step.done  # an episode may go on: success can be held
    assert np.linalg.norm(step.observation.state[:3] - target(env)) > 0.01  # it was near enough, and stopped
    assert env.step(action(target(env))).success


def test_where_ik_finds_nothing_it_is_planned(make, fake):
    env = make(control="ik_then_plan")
    env.reset(TASK, 0, 4)
    fake.ik_reach = 0.01
    step = env.step(action(target(env)))
    assert step.info["events"] == ("planned",) and step.success


def test_a_refusal_has_a_name(make, fake):
    fake.ik_reach = 0.01
    env = make(control="ik")
    env.reset(TASK, 0, 4)
    with pytest.raises(envs.IKError, match="no joint configuration near") as caught:
        env.step(action(target(env)))
    assert caught.value.outcome == "ik"
    for control in ("plan", "ik_then_plan"):
        env.close()
        env = make(control=control)
        fake.path_fails = False
        env.reset(TASK, 0, 4)
        fake.path_fails = True
        with pytest.raises(envs.PathError, match="no path to .*A path could not be found") as caught:
            env.step(action(target(env)))
        assert caught.value.outcome == "path"


def test_a_target_outside_the_workspace_is_moved_in_and_counted(make):
    env = make(control="ik_then_plan")
    env.reset(TASK, 0, 4)
    beside = [0.25, -0.25 if target(env)[1] > 0 else 0.25]
    env.step(action([*beside, 1.0]))
    step = env.step(action([*beside, 0.6]))  # below the table, at 0.752
    assert "clipped" in step.info["events"] and step.info["clipped_metres"] == pytest.approx(0.152, abs=1e-3)
    assert step.observation.state[2] == pytest.approx(0.752, abs=0.02)


def test_a_command_to_stay_sends_no_nan_and_lets_time_pass(make, fake):
    env = make(control="plan")
    state = env.reset(TASK, 0, 4)[0].state
    fake.planned.clear()
    steps = fake.calls["simExtStep"]
    with np.errstate(all="raise"):
        step = env.step(command(state))
    assert step.info["events"] == ("still",) and not fake.planned
    assert fake.calls["simExtStep"] == steps + 1
    np.testing.assert_allclose(step.observation.state, state, atol=1e-6)


def test_quaternions_are_made_unit_in_float64(make):
    env = make(control="ik_then_plan")
    start = env.reset(TASK, 0, 4)[0].state
    nearly = command(start)[3:7] * np.float32(1.0005)  # RLBench refuses what is off by more than 1e-5
    step = env.step(action(start[:3] - [0, 0, 0.05], nearly))
    assert step.observation.state[2] == pytest.approx(start[2] - 0.05, abs=0.012)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (action([np.nan, 0, 1]), "not finite"),
        (action([0.3, 0, 1], [0, 0, 0, np.nan]), "not finite"),
        (action([0.3, 0, 1], [0, 0, 0, 0.9]), "norm 0.9"),
        (action([0.3, 0, 1])[:7], r"shape \(7,\)"),
    ],
)
def test_what_is_no_pose_never_reaches_rlbench(make, fake, bad, said):
    env = make()
    env.reset(TASK, 0, 4)
    calls = sum(fake.calls.values())
    with pytest.raises(envs.InvalidActionError, match=said):
        env.step(bad)
    assert sum(fake.calls.values()) == calls


def test_the_gripper_opens_above_a_half(make):
    env = make()
    state = env.reset(TASK, 0, 4)[0].state
    seen = []
    for grip in (0.49, 0.0, 0.51, 1.7, -3.0):
        state[9] = grip
        seen.append(env.step(command(state)).observation.state[9])
    assert seen == [0, 0, 1, 1, 0]


# what goes wrong


def test_a_failing_simulator_is_a_crash_and_can_be_made_again(make, fake):
    env = make()
    env.reset(TASK, 0, 4)
    fake.crashes = True
    with pytest.raises(envs.EnvCrashError, match="reach_target: RuntimeError: The call failed on the V-REP side"):
        env.step(action(target(env)))
    env.close()
    assert env.reset(TASK, 0, 4)[0].images  # launched again


def test_an_arm_that_never_arrives_is_a_timeout(make, monkeypatch):
    env = make()
    env.reset(TASK, 0, 4)
    monkeypatch.setattr(rlbench_control, "SECONDS_PER_ACTION", -1.0)
    with pytest.raises(envs.EnvTimeoutError, match="still moving"):
        env.step(action(target(env)))


def test_closing_twice_is_harmless(make):
    env = make()
    env.reset(TASK, 0, 4)
    env.close()
    env.close()
    with pytest.raises(ValueError, match="call reset"):
        env.step(action([0.3, 0, 1]))


def test_what_the_fake_lacks_is_named(make):
    env = make()
    with pytest.raises(envs.EnvCrashError, match="the fake simulator has no scene of open_drawer.ttm"):
        fake_coppeliasim.SCENES.append(fake_coppeliasim.SCENES[1].replace(TASK, "open_drawer"))
        env.reset("open_drawer", 0, 0)


def test_the_fake_takes_what_c_takes(fake):
    with pytest.raises(TypeError, match="simSetJointPosition takes 2 arguments, 1 were given"):
        fake.simSetJointPosition(10)
    with pytest.raises(TypeError):
        fake.simSetJointPosition(0.5, 0.5)  # a handle is a whole number
    with pytest.raises(NotImplementedError, match="the fake simulator has no simSetJointForce"):
        fake.simSetJointForce(10, 1.0)


def test_the_self_test_renders_every_view(fake):
    assert check.check().endswith("renders 5 views of 'reach the red target'")
    assert len(fake.rendered) == 5
