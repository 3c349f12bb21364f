"""A real arm as an environment: a driver (``driver.py``) within ``safety.py``, in real time, and always to be stopped.

A control step takes a period of the monotonic clock: the target is commanded, the period passes, then cameras and pose
are read. Three threads: the caller's; a watchdog, which makes the arm hold where it is when no target came for
``timeout_s``; a sentry, which asks 100 times a second whether anything is wrong and then stops the arm, whatever the
others are doing. After a stop nothing is commanded: look at the arm, then begin anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from drifting_vla_jax.core.end_effector import STATE_NAMES, make_state
from drifting_vla_jax.core.episode import square, task_name
from drifting_vla_jax.core.text import instruction_problem
from drifting_vla_jax.envs.base import EnvError, EnvObservation, Step, check_action, check_task_name
from drifting_vla_jax.robot.driver import (
    Driver,
    DriverError,
    OutsideWorkspaceError,
    RobotState,
    RobotStoppedError,
    StaleObservationError,
    check_state,
)
from drifting_vla_jax.robot.safety import SafetyLimits

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.01
_STOP_WAIT = 0.05  # that a stop waits for a command under way, so that none comes after it
_ENDED = "the session has ended"
_LATE = 0.25  # of a period, by which a command may miss its time before that is counted


class Robot:
    """See the module; an ``Env``. ``with Robot(...) as robot:`` stops the arm at the end, whatever ends it.

    Attributes:
      instruction: what the arm is asked to do.
      stop_reason: why it was stopped; "" while it is not.
    """

    def __init__(
        self,
        driver: Driver,
        limits: SafetyLimits,
        *,
        instruction: str,
        cameras: Sequence[str],
        image_size: int,
        control_hz: float,
        state_names: Sequence[str],
        fit: str = "crop",
        emergency: Callable[[], bool] | None = None,
        succeeded: Callable[[], bool] | None = None,
    ):
        """Starts watching; moves nothing.

        Args:
          cameras, image_size: the views that the policy wants, and their side in pixels.
          control_hz: targets per second, as the policy learned them.
          state_names: what the policy's state is made of; any of x y z, the hand's axes (x_axis_x ..) and gripper,
            unless the driver's readings bring a state of their own.
          fit: how a rectangular picture becomes square, "crop" or "pad": as in the training data.
          emergency: an emergency button; asked 100 times a second by a thread of its own.
          succeeded: whether the task is solved now; None where nobody can say, and ``Step.info["judged"]`` is False.

        Raises:
          ValueError: a camera that the driver has not, an instruction without words, or a rate that cannot be.
        """
        for camera in cameras:
            if camera not in driver.cameras:
                raise ValueError(f"the policy wants camera {camera!r}; the driver has {', '.join(driver.cameras)}")
        if instruction_problem(instruction) or not control_hz > 0 or fit not in ("crop", "pad"):
            raise ValueError(
                f"instruction {instruction!r}, control_hz {control_hz} and fit {fit!r}; expected words, a rate above 0, "
                "and crop or pad"
            )
        self.instruction, self.control_hz, self.state_names = instruction, float(control_hz), tuple(state_names)
        self.tasks = (task_name(instruction),)
        self.stop_reason, self._stop_outcome = "", RobotStoppedError.outcome
        self._driver, self._limits, self._fit = driver, limits, fit
        self._cameras, self._image_size = tuple(cameras), image_size
        self._emergency, self._succeeded = emergency, succeeded
        self._busy, self._commanding = threading.Lock(), threading.Lock()
        self._stopped, self._closing = threading.Event(), threading.Event()
        self._reading: RobotState | None = None  # the last one
        self._last: np.ndarray | None = None  # pose and gripper [8] commanded last
        self._fed: float | None = None  # when; None while nothing is under way that could want holding
        self._due: float | None = None  # when the next command is
        self._happened: list[str] = []  # events of the watchdog, for the next step
        self._threads = [threading.Thread(target=self._guarded, args=(work,), daemon=True)
                         for work in (self._look_out, self._watch)]  # fmt: skip
        for thread in self._threads:
            thread.start()

    def check_task(self, task: str) -> None:
        """See Env.check_task: there is one task, the instruction's."""
        check_task_name(task, self.tasks, "this arm's session")

    def reset(self, task: str = "", variation: int = 0, seed: int = 0) -> tuple[EnvObservation, str]:
        """Lets the driver bring the arm to its start, if it does that; the scene is the operator's business.

        Raises:
          RobotStoppedError, DriverError, StaleObservationError, OutsideWorkspaceError.
        """
        if task:
            self.check_task(task)
        self._check_running()
        with _StoppingOnErrors(self):
            with self._busy:
                self._fed = None
                self._driver.reset()
            self._last, self._due, self._happened = None, None, []
            observation = self._observe(self._read())
            if not self._limits.inside(position := np.asarray(self._reading.pose[:3])):
                self._reading = None
                raise OutsideWorkspaceError(
                    f"the hand is at {np.round(position, 3).tolist()}, outside the box {list(self._limits.low)} to "
                    f"{list(self._limits.high)}; bring it in, or correct the limits"
                )
        return observation, self.instruction

    def step(self, action: np.ndarray, render: bool = True) -> Step:
        """Commands a target [8], as far as the limits allow, and returns when its control period has passed.

        ``info``: "events" of the limits, "late" (commanded a quarter of a period late or more) and "held" (the watchdog
        had to hold the arm before it); "commanded" [8]; "judged", whether ``success`` means anything.

        Raises:
          InvalidActionError: not finite, or no pose: the arm is stopped.
          RobotStoppedError: it was stopped, now or before.
          DriverError: arm or camera failed, and the arm is stopped; StaleObservationError: the arm holds.
        """
        self._check_running()
        if self._reading is None:
            raise ValueError("no episode is running; call reset() first")
        with _StoppingOnErrors(self):
            target = check_action(action)
            measured = np.array(self._reading.pose, np.float64)
            measured[3:] /= np.linalg.norm(measured[3:])
            last = measured if self._last is None else self._last
            allowed, events = self._limits.apply(target, last[:7], measured[:3])
            self._sleep_until(self._due)
            events += self._command(allowed)
            self._sleep_until(self._due)
            observation = self._observe(self._read())
            success = bool(self._succeeded()) if self._succeeded else False
        info = {"events": events, "commanded": allowed, "judged": self._succeeded is not None}
        return Step(observation, success, False, info)

    def stop(self, reason: str, outcome: str = RobotStoppedError.outcome) -> None:
        """Ends all motion, from any thread; nothing is commanded afterwards. ``outcome`` is that of the episode."""
        if first := not self.stopped:
            self.stop_reason, self._stop_outcome = reason, outcome
        self._stopped.set()
        locked = self._commanding.acquire(timeout=_STOP_WAIT)
        try:
            self._driver.stop()
        finally:
            if locked:
                self._commanding.release()
            if first:
                logger.log(logging.INFO if reason == _ENDED else logging.WARNING, "the arm is stopped: %s", reason)

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def render(self, camera: str, size: int) -> np.ndarray:
        """See Env.render: of the last reading, any of the driver's cameras."""
        if self._reading is None or camera not in self._reading.images:
            raise ValueError(f"no picture of {camera!r}; the driver has {', '.join(self._driver.cameras)}")
        return square(self._reading.images[camera], size, self._fit)

    def project(self, camera: str, points: np.ndarray) -> np.ndarray:
        """See Env.project: NaN, for where an arm's cameras stand is not known."""
        return np.full((len(points), 2), np.nan)

    def close(self) -> None:
        """Stops the arm, then frees it; a second call does nothing."""
        if self._closing.is_set():
            return
        try:
            self.stop(self.stop_reason or _ENDED)
        finally:
            self._closing.set()
            for thread in self._threads:
                thread.join(1.0)  # one may hang in the driver
            self._driver.close()

    def __enter__(self) -> Robot:
        return self

    def __exit__(self, kind, error, _) -> None:
        if error is not None and not self.stopped:
            self.stop(f"{kind.__name__}: {error}")
        self.close()

    def _command(self, target: np.ndarray) -> tuple[str, ...]:
        """Hands a target to the driver and sets the time of the next one; what happened meanwhile, as events."""
        period = 1 / self.control_hz
        with self._busy, self._commanding:
            self._check_running()
            self._fed = time.monotonic()  # already here: the call itself may hang
            self._driver.command(target[:7].copy(), float(target[7]))
            now = time.monotonic()
            self._last, self._fed = target, now
            happened, self._happened = self._happened, []
        if self.stopped:  # while the command hung: it must not have the last word
            self._driver.stop()
            self._check_running()
        late = self._due is not None and now - self._due > _LATE * period
        self._due = (now if late or self._due is None else self._due) + period
        return (*happened, *(["late"] if late else []))

    def _sleep_until(self, when: float | None) -> None:
        """Waits, unless the arm is stopped meanwhile."""
        while when is not None and (left := when - time.monotonic()) > 0:
            self._stopped.wait(left)
            self._check_running()

    def _read(self) -> RobotState:
        """A reading that can be acted on; the arm holds if it is too old."""
        with self._busy:
            reading = self._driver.read()
        self._check_running()  # it may have hung, and been stopped for that
        check_state(reading, self._cameras)
        age = time.monotonic() - reading.time
        if age > self._limits.stale_s:
            self.hold()
            self._reading = None  # only a reset goes on from here
            raise StaleObservationError(
                f"what the driver read is {age:.2f} s old; stale_s is {self._limits.stale_s:g}: the arm holds"
            )
        self._reading = reading
        return reading

    def _observe(self, reading: RobotState) -> EnvObservation:
        images = {camera: square(reading.images[camera], self._image_size, self._fit) for camera in self._cameras}
        if reading.state is not None:
            state = np.asarray(reading.state, np.float32)
        else:
            known = dict(zip(STATE_NAMES, make_state(reading.pose, np.clip(reading.gripper, 0, 1))))
            unknown = [name for name in self.state_names if name not in known]
            if unknown:
                raise DriverError(
                    f"the policy's state has {', '.join(unknown)}, which no pose tells; let the driver's readings bring "
                    "their state"
                )
            state = np.array([known[name] for name in self.state_names], np.float32)
        if state.shape != (len(self.state_names),):
            raise DriverError(f"the driver's state is {list(state.shape)}; the policy's has {len(self.state_names)}")
        return EnvObservation(images, state)

    def hold(self, event: str | None = None) -> None:
        """Makes the arm stay: where it is measured; at its last target, where what is measured is old. With ``event`` only if
        no target has come in time, and counted under that name."""
        with self._busy:
            if self._fed is None or self._last is None or self.stopped:
                return
            if event and time.monotonic() - self._fed <= self._limits.timeout_s:
                return
            reading = self._driver.read()
            check_state(reading, self._cameras)
            pose, gripper = self._last[:7], self._last[7]
            if time.monotonic() - reading.time <= self._limits.stale_s:
                self._reading, pose = reading, np.asarray(reading.pose, np.float64)
            with self._commanding:
                if self.stopped:
                    return
                self._driver.hold(pose.copy(), float(gripper))
                self._last, self._fed = np.append(pose, gripper), None
                self._happened += [event] if event else []

    def _watch(self) -> None:
        """The watchdog: holds the arm when no target comes."""
        while not self._closing.wait(_POLL_SECONDS) and not self.stopped:
            fed = self._fed
            if fed is not None and time.monotonic() - fed > self._limits.timeout_s:
                logger.warning("no target for %g s: the arm holds", self._limits.timeout_s)
                self.hold("held")

    def _look_out(self) -> None:
        """The sentry: stops the arm when something is wrong. Calls nothing of the driver's that could hang."""
        while not self._closing.wait(_POLL_SECONDS) and not self.stopped:
            fed, fault = self._fed, self._driver.fault()
            if fault:
                self.stop(f"the arm says: {fault}")
            elif self._emergency is not None and self._emergency():
                self.stop("emergency stop")
            elif fed is not None and time.monotonic() - fed > 2 * self._limits.timeout_s:
                self.stop("no target in time, and the driver does not let it hold", DriverError.outcome)

    def _guarded(self, work: Callable[[], None]) -> None:
        """A thread's boundary, beyond which an exception would be lost: a guard that fails stops the arm, is logged even if
        it was stopped before, and the episode counts as the driver's."""
        try:
            work()
        except Exception as error:
            logger.exception("a guard of the arm failed")
            self.stop(f"{work.__name__.strip('_')} failed: {type(error).__name__}: {error}", DriverError.outcome)

    def _check_running(self) -> None:
        if self.stopped:
            error = RobotStoppedError(f"the arm is stopped: {self.stop_reason}")
            error.outcome = self._stop_outcome
            raise error


class _StoppingOnErrors:
    """Whatever leaves the block but what only asks the arm to hold stops it; a driver's own exceptions get our type."""

    def __init__(self, robot: Robot):
        self._robot = robot

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, _) -> None:
        if error is None or isinstance(error, (StaleObservationError, OutsideWorkspaceError)):
            return
        if not self._robot.stopped:
            self._robot.stop(f"{kind.__name__}: {error}", getattr(error, "outcome", DriverError.outcome))
        if isinstance(error, Exception) and not isinstance(error, EnvError):
            raise DriverError(f"the driver failed: {kind.__name__}: {error}") from error
