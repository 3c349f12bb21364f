"""From the fields of somebody else's recordings to our state and our targets, by a checked mapping (``mapping.py``).

    end_effector  state    [t, s]  x y z | where the hand's x and y axes point (6) | gripper 0 closed .. 1 open | more, as it is
                  targets  [n, 8]  x y z, unit qx qy qz qw with w >= 0, gripper
    bimanual      state    [t, s]  x y z of the left hand, of the right | axes and gripper of the left, of the right | more
                  targets  [n, 16] of the left hand, then of the right
    joints        state    [t, s]  joints | grippers | more
                  targets  [n, k]  joints | grippers

Row i of the targets is one step after row i of the state:

    absolute   n = t       the action is the target
    delta      n = t       base: p' = p + d, R' = dR R;  hand: p' = p + R d, R' = R dR;  joints: q' = q + d;  p, R, q: the
                           same row's state
    achieved   n = t - 1   what the next row's state has

Positions are metres in the frame that the recordings use, rotations are the hand's in it, joints are in their own unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from drifting_vla_jax.core.action_layout import ActionLayout
from drifting_vla_jax.core.end_effector import STATE_NAMES
from drifting_vla_jax.data.sources.recorded import names as said
from drifting_vla_jax.data.sources.recorded.fields import FORMS, Field, MappingError, beyond, opening, rotation_of

Widths = Mapping[str, int]  # numbers of a field
Names = Mapping[str, Sequence[str]]  # what each of them is, where the data set says so
Arrays = Mapping[str, np.ndarray]  # {field: [t, k]}


class _Body(Protocol):
    """What is read of one layout: ``state_names`` of [t, s] and ``layout`` of [n, k]; ``entries`` it takes them from."""

    layout: ActionLayout
    state_names: tuple[str, ...]
    entries: tuple[str, ...]

    def state(self, arrays: Arrays) -> np.ndarray: ...

    def targets(self, arrays: Arrays) -> np.ndarray: ...


class FieldExtractor:
    """A checked mapping (see ``mapping.load``) for data with fields of these widths.

    Attributes:
      fields: names of every field that is read.
      state_names: what each entry of the state is.
      layout: what the numbers of a target are.
      unread: numbers that are left of these fields, "name[i:j] (names)".

    Raises (on creation):
      MappingError: a field that is not there, or has too few or other numbers; or the data set calls them something else.
    """

    def __init__(self, spec: Mapping, widths: Widths, names: Names):
        self._body: _Body = (_Joints if spec.get("layout") == "joints" else _Hands)(spec, widths, names)
        self._more = [Field.parse(text) for text in spec["state"].get("more", [])]
        self.layout, self.state_names = self._body.layout, self._body.state_names
        for field in self._more:
            self.state_names += _names_of(field, widths, names)
        action = [spec["action"], *(spec["action"].get(arm, {}) for arm in ("left", "right"))]
        moved = [part[entry] for part in action for entry in ("position", "rotation") if entry in part]
        moved += spec["action"].get("joints", [])
        self._moved = [Field.parse(entry["field"]) for entry in moved if spec["action"]["kind"] == "delta"]
        self._grippers = [entry for part in ("state", "action") for entry in _grippers(spec[part])]
        entries = [*self._body.entries, *spec["state"].get("more", [])]
        self.fields = tuple(dict.fromkeys(Field.parse(entry).name for entry in entries))
        self.unread = said.unread(entries, widths, names)

    def state(self, arrays: Arrays) -> np.ndarray:
        """float32 [t, s] of fields [t, k]."""
        parts = [self._body.state(arrays), *(field.take(arrays) for field in self._more)]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def targets(self, arrays: Arrays) -> np.ndarray:
        """float32 [n, k] of fields [t, k], row i one step after row i of the state.

        Raises:
          ValueError: a rotation that is none.
        """
        return self._body.targets(arrays).astype(np.float32)

    def commands(self, arrays: Arrays) -> np.ndarray | None:
        """[t, c], what is added to where things are; None where targets are told as they are."""
        return np.concatenate([field.take(arrays) for field in self._moved], axis=1) if self._moved else None

    def beyond(self, arrays: Arrays) -> dict[str, float]:
        """{field of a gripper: share of the rows that lie more than a twentieth beyond its open and closed}."""
        return {entry["field"]: beyond(entry, arrays) for entry in self._grippers if not entry.get("relative", False)}


def _grippers(part: Mapping) -> list[Mapping]:
    """The entries of a state's or an action's grippers."""
    hands = (part, part.get("left", {}), part.get("right", {}))
    return [hand["gripper"] for hand in hands if "gripper" in hand] + part.get("grippers", [])


def _names_of(field: Field, widths: Widths, names: Names) -> tuple[str, ...]:
    """What the data set calls these entries, or their places where it calls them nothing."""
    first = field.start
    known = names.get(field.name) or [f"{field.name}[{i}]" for i in range(widths[field.name])]
    return tuple(known[first : first + field.width(widths)])


def _called(where: str, entry: Mapping, widths: Widths, names: Names) -> Sequence[str] | None:
    """What the mapping or, if it does not say, the data set calls an entry's numbers; None: nobody does.

    Raises:
      MappingError: the mapping gives other numbers than names.
    """
    field, given = Field.parse(entry["field"]), entry.get("names")
    if given is not None and len(given) != field.width(widths):
        raise MappingError(f"{where} gives {len(given)} names to {entry['field']}: {field.width(widths)} numbers")
    return given or (_names_of(field, widths, names) if names.get(field.name) else None)


class _Hand:
    """One hand: its part of the mapping's state and action, [t, ...] of each; ``arm`` for messages and names."""

    def __init__(self, arm: str, spec: Mapping, widths: Widths, names: Names):
        self.arm, self._kind = arm, spec["action"]["kind"]
        self._in_hand = spec["action"].get("frame", "base") == "hand"
        self._state, self._action = (spec[part][arm] if arm else spec[part] for part in ("state", "action"))
        self.entries, arms = [], {arm} - {""}
        for part, entries in (("state", self._state), ("action", self._action)):
            for entry in ("position", "rotation", "gripper"):
                if entry in entries:
                    arms |= self._check(".".join(filter(None, (part, arm, entry))), entries[entry], widths, names)
        if len(arms) > 1:
            raise said.Disagreement(f"{f'the {arm} hand' if arm else 'one hand'} is read from numbers that the data set calls "
                                    f"left and right: {', '.join(self.entries)}")  # fmt: skip
        self.rest_names = STATE_NAMES[3:9] if "rotation" in self._state else ()
        self.rest_names += STATE_NAMES[9:] if "gripper" in self._state else ()

    def _check(self, where: str, entry: Mapping, widths: Widths, names: Names) -> set[str]:
        """Raises MappingError; returns the arms that its names name."""
        field = Field.parse(entry["field"])
        wanted = {"position": 3, "gripper": 1}.get(where.split(".")[-1]) or FORMS.get(entry.get("form"), 3)
        found = field.width(widths)
        if found != wanted:
            raise MappingError(f"{where} is {entry['field']}: {found} numbers; expected {wanted}")
        self.entries.append(entry["field"])
        if self._kind == "achieved" and where.startswith("action") and not where.endswith("gripper"):
            return set()  # means nothing then
        called = _called(where, entry, widths, names)
        if where.endswith("gripper") and "names" not in entry:
            said.check_gripper(where, entry, called, names.get(field.name))
        moves = where.startswith("action") and self._kind == "delta"
        return said.check_entry(where, entry, called, moves, widths[field.name])

    def position(self, arrays: Arrays) -> np.ndarray:
        """Of the state, [t, 3]."""
        return _pose(self._state, arrays)[0]

    def rest(self, arrays: Arrays) -> np.ndarray:
        """Of the state, what its position leaves, [t, k]."""
        position, rotation = _pose(self._state, arrays)
        parts = [position[:, :0]]
        if rotation is not None:
            matrix = rotation.as_matrix()
            parts += [matrix[..., 0], matrix[..., 1]]
        if "gripper" in self._state:
            parts.append(opening(self._state["gripper"], arrays)[:, None])
        return np.concatenate(parts, axis=1)

    def targets(self, arrays: Arrays) -> np.ndarray:
        """[n, 8]."""
        if self._kind == "achieved":
            position, rotation = _pose(self._state, arrays)
            position, rotation = position[1:], rotation[1:]
        else:
            position, rotation = _pose(self._action, arrays)
        if self._kind == "delta":
            here, turned = _pose(self._state, arrays)
            position = here + (turned.apply(position) if self._in_hand else position)
            rotation = turned * rotation if self._in_hand else rotation * turned
        gripper = _aimed_opening(self._action.get("gripper"), self._state.get("gripper"), arrays)[: len(position)]
        return np.concatenate([position, rotation.as_quat(canonical=True), gripper[:, None]], axis=1)


