"""Entries of a field of somebody else's recordings, and what becomes of their numbers: rotations, openings of a gripper.

Rotations are the hand's in the frame that the recordings use; an opening is 0 closed .. 1 open. Which entries are what says
a mapping (``mapping.py``), and ``extract.py`` puts them together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from drifting_vla_jax.core.suggest import did_you_mean
from drifting_vla_jax.data.normalization import quaternion_from_6d

FORMS = {"axis_angle": 3, "quaternion_xyzw": 4, "quaternion_wxyz": 4, "rotation_6d": 6, "matrix": 9}
EULER = re.compile(r"euler_([xyz]{3}|[XYZ]{3})")
FIELD = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>\d+)(?P<colon>:(?P<stop>\d*))?\])?")
UNIT = 1e-3  # how far a recorded quaternion's length may be from 1
TURNS = 8 * np.pi  # radians; angles beyond are degrees
MOVES = 0.1  # a relative gripper that says less says nothing


class MappingError(ValueError):
    """A mapping that says something unknown, or too little."""


@dataclass(frozen=True)
class Field:
    """Entries of a field: ``name``, ``name[i]``, ``name[i:]`` or ``name[i:j]``."""

    name: str
    start: int = 0
    stop: int | None = None

    @classmethod
    def parse(cls, text: str) -> Field:
        match = FIELD.fullmatch(text)
        if not match:
            raise MappingError(f"{text!r} names no field; expected name, name[i], name[i:] or name[i:j]")
        name, start = match["name"], int(match["start"] or 0)
        if match["start"] is None or match["colon"]:
            return cls(name, start, int(match["stop"]) if match["stop"] else None)
        return cls(name, start, start + 1)

    def width(self, widths: Mapping[str, int]) -> int:
        """How many numbers there are, given those of each field.

        Raises:
          MappingError: no such field, or fewer numbers; says what there is.
        """
        if self.name not in widths:
            raise MappingError(f"the data set has no numbers {self.name!r}; {did_you_mean(self.name, widths)}")
        stop = widths[self.name] if self.stop is None else self.stop
        if not self.start < stop <= widths[self.name]:
            raise MappingError(
                f"{self.name} has {widths[self.name]} numbers; entries {self.start} to {stop} are asked for"
            )
        return stop - self.start

    def take(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """These entries, [t, k]."""
        return arrays[self.name][:, self.start : self.stop]


def rotation_of(entry: Mapping, arrays: Mapping[str, np.ndarray]) -> Rotation:
    """t rotations; raises ValueError where numbers are none."""
    values = Field.parse(entry["field"]).take(arrays).astype(np.float64)
    form, angles = entry["form"], values * entry.get("scale", 1.0)
    if (form.startswith("euler") or form == "axis_angle") and np.abs(angles).max(initial=0) > TURNS:
        row = int(np.abs(angles).max(1).argmax())
        raise ValueError(f"{entry['field']} of row {row} is {np.abs(angles[row]).max():g}; expected radians (of degrees: give it "
                         "the scale 0.0174533)")  # fmt: skip
    if form.startswith("euler"):
        return Rotation.from_euler(form.removeprefix("euler_"), angles)
    if form == "axis_angle":
        return Rotation.from_rotvec(angles)
    if form == "rotation_6d":
        return Rotation.from_quat(quaternion_from_6d(values))
    if form == "matrix":
        return Rotation.from_matrix(values.reshape(-1, 3, 3))
    length = np.linalg.norm(values, axis=1)
    if np.any(np.abs(length - 1) > UNIT):
        worst = int(np.abs(length - 1).argmax())
        raise ValueError(f"{entry['field']} of row {worst} has length {length[worst]:.4f}; expected a unit quaternion")
    return Rotation.from_quat(np.roll(values, -1, axis=1) if form == "quaternion_wxyz" else values)


def opening(entry: Mapping, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """[t], 0 closed .. 1 open. A relative one speaks when it changes something, and holds until it speaks again; before
    it first does, the hand is as that first word would not find it."""
    values = Field.parse(entry["field"]).take(arrays).astype(np.float64)[:, 0]
    opened, closed = entry.get("open", 1), entry.get("closed", 0)
    if not entry.get("relative", False):
        return np.clip((values - closed) / (opened - closed), 0.0, 1.0)
    said = np.sign(np.where(np.abs(values) > MOVES, values, 0.0)) * np.sign(opened)
    spoken = np.flatnonzero(said)
    if not len(spoken):
        return np.ones(len(values))
    latest = np.maximum.accumulate(np.where(said != 0, np.arange(len(said)), -1))
    return np.where(latest < 0, said[spoken[0]] < 0, said[latest] > 0).astype(np.float64)


def beyond(entry: Mapping, arrays: Mapping[str, np.ndarray]) -> float:
    """Share of the rows in which a gripper is more than a twentieth of its way beyond its open or closed."""
    values = Field.parse(entry["field"]).take(arrays).astype(np.float64)[:, 0]
    opened, closed = entry.get("open", 1), entry.get("closed", 0)
    share = (values - closed) / (opened - closed)
    return float(np.mean((share < -0.05) | (share > 1.05)))
