"""What an arm is to the rest of the project: the few calls its owner writes, and the errors that may come of them.

    frame     the arm's base, which must be the frame of the training data ("world" there): x y z in metres
    rotation  qx qy qz qw, unit, Hamilton: the hand's, as the data have it (where its axes point is the data's choice)
    gripper   0 closed .. 1 open
    time      seconds of ``time.monotonic()``

Threads: ``Robot`` makes one call at a time, from two threads (the control loop and the watchdog that holds the arm).
Only ``stop`` and ``fault`` may come beside another call, from any thread. No call may take longer than a control period
but ``reset``; ``command`` returns at once and does not wait until the arm is there. What the arm does when commands
cease, because this process was killed or the cable pulled, is its own controller's business: it must hold or stop.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from drifting_vla_jax.envs.base import EnvError

_METHODS = ("read", "command", "hold", "stop", "fault", "reset", "close")


class DriverError(EnvError):
    """The arm, a camera or its driver failed: it says nothing about the policy, and such an episode is not scored."""

    outcome = "driver"


class StaleObservationError(DriverError):
    """What the driver read is older than the limit: the arm holds."""


class OutsideWorkspaceError(DriverError):
    """The arm stands outside its workspace box when an episode is to start; nothing is commanded."""


class RobotStoppedError(EnvError):
    """The arm was stopped (emergency, fault, signal or error) and nothing is commanded any more; says why."""

    outcome = "emergency_stop"


@dataclass(frozen=True)
class RobotState:
    """What the arm and its cameras are at one moment.

    Attributes:
      images: {camera: uint8 [height, width, 3], RGB}, of any size: ``Robot`` makes them the policy's.
      pose: [7] x y z, qx qy qz qw of the hand as measured.
      gripper: as measured.
      time: when the oldest of all this was taken, by ``time.monotonic()``.
      state: float32 [s], where the policy's state is made of other numbers than these (of joints, say); else None.
    """

    images: Mapping[str, np.ndarray]
    pose: np.ndarray
    gripper: float
    time: float
    state: np.ndarray | None = None


class Driver(Protocol):
    """An arm. Subclass it: ``read``, ``command``, ``stop`` and ``close`` are yours to write, the others can stay.

    Attributes:
      cameras: names of its views.
    """

    cameras: tuple[str, ...]

    def read(self) -> RobotState:
        """The newest pictures and pose there are; waits for a new one a control period at most."""
        ...

    def command(self, pose: np.ndarray, gripper: float) -> None:
        """Takes the target [7] and the opening to reach within the coming control period; returns at once."""
        ...

    def stop(self) -> None:
        """Ends all motion, now, from any thread and however often. No command follows; the arm need not accept one."""
        ...

    def close(self) -> None:
        """Frees arm and cameras; comes after ``stop``."""
        ...

    def hold(self, pose: np.ndarray, gripper: float) -> None:
        """Stays where it is, at ``pose`` as measured now, ready for further commands."""
        self.command(pose, gripper)

    def fault(self) -> str:
        """Why the arm must not move, "" if it may: an emergency button, a protective stop. Asked 100 times a second, by
        a thread of its own, beside any other call; answers at once."""
        return ""

    def reset(self) -> None:
        """Brings the arm to where episodes start, by its own means and outside of our limits; may take its time."""


def make_driver(name: str, options: Mapping[str, Any]) -> Driver:
    """The driver of this name, ``module:Class``, made with ``options``.

    Raises:
      ValueError: that is no such name, the class lacks something of a driver or takes other options.
      ModuleNotFoundError: there is no such module on the Python path.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"driver {name!r}; expected replay, or module:Class of your own, such as my_arm:MyArm")
    try:
        cls = getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise ValueError(f"module {module} has no {attribute!r}") from error
    try:
        driver = cls(**options)
    except TypeError as error:
        raise ValueError(f"{name} cannot be made with {dict(options)}: {error}") from error
    missing = [method for method in _METHODS if not callable(getattr(driver, method, None))]
    if missing or not getattr(driver, "cameras", ()):
        lacks = ", ".join(missing + ([] if getattr(driver, "cameras", ()) else ["cameras"]))
        raise ValueError(f"{name} lacks {lacks}; subclass drifting_vla_jax.robot.driver.Driver and see there")
    return driver


def check_state(reading: RobotState, cameras: tuple[str, ...]) -> None:
    """Raises DriverError, one line, if these cameras' pictures or the numbers are not what ``RobotState`` promises."""
    for camera in cameras:
        image = reading.images.get(camera)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            said = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
            raise DriverError(f"camera {camera!r} gave {said}; expected uint8 [height, width, 3]")
    pose = np.asarray(reading.pose, np.float64)
    if pose.shape != (7,) or not np.isfinite(pose).all():
        raise DriverError(f"the driver's pose is {np.array2string(pose, precision=4)}; expected 7 finite numbers")
    if abs(np.linalg.norm(pose[3:]) - 1) > 1e-2:
        raise DriverError(f"the pose's quaternion (x y z w) has length {np.linalg.norm(pose[3:]):.3f}; expected 1")
    if not -0.05 <= reading.gripper <= 1.05:
        raise DriverError(f"the gripper is {reading.gripper}; expected 0 (closed) .. 1 (open)")
