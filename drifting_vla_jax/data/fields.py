"""From the fields of somebody else's recordings to our state and our targets, by a checked mapping (``mapping.py``).

    state    [t, s]  x y z | where the hand's x and y axes point (6) | gripper 0 closed .. 1 open | more, as it is
    targets  [n, 8]  x y z, unit qx qy qz qw with w >= 0, gripper; row i is the target one step after row i

    absolute   n = t       the action is the pose
    delta      n = t       base: p' = p + d, R' = dR R;  hand: p' = p + R d, R' = R dR;  p, R: the same row's state
    achieved   n = t - 1   the pose of the next row's state

Positions are metres in the frame that the recordings use, rotations are the hand's in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from drifting_vla_jax.data.actions import quaternion_from_6d
from drifting_vla_jax.envs.rlbench_state import STATE_NAMES
from drifting_vla_jax.hints import hint

FORMS = {"axis_angle": 3, "quaternion_xyzw": 4, "quaternion_wxyz": 4, "rotation_6d": 6, "matrix": 9}
EULER = re.compile(r"euler_([xyz]{3}|[XYZ]{3})")
FIELD = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>\d+)(?P<colon>:(?P<stop>\d*))?\])?")
UNIT = 1e-3  # how far a recorded quaternion's length may be from 1
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
            raise MappingError(f"the data set has no numbers {self.name!r}; {hint(self.name, widths)}")
        stop = widths[self.name] if self.stop is None else self.stop
        if not self.start < stop <= widths[self.name]:
            raise MappingError(
                f"{self.name} has {widths[self.name]} numbers; entries {self.start} to {stop} are asked for"
            )
        return stop - self.start

    def take(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """These entries, [t, k]."""
        return arrays[self.name][:, self.start : self.stop]


class Reading:
    """A checked mapping (see ``load``) for data with fields of these widths.

    Attributes:
      fields: names of every field that is read.
      state_names: what each entry of the state is.

    Raises (on creation):
      MappingError: a field that is not there, or has too few numbers.
    """

    def __init__(self, spec: Mapping, widths: Mapping[str, int], names: Mapping[str, Sequence[str]]):
        """``names``: what each number of a field is, where the data set says so."""
        self._state, self._action = spec["state"], spec["action"]
        self.fields = {}
        for part, entries in (("state", self._state), ("action", self._action)):
            for entry in ("position", "rotation", "gripper"):
                if entry in entries:
                    self._check(f"{part}.{entry}", entries[entry], widths)
        self._more = [Field.parse(text) for text in self._state.get("more", [])]
        self.state_names = STATE_NAMES[:3]
        self.state_names += STATE_NAMES[3:9] if "rotation" in self._state else ()
        self.state_names += STATE_NAMES[9:] if "gripper" in self._state else ()
        for field in self._more:
            numbers = range(field.start, field.start + field.width(widths))
            known = names.get(field.name) or [f"{field.name}[{i}]" for i in range(widths[field.name])]
            self.state_names += tuple(known[i] for i in numbers)
            self.fields[field.name] = None
        self.fields = tuple(self.fields)

    def _check(self, where: str, entry: Mapping, widths: Mapping[str, int]) -> None:
        field = Field.parse(entry["field"])
        kind = where.split(".")[1]
        wanted = {"position": 3, "gripper": 1}.get(kind) or FORMS.get(entry.get("form"), 3)
        found = field.width(widths)
        if found != wanted:
            raise MappingError(f"{where} is {entry['field']}: {found} numbers; expected {wanted}")
        self.fields[field.name] = None

    def state(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """float32 [t, s] of fields [t, k]."""
        position, rotation = self._pose(self._state, arrays)
        parts = [position]
        if rotation is not None:
            matrix = rotation.as_matrix()
            parts += [matrix[..., 0], matrix[..., 1]]
        if "gripper" in self._state:
            parts.append(_gripper(self._state["gripper"], arrays)[:, None])
        parts += [field.take(arrays) for field in self._more]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def targets(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """float32 [n, 8] of fields [t, k], row i one step after row i of the state.

        Raises:
          ValueError: a rotation that is none.
        """
        kind = self._action["kind"]
        if kind == "achieved":
            position, rotation = self._pose(self._state, arrays)
            position, rotation = position[1:], rotation[1:]
        else:
            position, rotation = self._pose(self._action, arrays)
        if kind == "delta":
            here, turned = self._pose(self._state, arrays)
            hand = self._action.get("frame", "base") == "hand"
            position = here + (turned.apply(position) if hand else position)
            rotation = turned * rotation if hand else rotation * turned
        if "gripper" in self._action:
            gripper = _gripper(self._action["gripper"], arrays)
        else:
            measured = _gripper(self._state["gripper"], arrays)
            gripper = np.append(measured[1:], measured[-1:])
        gripper = gripper[: len(position)]
        return np.concatenate([position, rotation.as_quat(canonical=True), gripper[:, None]], axis=1).astype(np.float32)

    def _pose(self, part: Mapping, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, Rotation | None]:
        position = Field.parse(part["position"]["field"]).take(arrays).astype(np.float64)
        position = position * part["position"].get("scale", 1.0)
        if "rotation" not in part:
            return position, None
        return position, _rotation(part["rotation"], arrays)


def _rotation(entry: Mapping, arrays: Mapping[str, np.ndarray]) -> Rotation:
    values = Field.parse(entry["field"]).take(arrays).astype(np.float64)
    form, angles = entry["form"], values * entry.get("scale", 1.0)
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


def _gripper(entry: Mapping, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
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
