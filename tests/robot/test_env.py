"""An arm within its limits, in real time: each rule has a case that fails without it. The arm is ``fake_arm.FakeArm``."""

import dataclasses
import time

import numpy as np
import pytest

from drifting_vla_jax.envs.base import EnvError, InvalidActionError
from drifting_vla_jax.robot.driver import (
    DriverError,
    OutsideWorkspaceError,
    RobotStoppedError,
    StaleObservationError,
    make_driver,
)
from drifting_vla_jax.robot.env import Robot
from drifting_vla_jax.rollout.episode import EpisodeSettings, EpisodeSpec, run_episode
from tests.robot.fake_arm import DOWN, LIMITS, START, FakeArm, action

ABOUT = {"instruction": "lift it", "cameras": ("side",), "image_size": 16, "control_hz": 50.0}
STATE = ("x", "y", "z", "gripper")
PERIOD = 0.02


def make(arm, limits=LIMITS, **changes) -> Robot:
    return Robot(arm, limits, **({"state_names": STATE} | ABOUT | changes))


def eventually(condition, seconds=2.0) -> float:
    """Waits until it holds; returns how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen"
        time.sleep(0.002)
    return time.monotonic() - began


def test_an_episode_in_real_time():
    arm = FakeArm()
    with make(arm) as robot:
        observation, instruction = robot.reset()
        assert instruction == "lift it" and robot.tasks == ("lift-it",)
        assert observation.images.keys() == {"side"} and observation.images["side"].shape == (16, 16, 3)
        np.testing.assert_allclose(observation.state, [*START, 1])
        began = time.monotonic()
        for k in range(10):
            step = robot.step(action(0.5, 0.01 * (k + 1), 0.3, gripper=0.4))
            assert step.info["events"] == () or set(step.info["events"]) == {"late"}
        took = time.monotonic() - began
        assert took >= 10 * PERIOD * 0.99
        np.testing.assert_allclose(step.observation.state, [0.5, 0.1, 0.3, 0.4], atol=1e-6)
        assert not step.success and not step.info["judged"]
        assert robot.render("front", 8).shape == (8, 8, 3) and np.isnan(robot.project("front", np.zeros((2, 3)))).all()
        times = [when for when, name, _ in arm.calls if name == "command"]
        assert min(np.diff(times)) > 0.74 * PERIOD
    assert arm.names()[-2:] == ["stop", "close"] and arm.together == 1


def test_commands_cannot_come_faster_than_the_rate():
    """Even from a caller that does not wait: the step does."""
    arm = FakeArm()
    with make(arm) as robot:
        robot.reset()
        robot.step(action(*START))
        robot._due += 0.1  # as if the grid were ahead
        due = robot._due
        robot.step(action(*START))
        assert [when for when, name, _ in arm.calls if name == "command"][1] >= due


def test_a_late_command_is_counted():
    with make(FakeArm()) as robot:
        robot.reset()
        robot.step(action(*START))
        time.sleep(2 * PERIOD)
        assert "late" in robot.step(action(*START)).info["events"]


@pytest.mark.parametrize(
    ("target", "event"),
    [
        (action(0.5, 0.0, 0.52), "box_clipped"),
        (action(0.6, 0.0, 0.3), "step_clipped"),
        (action(*START, rotation=[0, 1, 0, 0]), "turn_clipped"),
    ],
)
def test_limits_are_applied_and_counted(target, event):
    arm = FakeArm()
    with make(arm) as robot:
        robot.reset()
        step = robot.step(target)
        assert event in step.info["events"]
        np.testing.assert_array_equal(step.info["commanded"], arm.commands()[0])
        assert not np.array_equal(arm.commands()[0], target)


def test_steps_are_measured_from_the_last_command_and_leads_from_the_arm():
    """An arm that does not move: the target runs ahead by whole steps, up to ``lead_m``."""
    arm = FakeArm(follows=False)
    with make(arm, dataclasses.replace(LIMITS, lead_m=0.12, high=(0.9, 0.2, 0.5))) as robot:
        robot.reset()
        events = [robot.step(action(0.9, 0, 0.3)).info["events"] for _ in range(5)]
    np.testing.assert_allclose(arm.commands()[:, 0], [0.55, 0.6, 0.62, 0.62, 0.62])
    assert ["lead_clipped" in e for e in events] == [False, False, True, True, True]


@pytest.mark.parametrize("bad", [action(np.nan, 0, 0.3), action(*START, rotation=[1, 1, 0, 0]), np.zeros(7)])
def test_what_is_no_target_stops_the_arm(bad):
    arm = FakeArm()
    with make(arm) as robot:
        robot.reset()
        robot.step(action(*START))
        with pytest.raises(InvalidActionError):
            robot.step(bad)
        assert arm.names()[-1] == "stop" and robot.stopped
        for again in (lambda: robot.step(action(*START)), robot.reset):
            with pytest.raises(RobotStoppedError, match="the arm is stopped: InvalidActionError"):
                again()
    assert len(arm.commands()) == 1


def test_without_targets_the_arm_holds_where_it_is():
    arm = FakeArm(follows=False)
    with make(arm) as robot:
        robot.reset()
        robot.step(action(0.54, 0, 0.3, gripper=0.2))
        commanded = arm.calls[-1][0]
        arm.pose = np.concatenate([[0.52, 0, 0.3], DOWN])  # half way
        eventually(lambda: "hold" in arm.names())
        when, _, where = arm.calls[-1]
        assert 0.15 <= when - commanded < 0.28  # timeout_s, and before it would be stopped
        np.testing.assert_allclose(where, [0.52, 0, 0.3, *DOWN, 0.2])
        time.sleep(0.4)
        assert arm.names().count("hold") == 1 and not robot.stopped  # held once, and no reason to stop
        step = robot.step(action(0.6, 0, 0.3))
        assert {"held", "late"} <= set(step.info["events"])
        np.testing.assert_allclose(arm.commands()[-1][0], 0.57)  # a step from where it held
        assert "held" not in robot.step(action(0.6, 0, 0.3)).info["events"]


def test_what_is_stale_is_not_acted_on():
    arm = FakeArm()
    with make(arm) as robot:
        robot.reset()
        robot.step(action(0.54, 0, 0.3))
        arm.age, arm.pose = 0.3, np.concatenate([[0.4, 0, 0.3], DOWN])  # long ago
        with pytest.raises(StaleObservationError, match=r"0\.3\d s old; stale_s is 0.1: the arm holds"):
            robot.step(action(0.55, 0, 0.3))
        assert arm.names()[-1] == "hold" and not robot.stopped
        np.testing.assert_allclose(arm.calls[-1][2][:3], [0.55, 0, 0.3])  # its last target, not where it was long ago
        arm.age = 0
        with pytest.raises(ValueError, match="no episode is running; call reset"):
            robot.step(action(0.55, 0, 0.3))
    assert arm.names()[-2:] == ["stop", "close"]


def test_an_emergency_button_stops_it_within_a_step():
    arm, pressed = FakeArm(), []
    with make(arm, emergency=lambda: bool(pressed), control_hz=2.0) as robot:
        robot.reset()
        robot._stopped.wait(0.05)
        pressed.append(1)
        began = time.monotonic()
        with pytest.raises(RobotStoppedError, match="emergency stop") as caught:
            robot.step(action(*START))  # half a second, were it not for the button
            robot.step(action(*START))
        assert time.monotonic() - began < 0.2 and caught.value.outcome == "emergency_stop"
        after = arm.names()[arm.names().index("stop") :]
        time.sleep(0.3)
        assert "command" not in after and "command" not in arm.names()[arm.names().index("stop") :]
        assert "hold" not in arm.names()


def test_what_the_arm_says_stops_it():
    arm = FakeArm()
    with make(arm) as robot:
        robot.reset()
        arm.why = "joint 4 at its end"
        eventually(lambda: "stop" in arm.names())
        with pytest.raises(RobotStoppedError, match="the arm says: joint 4 at its end"):
            robot.step(action(*START))
    assert len(arm.commands()) == 0


def test_a_guard_that_fails_does_not_fail_silently():
    arm = FakeArm()

    def broken():
        raise OSError("the button is unplugged")

    with make(arm, emergency=broken) as robot:
        eventually(lambda: robot.stopped)
        with pytest.raises(RobotStoppedError, match="failed: OSError: the button is unplugged") as caught:
            robot.reset()
        assert caught.value.outcome == "driver"


@pytest.mark.parametrize("call", ["read", "command"])
def test_a_driver_that_hangs_is_stopped_from_outside(call):
    """The main thread is inside the driver; another one stops the arm, and the hanging command has not the last word."""
    hanging = []

    def hang(arm):
        if hanging:
            time.sleep(0.8)

    arm = FakeArm(**{call: hang})
    with make(arm) as robot:
        robot.reset()
        robot.step(action(*START))
        hanging.append(1)
        began = time.monotonic()
        with pytest.raises(RobotStoppedError, match="does not let it hold") as caught:
            robot.step(action(*START))
        assert caught.value.outcome == "driver"
        stops = [when - began for when, name, _ in arm.calls if name == "stop"]
        assert 0.2 < stops[0] < 0.6  # twice timeout_s, while the call hangs for 0.8 s
        assert arm.names()[-1] == "stop"
        assert len(arm.commands()) == (2 if call == "command" or stops else 1)


@pytest.mark.parametrize("call", ["read", "command"])
def test_what_a_driver_raises_stops_the_arm_and_gets_our_type(call):
    def fail(arm):
        if len(arm.commands()):
            raise OSError("cable pulled")

    arm = FakeArm(**{call: fail})
    with make(arm) as robot:
        robot.reset()
        with pytest.raises(DriverError, match="the driver failed: OSError: cable pulled"):
            for _ in range(2):
                robot.step(action(*START))
        assert "stop" in arm.names()


def test_whatever_ends_the_block_stops_the_arm():
    arm = FakeArm()
    with pytest.raises(ZeroDivisionError), make(arm) as robot:
        robot.reset()
        robot.step(action(*START))
        1 / 0  # noqa: B018 - in the user's own code
    assert arm.names()[-2:] == ["stop", "close"] or arm.names()[-3:] == ["stop", "stop", "close"]
    assert robot.stop_reason == "ZeroDivisionError: division by zero"
    robot.close()
    assert arm.names().count("close") == 1


def test_ctrl_c_in_a_step_stops_the_arm():
    def interrupt(arm):
        if len(arm.commands()):
            raise KeyboardInterrupt

    arm = FakeArm(read=interrupt)
    robot = make(arm)
    robot.reset()
    with pytest.raises(KeyboardInterrupt):
        robot.step(action(*START))
    assert arm.names()[-1] == "stop"
    robot.close()


def test_an_episode_does_not_start_outside_the_box():
    arm = FakeArm()
    arm.pose = np.concatenate([[0.5, 0, 0.05], DOWN])
    with make(arm) as robot:
        with pytest.raises(OutsideWorkspaceError, match=r"\[0.5, 0.0, 0.05\], outside the box"):
            robot.reset()
        with pytest.raises(ValueError, match="no episode is running"):
            robot.step(action(*START))
        assert len(arm.commands()) == 0
        arm.pose = np.concatenate([START, DOWN])
        robot.reset()  # brought in


@pytest.mark.parametrize(
    ("pose", "gripper", "line"),
    [
        ([0.5, 0, np.nan, *DOWN], 1.0, "expected 7 finite numbers"),
        ([0.5, 0, 0.3, 1, 1, 0, 0], 1.0, "has length 1.414; expected 1"),
        ([*START, *DOWN], 80.0, "the gripper is 80.0"),
    ],
)
def test_readings_that_cannot_be_are_refused(pose, gripper, line):
    arm = FakeArm()
    arm.pose, arm.gripper = np.array(pose, float), gripper
    with make(arm) as robot, pytest.raises(DriverError, match=line):
        robot.reset()


def test_the_state_is_made_of_what_the_policy_names():
    arm = FakeArm()
    axes = ("x_axis_x", "x_axis_y", "x_axis_z", "y_axis_x", "y_axis_y", "y_axis_z")
    with make(arm, state_names=("x", "y", "z", *axes, "gripper")) as robot:
        np.testing.assert_allclose(robot.reset()[0].state, [*START, 1, 0, 0, 0, -1, 0, 1], atol=1e-6)
    with make(FakeArm(), state_names=("x", "elbow")) as robot, pytest.raises(DriverError, match="has elbow, which no"):
        robot.reset()


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(ValueError, match="wants camera 'wrist'; the driver has front, side"):
        make(FakeArm(), cameras=("wrist",))
    with pytest.raises(ValueError, match="expected words, a rate above 0"):
        make(FakeArm(), control_hz=0.0)
    with make(FakeArm()) as robot:
        with pytest.raises(ValueError, match="call reset"):
            robot.step(action(*START))
        with pytest.raises(ValueError, match="unknown task 'lift'"):
            robot.reset("lift")
    with pytest.raises(ValueError, match="expected replay, or module:Class"):
        make_driver("my_arm", {})
    with pytest.raises(ValueError, match="has no 'Nothing'"):
        make_driver("tests.robot.fake_arm:Nothing", {})
    with pytest.raises(ValueError, match=r"SafetyLimits lacks|cannot be made with"):
        make_driver("tests.robot.fake_arm:SafetyLimits", {})
    with pytest.raises(ValueError, match="lacks read, command, .*, cameras"):
        make_driver("builtins:object", {})


class _Asker:
    def infer(self, observation):
        return {"actions": np.tile(action(*START), (4, 1)), "server_timing": {"infer_ms": 1.0}}


@pytest.mark.parametrize(
    ("sees", "outcome", "success"), [(None, "unjudged", None), (True, "success", True), (False, "time_limit", False)]
)
def test_it_is_an_environment_and_no_verdict_is_no_failure(sees, outcome, success):
    succeeded = None if sees is None else lambda: sees
    with make(FakeArm(), succeeded=succeeded) as robot:
        spec = EpisodeSpec("lift-it", 0, 0, 0)
        result = run_episode(robot, _Asker(), spec, EpisodeSettings(execute=2, max_steps=4, hold_steps=2))
        assert (result.outcome, result.success) == (outcome, success)


def test_an_arm_that_fails_is_not_the_policys_failure():
    def fail(arm):
        if len(arm.commands()) == 2:
            raise OSError("cable pulled")

    with make(FakeArm(read=fail)) as robot, pytest.raises(EnvError, match="cable pulled"):
        run_episode(
            robot, _Asker(), EpisodeSpec("lift-it", 0, 0, 0), EpisodeSettings(execute=2, max_steps=4, hold_steps=2)
        )
