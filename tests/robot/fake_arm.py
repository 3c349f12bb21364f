"""Arms made of software: ``FakeArm`` is at once where it is told to be, ``DummyArm`` is the dummy simulator."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from drifting_vla_jax.envs.dummy import Dummy
from drifting_vla_jax.robot.driver import Driver, RobotState
from drifting_vla_jax.robot.safety import SafetyLimits

DOWN = np.array([1.0, 0.0, 0.0, 0.0])  # a hand that points down
START = np.array([0.5, 0.0, 0.3])
LIMITS = SafetyLimits((0.3, -0.2, 0.1), (0.7, 0.2, 0.5), 0.05, 10.0, 0.2, timeout_s=0.15, stale_s=0.1)


def action(*position, rotation=DOWN, gripper=1.0) -> np.ndarray:
    return np.concatenate([position, rotation, [gripper]])


class FakeArm(Driver):
    """Keeps every call. ``follows``: whether it moves at all; ``before`` each read or command: a function, for trouble."""

    def __init__(self, follows=True, **before):
        self.cameras, self.pose, self.gripper = ("front", "side"), np.concatenate([START, DOWN]), 1.0
        self.calls: list[tuple[float, str, np.ndarray | None]] = []
        self.follows, self.before, self.why, self.age = follows, before, "", 0.0
        self.noise = np.random.default_rng(0)
        self.inside, self.together = 0, 0  # calls of read and command under way now, and at most

    def names(self) -> list[str]:
        return [name for _, name, _ in self.calls]

    def commands(self) -> np.ndarray:
        return np.array([value for _, name, value in self.calls if name == "command"])

    def _note(self, name, value=None):
        self.calls.append((time.monotonic(), name, value))

    def _enter(self, name):
        self.inside += 1
        self.together = max(self.together, self.inside)
        if name in self.before:
            self.before[name](self)

    def read(self):
        self._enter("read")
        image = self.noise.integers(0, 255, (30, 40, 3), np.uint8)
        self.inside -= 1
        return RobotState(
            dict.fromkeys(self.cameras, image), self.pose.copy(), self.gripper, time.monotonic() - self.age
        )

    def command(self, pose, gripper):
        self._enter("command")
        self._note("command", np.append(pose, gripper))
        if self.follows:
            self.pose, self.gripper = pose, gripper
        self.inside -= 1

    def hold(self, pose, gripper):
        self._note("hold", np.append(pose, gripper))

    def fault(self):
        return self.why

    def reset(self):
        self._note("reset")

    def stop(self):
        self._note("stop")

    def close(self):
        self._note("close")


class DummyArm(Driver):
    """The dummy simulator's point as an arm, with pictures of another size than the policy's; a new scene every reset.

    With ``log`` every call is a line of this file; the command number ``hang_at`` hangs for seconds, deaf to signals.
    """

    cameras = ("front", "above", "side")

    def __init__(self, task="reach-red", seed=3, log="", hang_at=0):
        self.env, self.task, self.seed = Dummy(self.cameras, 64, 2), task, seed
        self.observation, _ = self.env.reset(task, 0, seed)
        self.log, self.hang_at, self.count = log and Path(log), hang_at, 0
        self.step = None

    def _note(self, name):
        if self.log:
            with self.log.open("a") as file:
                file.write(f"{name} {time.monotonic()} {os.getpid()}\n")

    def reset(self):
        self.observation, _ = self.env.reset(self.task, 0, self.seed)
        self.seed += 1
        self.step = None

    def solved(self):
        return self.step is not None and self.step.success

    def read(self):
        state = self.observation.state
        pose = np.concatenate([state[:3], [0, 0, 0, 1]])
        return RobotState(self.observation.images, pose, float(state[3]), time.monotonic())

    def command(self, pose, gripper):
        self.count += 1
        self._note("command")
        if self.count == self.hang_at:
            deaf = (signal.SIGINT, signal.SIGTERM)  # in this thread; the process gets them
            signal.pthread_sigmask(signal.SIG_BLOCK, deaf)
            time.sleep(3)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, deaf)
        self.step = self.env.step(np.append(pose, gripper))
        self.observation = self.step.observation

    def hold(self, pose, gripper):
        self._note("hold")

    def stop(self):
        self._note("stop")

    def close(self):
        self._note("close")


def solved(instruction) -> bool:
    """What --judge may name."""
    return "red" in instruction
