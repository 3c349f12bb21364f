"""What may be commanded of an arm: the targets of a policy, made harmless before they reach the driver.

A target goes through these in turn; each that changes it is an event, counted in the episode's results:

    box_clipped    its position lies outside the box low .. high: the nearest point of the box
    step_clipped   it is further than ``step_m`` from the last commanded target: that far towards it
    turn_clipped   it is turned by more than ``step_deg`` from the last one: so far towards it, on the shorter arc
    lead_clipped   it is further than ``lead_m`` from where the arm was measured: that far from there, towards it.
                   An arm that is blocked, or slow, is not wound up

The box comes last again; a projection on a box lengthens no step. What is not finite, or no unit quaternion, is no
target at all: the arm is stopped (``Robot.step``). Before the first command the measured pose stands for the last target.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from drifting_vla_jax.core import ranges
from drifting_vla_jax.core.suggest import did_you_mean

_METRES, _MORE_THAN_NONE = ranges.Number(-1e4, 1e4), ranges.Number(0.0, 1e6, "(]")


@dataclass(frozen=True)
class SafetyLimits:
    """See the module; none has a default, for no two arms and tables are alike.

    Attributes:
      low, high: corners of the workspace box for the hand's position, metres, in the arm's base.
      step_m, step_deg: largest change of the target in a control period: at 20 Hz 0.01 m are 0.2 m/s.
      lead_m: how far from the measured position a target may be.
      timeout_s: after so long without a new target the arm holds where it is; after twice as long, if it could not be
        made to hold, it is stopped.
      stale_s: oldest reading that is acted on.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    step_m: float
    step_deg: float
    lead_m: float
    timeout_s: float
    stale_s: float

    def __post_init__(self):
        for name in ("low", "high"):
            corner = getattr(self, name)
            if np.shape(corner) != (3,) or any(map(_METRES.problem, corner)):
                raise ValueError(f"limits: {name} is {corner}; expected x, y, z in metres")
        if not all(a < b for a, b in zip(self.low, self.high)):
            raise ValueError(f"limits: low is {self.low}, high {self.high}; expected low below high in x, y and z")
        for name in ("step_m", "step_deg", "lead_m", "timeout_s", "stale_s"):
            value = getattr(self, name)
            if _MORE_THAN_NONE.problem(value):
                raise ValueError(f"limits: {name} is {value!r}; expected a number above 0, up to a million")
        if self.lead_m < self.step_m:
            raise ValueError(f"limits: lead_m {self.lead_m} is below step_m {self.step_m}: no whole step could be made")

    @classmethod
    def load(cls, path: Path) -> SafetyLimits:
        """From a JSON object with every field.

        Raises:
          ValueError: no JSON object, an unknown or missing name, a value that cannot be.
          OSError: it cannot be read.
        """
        try:
            said = json.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(said, dict):
            raise ValueError(f"{path} holds no object; expected {', '.join(names)}")
        for name in said:
            if name not in names:
                raise ValueError(f"{path}: unknown limit {name!r}; {did_you_mean(name, names)}")
        missing = [name for name in names if name not in said]
        if missing:
            raise ValueError(f"{path} lacks {', '.join(missing)}; every limit must be said")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in said.items()})

    def inside(self, position: np.ndarray) -> bool:
        """Whether a position [3] is in the box."""
        return bool(np.all(position >= self.low) and np.all(position <= self.high))

    def apply(self, target: np.ndarray, last: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """What may be commanded in place of a target.

        Args:
          target: [8] position, unit quaternion, gripper.
          last: [7] the pose that was commanded last.
          measured: [3] where the hand is.

        Returns:
          [8], float64, and the events.
        """
        events = []
        position = np.clip(target[:3], self.low, self.high)
        if not np.array_equal(position, target[:3]):
            events.append("box_clipped")
        for name, centre, reach in (("step", last[:3], self.step_m), ("lead", measured, self.lead_m)):
            way = position - centre
            length = np.linalg.norm(way)
            if length > reach * (1 + 1e-9):
                position = centre + way * (reach / length)
                events.append(f"{name}_clipped")
        rotation, turned = turn_towards(last[3:7], target[3:7], math.radians(self.step_deg))
        if turned:
            events.append("turn_clipped")
        position = np.clip(position, self.low, self.high)
        return np.concatenate([position, rotation, target[7:]]), tuple(events)


def angle_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Radians [*n] between rotations, unit quaternions [*n, 4]: q and -q are the same."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    sign = np.where(np.sum(a * b, -1, keepdims=True) < 0, -1.0, 1.0)
    # of chord and co-chord: exact for small angles, where an arc cosine is not
    return 4 * np.arctan2(np.linalg.norm(a - sign * b, axis=-1), np.linalg.norm(a + sign * b, axis=-1))


def turn_towards(start: np.ndarray, end: np.ndarray, limit: float) -> tuple[np.ndarray, bool]:
    """``end`` [4], or ``start`` turned by ``limit`` radians towards it if it is further; and whether it was."""
    angle = float(angle_between(start, end))
    if angle <= limit * (1 + 1e-9):
        return np.asarray(end, np.float64), False
    end = end if np.dot(start, end) >= 0 else -np.asarray(end)
    half = angle / 2  # of quaternions, whose arc is half that of the rotation
    share = limit / angle
    turned = (math.sin((1 - share) * half) * start + math.sin(share * half) * end) / math.sin(half)
    return turned / np.linalg.norm(turned), True