class _Hands:
    """One hand, or a left and a right one."""

    def __init__(self, spec: Mapping, widths: Widths, names: Names):
        self.layout = ActionLayout(spec.get("layout", "end_effector"))
        arms = ("left", "right") if self.layout.name == "bimanual" else ("",)
        self._hands = [_Hand(arm, spec, widths, names) for arm in arms]
        named = [(hand.arm, STATE_NAMES[:3]) for hand in self._hands]
        named += [(hand.arm, hand.rest_names) for hand in self._hands]
        self.state_names = tuple(f"{arm} {name}".strip() for arm, names in named for name in names)
        self.entries = tuple(entry for hand in self._hands for entry in hand.entries)

    def state(self, arrays: Arrays) -> np.ndarray:
        parts = [hand.position(arrays) for hand in self._hands] + [hand.rest(arrays) for hand in self._hands]
        return np.concatenate(parts, axis=1)

    def targets(self, arrays: Arrays) -> np.ndarray:
        return np.concatenate([hand.targets(arrays) for hand in self._hands], axis=1)


class _Joints:
    """Joints and grippers, each from where the mapping has it, in the mapping's order."""

    def __init__(self, spec: Mapping, widths: Widths, names: Names):
        self._state, self._action, self._kind = spec["state"], spec["action"], spec["action"]["kind"]
        used = [(part, kind) for part in ("state", "action") for kind in ("joints", "grippers") if kind in spec[part]]
        if self._kind == "achieved":
            used = [place for place in used if place != ("action", "joints")]
        found = {f"{part}.{kind}": _named(f"{part}.{kind}", spec[part][kind], widths, names) for part, kind in used}
        for kind in ("joints", "grippers"):
            _check_same(kind, found.get(f"state.{kind}"), found.get(f"action.{kind}"))
        joints = found.get("action.joints") or found["state.joints"]
        grippers = found.get("action.grippers") or found.get("state.grippers", ())
        try:
            self.layout = ActionLayout("joints", joints, grippers)
        except ValueError as error:
            raise MappingError(f'{error}; the data set calls them so: give them "names" in the mapping') from error
        self.state_names = joints + (grippers if self._state.get("grippers") else ())
        self.entries = tuple(entry["field"] for part, kind in used for entry in spec[part][kind])

    def state(self, arrays: Arrays) -> np.ndarray:
        openings = [opening(entry, arrays)[:, None] for entry in self._state.get("grippers", [])]
        return np.concatenate([_angles(self._state, arrays), *openings], axis=1)

    def targets(self, arrays: Arrays) -> np.ndarray:
        now = _angles(self._state, arrays)
        joints = now[1:] if self._kind == "achieved" else _angles(self._action, arrays)
        joints = joints + now if self._kind == "delta" else joints
        told, measured = (part.get("grippers", []) for part in (self._action, self._state))
        pairs = [(entry, None) for entry in told] or [(None, entry) for entry in measured]
        openings = [_aimed_opening(*pair, arrays)[: len(joints), None] for pair in pairs]
        return np.concatenate([joints, *openings], axis=1)


