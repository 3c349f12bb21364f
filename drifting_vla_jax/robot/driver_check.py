"""Looks at a driver without moving the arm: rates, pictures, poses, times. Every problem is one line."""

from __future__ import annotations

import time

import numpy as np

from drifting_vla_jax.robot.driver import Driver, DriverError, check_state
from drifting_vla_jax.robot.safety import SafetyLimits, angle_between

STILL_M, STILL_DEG = 0.005, 2.0  # by which the measured pose of an arm at rest may wander


def check_driver(
    driver: Driver, seconds: float, limits: SafetyLimits | None = None, control_hz: float = 0.0
) -> tuple[list[str], list[str]]:
    """Reads for so long and commands nothing: the arm must be at rest.

    Args:
      limits, control_hz: what the readings must be fit for, where that is known.

    Returns:
      What was found, and what is wrong with it.
    """
    readings, ages, took, problems = [], [], [], []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(readings) < 2:
        began = time.monotonic()
        try:
            reading = driver.read()
            check_state(reading, driver.cameras)
        except DriverError as error:
            return [], [str(error)]
        now = time.monotonic()
        readings.append(reading)
        took.append(now - began)
        ages.append(now - reading.time)
        time.sleep(max(0.0, 0.002 - took[-1]))  # a driver that answers from memory need not be asked a million times
    times = np.array([reading.time for reading in readings])
    new = np.count_nonzero(np.diff(times) > 0)
    rate = new / (times[-1] - times[0]) if new else 0.0
    lines = [f"{len(readings)} readings, {rate:.1f} new ones per second; a call takes {1000 * np.median(took):.1f} ms, "
             f"at most {1000 * max(took):.1f} ms; age at most {1000 * max(ages):.0f} ms"]  # fmt: skip
    if np.any(np.diff(times) < 0):
        problems.append("times go back: expected time.monotonic() when the oldest part of a reading was taken")
    if min(ages) < 0 or max(ages) > 3600:
        problems.append(
            f"a reading is {max(ages, key=abs):.1f} s old: expected seconds of time.monotonic(), not of time.time()"
        )
    elif limits and max(ages) > limits.stale_s:
        problems.append(f"a reading is {max(ages):.3f} s old, stale_s is {limits.stale_s:g}: such an arm would hold")
    if not new:
        problems.append("no new reading in all this time: is the arm connected, are the cameras running?")
    elif control_hz and rate < 0.9 * control_hz:
        problems.append(f"{rate:.1f} new readings per second; the policy acts at {control_hz:g} Hz")
    if control_hz and max(took) > 1 / control_hz:
        problems.append(f"a call took {1000 * max(took):.0f} ms; a control period has {1000 / control_hz:.0f} ms")
    for camera in driver.cameras:
        pictures = [reading.images[camera] for reading in readings]
        shapes = {picture.shape for picture in pictures}
        lines.append(
            f"camera {camera}: {' and '.join('x'.join(map(str, s)) for s in shapes)}, mean {pictures[-1].mean():.0f} of 255"
        )
        if len(shapes) > 1:
            problems.append(f"camera {camera}: pictures differ in size")
        elif pictures[-1].std() < 1:
            problems.append(f"camera {camera}: every pixel is alike; is there a cap on it?")
        elif all(np.array_equal(pictures[0], picture) for picture in pictures[1:]):
            problems.append(
                f"camera {camera}: not a pixel changes in {seconds:g} s; a real camera has noise: it is frozen"
            )
    problems += _pose_problems(np.array([reading.pose for reading in readings], np.float64), limits)
    last = readings[-1]
    lines.append(
        f"pose {np.round(last.pose, 4).tolist()}, gripper {last.gripper:.2f}: compare them with a ruler, in the base's frame"
    )
    fault = driver.fault()
    if not isinstance(fault, str):
        problems.append(f"fault() gives {fault!r}; expected '' or why the arm must not move")
    elif fault:
        problems.append(f"the arm says: {fault}")
    return lines, problems


def _pose_problems(poses: np.ndarray, limits: SafetyLimits | None) -> list[str]:
    problems = []
    wander = np.linalg.norm(poses[:, :3] - poses[0, :3], axis=1).max()
    turn = np.degrees(
        angle_between(poses[:, 3:] / np.linalg.norm(poses[:, 3:], axis=1, keepdims=True), poses[:1, 3:])
    ).max()
    if wander > STILL_M or turn > STILL_DEG:
        problems.append(
            f"the arm should be at rest, and its pose moves by {100 * wander:.1f} cm and {turn:.1f} degrees"
        )
    if np.abs(poses[:, :3]).max() > 5:
        problems.append(f"the position is {np.round(poses[-1, :3], 2).tolist()}: expected metres, not millimetres")
    if limits and not all(limits.inside(position) for position in poses[:, :3]):
        problems.append(f"the hand is at {np.round(poses[-1, :3], 3).tolist()}, outside the limits' box")
    return problems
