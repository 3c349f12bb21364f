"""What a simulator is to the rest of the project: a few methods, one action layout, typed failures; by name: ``registry.py``.

    action       float32 [8]: x y z (metres, world) | qx qy qz qw (unit, Hamilton, w >= 0) | gripper (0 closed .. 1 open)
    observation  images {camera: uint8 [H, W, 3]}, state float32 [s]

An action is an ABSOLUTE target of the end effector; how the simulator gets there (delta commands, inverse kinematics,
planning) is the adapter's business. Every failure that is not the policy's fault, and every one that is, has a name: it
is counted under that name in the results, never swallowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from drifting_vla_jax.core.suggest import did_you_mean
from drifting_vla_jax.envs.info import EnvInfo

ACTION_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw", "gripper")


class EnvError(RuntimeError):
    """A step or reset that failed. ``outcome`` is the name it is counted under in the results."""

    outcome = "env_crash"


class InvalidActionError(EnvError):
    """The action is no pose: wrong shape, not finite, or a quaternion that is not unit."""

    outcome = "invalid_action"


class IKError(EnvError):
    """No joint configuration reaches the target."""

    outcome = "ik"


class PathError(EnvError):
    """No collision-free path to the target."""

    outcome = "path"


class EnvCrashError(EnvError):
    """The simulator itself failed; the episode is run again, not counted against the policy."""

    outcome = "env_crash"


class EnvTimeoutError(EnvError):
    """The simulator did not answer in time."""

    outcome = "timeout"


@dataclass(frozen=True)
class EnvObservation:
    """What the policy may see. ``images``: {camera: uint8 [H, W, 3]}, empty if not rendered; ``state``: float32 [s]."""

    images: Mapping[str, np.ndarray]
    state: np.ndarray


@dataclass(frozen=True)
class Step:
    """What one action led to. ``success`` is the task's condition NOW, not latched; ``done``: the simulator ended.

    ``info["events"]``, where there is one, names what the simulator did to the action; an episode's results count them.
    """

    observation: EnvObservation
    success: bool
    done: bool
    info: Mapping[str, Any] = field(default_factory=dict)


class Env(Protocol):
    """A simulator. One instance lives in one process and is reused over tasks and episodes."""

    info: ClassVar[EnvInfo]  # readable without making one
    control_hz: float  # actions per second of simulated time

    def check_task(self, task: str) -> None:
        """Raises ValueError, offering the nearest name, unless this simulator has the task."""
        ...

    def reset(self, task: str, variation: int, seed: int) -> tuple[EnvObservation, str]:
        """Starts an episode whose scene is a function of (task, variation, seed) alone.

        Returns:
          The first observation and the instruction.

        Raises:
          ValueError: unknown task (the nearest name is offered) or variation.
        """
        ...

    def step(self, action: np.ndarray, render: bool = True) -> Step:
        """Moves toward an absolute target, float32 [8], for one control period.

        ``render=False`` leaves ``images`` empty: rendering is most of the cost and a chunk needs only its first frame.

        Raises:
          InvalidActionError, IKError, PathError, EnvCrashError, EnvTimeoutError.
        """
        ...

    def render(self, camera: str, size: int) -> np.ndarray:
        """One picture, uint8 [size, size, 3], for a video; ``camera`` is any name the simulator knows."""
        ...

    def project(self, camera: str, points: np.ndarray) -> np.ndarray:
        """Where points of the world, metres [n, 3], are in the picture of a camera that was rendered last.

        Returns:
          [n, 2] shares of the picture: to the right, and down; NaN for what is behind the camera.
        """
        ...

    def close(self) -> None:
        """Frees the simulator; a second call does nothing."""
        ...


class ScriptedEnv(Env, Protocol):
    """A simulator with scripted experts, of which ``data.sources.scripted`` makes a data set. Privileged: not for a policy."""

    def instructions(self, task: str) -> tuple[str, ...]:
        """Every paraphrase of what is asked in ``task``, the plainest first."""
        ...

    def reset_displaced(self, task: str, variation: int, seed: int) -> tuple[EnvObservation, str]:
        """Like ``reset``, with the hand first moved somewhere random near its start: also a function of the seed.

        Demonstrations that start so show how to come back from where a policy has erred to.
        """
        ...

    def observe(self, render: bool = True) -> EnvObservation:
        """What a policy may see now."""
        ...

    def pose(self) -> np.ndarray:
        """The end effector's pose, float32 [7]: x y z (metres, world), qx qy qz qw (w >= 0)."""
        ...

    def target(self) -> np.ndarray:
        """The absolute target, float32 [7], that leads to what the step just taken led to.

        Where the end effector is and, where it presses, as far beyond as makes ``step`` press as hard: who is told the pose
        alone lets go of what it leans on.
        """
        ...

    def act(self, noise: np.random.Generator, scale: float, rest: bool, pace: float = 1.0) -> tuple[bool, bool, float]:
        """One control step of the expert of the running task.

        Args:
          noise: drawn from for what is added to the expert's commands.
          scale: standard deviation of that noise, in the simulator's own unit.
          rest: stay where the hand is instead, pressing as it does; without noise.
          pace: share of its own speed at which the expert moves.

        Returns:
          Success, done, and the gripper's command during the step (0 closed .. 1 open).
        """
        ...


def random_generator(seed: int, purpose: str) -> np.random.Generator:
    """Returns a generator that is a function of any integer seed and of what it is for; purposes are independent."""
    return np.random.default_rng([abs(seed), *purpose.encode(), *([1] if seed < 0 else [])])


def check_task_name(task: str, known: Sequence[str], environment: str) -> None:
    """Raises ValueError, offering the nearest name, unless the task is known."""
    if task not in known:
        raise ValueError(f"unknown task {task!r} in {environment}; {did_you_mean(task, sorted(known), 'it knows')}")


def check_action(action: np.ndarray) -> np.ndarray:
    """Returns the action as float64 [8], its quaternion exactly unit; raises InvalidActionError saying what came."""
    action = np.asarray(action, np.float64)
    if action.shape != (8,):
        raise InvalidActionError(f"action has shape {action.shape}; expected (8,): {' '.join(ACTION_NAMES)}")
    if not np.all(np.isfinite(action)):
        raise InvalidActionError(f"action is not finite: {np.array2string(action, precision=4)}")
    norm = np.linalg.norm(action[3:7])
    if abs(norm - 1.0) > 1e-3:
        raise InvalidActionError(f"quaternion (x y z w) has norm {norm:.4f}; expected 1")
    return np.concatenate([action[:3], action[3:7] / norm, np.clip(action[7:], 0.0, 1.0)])