def _named(where: str, entries: Sequence[Mapping], widths: Widths, names: Names) -> tuple[str, ...]:
    """What the numbers of these entries are called.

    Raises:
      MappingError: other numbers than names, or what the data set calls something else than a gripper is taken for one.
    """
    found: tuple[str, ...] = ()
    for entry in entries:
        field = Field.parse(entry["field"])
        width, called = field.width(widths), _called(where, entry, widths, names)
        if where.endswith("grippers"):
            if width != 1:
                raise MappingError(f"{where} has {entry['field']}: {width} numbers; expected 1 of each")
            if "names" not in entry:
                said.check_gripper(where, entry, called, names.get(field.name))
            said.check_entry(where.removesuffix("s"), entry, called, False, widths[field.name])
        else:
            said.check_joints(where, entry, called)
        found += tuple(called or _names_of(field, widths, names))
    return found


def _check_same(kind: str, now: tuple[str, ...] | None, aimed: tuple[str, ...] | None) -> None:
    if now is None or aimed is None:
        return
    if len(now) != len(aimed):
        raise MappingError(
            f"state.{kind} are {len(now)} numbers, action.{kind} are {len(aimed)}; expected the same in both"
        )
    if now != aimed and sorted(now) == sorted(aimed):
        raise MappingError(
            f"state.{kind} are {', '.join(now)}, action.{kind} are {', '.join(aimed)}; expected one order for both"
        )


def _angles(part: Mapping, arrays: Arrays) -> np.ndarray:
    """Joints of a part of the mapping, float64 [t, j]."""
    taken = [Field.parse(e["field"]).take(arrays).astype(np.float64) * e.get("scale", 1.0) for e in part["joints"]]
    return np.concatenate(taken, axis=1)


def _aimed_opening(told: Mapping | None, measured: Mapping | None, arrays: Arrays) -> np.ndarray:
    """[t] openings to aim at: those of the action or, without one, the measured ones of the next row."""
    if told is not None:
        return opening(told, arrays)
    found = opening(measured, arrays)
    return np.append(found[1:], found[-1:])


def _pose(part: Mapping, arrays: Arrays) -> tuple[np.ndarray, Rotation | None]:
    position = Field.parse(part["position"]["field"]).take(arrays).astype(np.float64)
    position = position * part["position"].get("scale", 1.0)
    if "rotation" not in part:
        return position, None
    return position, rotation_of(part["rotation"], arrays)
