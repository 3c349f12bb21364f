"""How one absolute target becomes motion in RLBench: made safe once, then the arm, then the gripper.

    plan           a straight path of joint configurations, else a planned one; takes as long as it takes
    ik             inverse kinematics from where the arm is; for near targets; nothing is planned
    ik_then_plan   ik, and plan where ik finds nothing

Both are RLBench's own arm modes in both forks; this class only puts them together, because RLBench's MoveArmThenGripper has
one mode, calls ik wrongly in PerAct's fork, and divides by the length of the path, which may be 0. Collisions are ignored in
planning, RLBench's default: checked paths avoid touching what is to be pushed.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from drifting_vla_jax.envs.base import EnvTimeoutError, IKError, PathError
from drifting_vla_jax.envs.rlbench.installation import RLBenchInstallation

CONTROLS = ("ik_then_plan", "plan", "ik")
SECONDS_PER_ACTION = 120.0  # of wall clock, after which the simulator counts as stuck; an action takes about 0.3

# Nearer than this is no move. A path of 50 points shorter than this has neighbours that are equal in float32, and their
# distance is a divisor.
STILL_METRES, STILL_RADIANS = 2e-4, math.radians(0.1)
INSIDE = 1e-7  # metres that a clipped target is inside RLBench's workspace, whose test is strict


def make_control(install: RLBenchInstallation, how: str) -> Any:
    """An RLBench ActionMode that is an ``ArmThenGripper``; ``how`` is one of ``CONTROLS``, ValueError otherwise."""
    if how not in CONTROLS:
        raise ValueError(f"control is {how!r}; expected one of {', '.join(CONTROLS)}")
    if how != "plan" and not install.ik:
        raise ValueError(f"control is {how!r}, but this RLBench has no EndEffectorPoseViaIK; expected plan")
    return type("Control", (ArmThenGripper, install.action_mode.ActionMode), {})(install, how)


class ArmThenGripper:
    """The part of the action mode that is ours. Its action is float64 [8], or [9] on PerAct's fork (installation.py).

    After an action, ``events`` says what was done to it: "clipped" into the workspace, "still" (no move), "planned" (where
    ik found nothing), and ``clipped`` by how many metres.
    """

    def __init__(self, install: RLBenchInstallation, how: str):
        arms = install.arm_action_modes
        super().__init__(arms.EndEffectorPoseViaPlanning(), install.gripper_action_modes.Discrete())
        self._install, self._how = install, how
        self._ik = None if how == "plan" else arms.EndEffectorPoseViaIK()
        self._deadline = math.inf
        self.events: list[str] = []
        self.clipped = 0.0

    def action_shape(self, scene: Any) -> int:
        """RLBench's: how wide an action is."""
        return self._install.action_width

    def action(self, scene: Any, action: np.ndarray) -> None:
        """RLBench's: carries out one action.

        Raises:
          IKError, PathError: the target cannot be reached; nothing has moved.
          EnvTimeoutError: the arm moved for longer than SECONDS_PER_ACTION.
        """
        self.events, self.clipped = [], 0.0
        pose = np.append(self._inside(scene, action[:3]), action[3:7])
        self._deadline = time.monotonic() + SECONDS_PER_ACTION
        scene.register_step_callback(self._watch)
        try:
            if is_still(scene.robot.arm.get_tip().get_pose(), pose):
                self.events.append("still")
                scene.step()  # time passes all the same
            else:
                self._move(scene, pose, action[8:])
            self.gripper_action_mode.action(scene, action[7:8])
        finally:
            self._deadline = math.inf

    def _move(self, scene: Any, pose: np.ndarray, ignore_collisions: np.ndarray) -> None:
        if self._ik is not None:
            try:
                self._ik.action(scene, pose)
                return
            except self._install.refusals as error:
                if self._how == "ik":
                    raise IKError(f"no joint configuration near the present one reaches {_show(pose)}") from error
                self.events.append("planned")
        try:
            self.arm_action_mode.action(scene, pose, *(bool(ignore) for ignore in ignore_collisions))
        except self._install.refusals as error:
            raise PathError(f"no path to {_show(pose)}: {error}") from error

    def _inside(self, scene: Any, position: np.ndarray) -> np.ndarray:
        low, high = (np.array([getattr(scene, f"_workspace_{end}{axis}") for axis in "xyz"]) for end in ("min", "max"))
        inside = np.clip(position, low + INSIDE, high - INSIDE)
        self.clipped = float(np.linalg.norm(inside - position))
        if self.clipped:
            self.events.append("clipped")
        return inside

    def _watch(self) -> None:
        if time.monotonic() > self._deadline:
            raise EnvTimeoutError(f"the arm was still moving after {SECONDS_PER_ACTION:g} s of one action")


def is_still(present: np.ndarray, target: np.ndarray) -> bool:
    """Whether two poses, x y z qx qy qz qw, are the same for a path planner."""
    present, target = np.asarray(present, np.float64), np.asarray(target, np.float64)
    alike = abs(present[3:7] @ target[3:7]) / (np.linalg.norm(present[3:7]) * np.linalg.norm(target[3:7]))
    turned = 2 * math.acos(min(1.0, alike))
    return bool(np.linalg.norm(present[:3] - target[:3]) < STILL_METRES and turned < STILL_RADIANS)


def _show(pose: np.ndarray) -> str:
    return np.array2string(pose, precision=3, suppress_small=True)
