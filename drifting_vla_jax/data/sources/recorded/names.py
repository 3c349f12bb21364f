"""What a data set calls its numbers, against what a mapping reads them as.

A name is a statement only where it is sure: "qw", "pad", "roll_deg", "gripper_closed" say what they are; "motor_0", "dim_3",
"state" say nothing. What is said must agree with the mapping; what is not said is not asked for.

    x, ee_x, pos_x, x_mm       position          roll, euler_z      angles about x y z       rotvec_x    axis_angle
    qw, quat_w                 quaternion        rx, wx, rot_x      some rotation            rot6d_0     rotation_6d
    gripper, jaw, gripper.pos  gripper           elbow, joint_3     joint                    pad, unused padding

Angles that are called roll, pitch, yaw may be of an axis-angle vector: libero's conversions to LeRobot's format are named so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drifting_vla_jax.core.metadata import is_text
from drifting_vla_jax.data.sources.recorded.fields import Field, MappingError

GRIPPER = re.compile(r"grip|finger|hand|jaw|claw", re.I)  # what data sets call one
PADDING = {"pad", "padding", "padded", "unused", "dummy", "reserved", "placeholder"}
BODY = {"shoulder", "elbow", "forearm", "waist", "hip", "knee", "ankle", "neck", "torso"}
WRIST = {"flex", "roll", "pitch", "yaw", "angle", "rotate", "rotation"}  # of a wrist: a joint
JOINT = {"joint", "joints", "jnt", "qpos", "j"}
OTHER_BODY = {"base", "head", "torso", "camera", "object", "goal"}
POSITION = {"pos", "position", "trans", "translation", "xyz"}
HAND = {"ee", "eef", "tcp", "hand", "effector", "cartesian"}
VELOCITY = {"vel", "velocity", "velocities", "effort", "torque", "force", "acceleration"}
DONE = {"terminate", "terminated", "termination", "done", "reward", "discount"}
ROTATIONS = {
    "quaternion": {"quat", "quaternion", "quats"},
    "euler": {"euler"},
    "rpy": {"rpy"},
    "axis_angle": {"axisangle", "rotvec", "rodrigues", "aa"},
    "rotation_6d": {"rot6d", "r6d", "6d", "ortho6d"},
    "rotation": {"rot", "rotation", "ori", "orientation", "orn"},
}
AXES = {f"{prefix}{axis}": (kind, axis) for kind, prefixes in {"": ("",), "quaternion": ("q",), "position": ("p", "t", "d"),
        "rotation": ("r", "dr", "w")}.items() for prefix in prefixes for axis in "xyz"}  # fmt: skip
AXES |= {"w": ("", "w"), "qw": ("quaternion", "w")}
AXES |= {f"{d}{word}": ("rpy", axis) for d in ("", "d") for word, axis in (("roll", "x"), ("pitch", "y"), ("yaw", "z"))}
OPEN, CLOSED = (
    {"open", "opened", "openness", "opening", "width"},
    {"close", "closed", "closedness", "closing", "closure"},
)
UNITS = {
    "position": {"mm", "cm", "millimeters", "millimetres", "centimeters", "centimetres"},
    "rotation": {"deg", "degree", "degrees"},
}
ARMS = ("left", "right")
MEANS = {
    "rpy": "an angle",
    "axis_angle": "of an axis-angle vector",
    "other": "no part of a pose",
    "velocity": "a change in time",
}


@dataclass(frozen=True)
class Claim:
    """What a name says for sure: a kind of number ("": none), its axis ("": none), and every word in it."""

    kind: str
    axis: str
    words: frozenset[str]


def claim(name: str) -> Claim:
    """What a name says."""
    text = re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
    tokens = re.findall(r"[a-z]*6d|[a-z]+|\d+", text)
    words = set(tokens)
    if {"axis", "angle"} <= words:
        words.add("axisangle")
    if any(re.fullmatch(r"dr?[xyz]|d(roll|pitch|yaw)", token) for token in tokens):
        words.add("delta")
    return Claim(*_kind(tokens, words), frozenset(words))


def _kind(tokens: list[str], words: set[str]) -> tuple[str, str]:
    numbers = [int(token) for token in tokens if token.isdigit()]
    grips = bool(GRIPPER.search(" ".join(tokens)))
    if words & PADDING:
        return "padding", ""
    if words & BODY or ("wrist" in words and words & WRIST) or (words & JOINT and not grips):
        return "joint", ""
    if words & DONE:
        return "other", ""
    axes = [AXES[token] for token in tokens if token in AXES]
    if words & OTHER_BODY or len(axes) > 1:
        return "", ""
    rotation = next((kind for kind, known in ROTATIONS.items() if words & known), "")
    if axes:
        return _of_axis(*axes[0], rotation, words, bool(numbers))
    if rotation:
        return rotation, ""
    if words & HAND and words & POSITION and "gripper" not in words:
        place = numbers[0] if numbers else 0
        return ("position", "xyz"[place] if numbers else "") if place < 3 else ("", "")
    if grips and "pose" not in words and not (words & POSITION and numbers):
        return "gripper", ""
    return ("velocity" if words & VELOCITY else ""), ""


def _of_axis(kind: str, axis: str, rotation: str, words: set[str], numbered: bool) -> tuple[str, str]:
    """What an axis is one of; one that is numbered (x1, x2) is none."""
    if words & VELOCITY:
        return "velocity", axis
    kind = (rotation if kind == "rpy" else "") or kind or rotation
    kind = kind or ("position" if words & POSITION else "quaternion" if "q" in words else "")
    return (kind, axis) if kind or not numbered else ("", "")


def flat(names: object, width: int) -> list[str] | None:
    """What a feature calls its ``width`` numbers: a list, lists in groups, or {name: place}; anything else is no statement."""
    found = _flat(names)
    return found if found is not None and len(found) == width else None


def _flat(names: object) -> list[str] | None:
    if isinstance(names, Mapping):
        if not all(map(is_text, names)):
            return None
        if names and sorted(map(repr, names.values())) == sorted(map(repr, range(len(names)))):
            return sorted(names, key=lambda name: names[name])
        parts = [_flat(part) for part in names.values()]
        if None in parts or not parts:
            return None
        return parts[0] if len(parts) == 1 else [f"{key}_{name}" for key, part in zip(names, parts) for name in part]
    if not isinstance(names, list) or not names:
        return None
    if all(map(is_text, names)):
        return list(names)
    parts = [_flat(part) for part in names]
    return None if None in parts else [name for part in parts for name in part]


def expected(kind: str, form: str) -> list[tuple[set[str], str]]:
    """Of each number of an entry: the kinds that a name may claim, and its axis ("": any)."""
    if kind == "position":
        return [({"position"}, axis) for axis in "xyz"]
    if kind == "gripper":
        return [({"gripper"}, "")]
    order, kinds = form.split("_")[-1], {"rotation", form}
    if form.startswith("euler"):
        return [({"rotation", "rpy", "euler"}, axis) for axis in order.lower()]
    if form.startswith("quaternion"):
        return [({"rotation", "quaternion"}, axis) for axis in order]
    if form == "axis_angle":
        return [({"rotation", "rpy", "axis_angle"}, axis) for axis in "xyz"]
    return [(kinds | {""}, "")] * (6 if form == "rotation_6d" else 9)


class Disagreement(MappingError):
    """What a data set calls its numbers contradicts what a mapping reads them as."""


def check_entry(where: str, entry: Mapping, called: Sequence[str] | None, moves: bool, width: int) -> set[str]:
    """Compares a hand's entry of a mapping with what the data set says; returns the arms (left, right) that are named.

    Args:
      where: "state.left.position": the last part is what the entry is read as.
      called: names of the entry's numbers, if there are any.
      moves: whether its numbers are changes and not places.
      width: of the whole field.

    Raises:
      Disagreement: they contradict each other; says which number, its name and what it is read as.
    """
    kind, field, form = where.split(".")[-1], Field.parse(entry["field"]), entry.get("form", "")
    wanted, claims = expected(kind, form), [claim(name) for name in called or []]
    for place, (said, (kinds, axis)) in enumerate(zip(claims, wanted)):
        if not _agrees(said, kinds, axis, kind, moves):
            means = f" ({MEANS.get(said.kind, said.kind)})" if said.kind else ""
            as_what = f"{axis} of the {kind}" if axis else f"part of a {form}" if form else f"the {kind}"
            _refuse(where, f"{field.name}[{field.start + place}]", f"{called[place]!r}{means}", as_what)
    whole = claim(re.split(r"[./]", field.name)[-1])
    if _is_other(whole, kind, wanted, width, moves):
        _refuse(where, entry["field"], repr(field.name), f"the {kind}{f' ({form})' if form else ''}")
    words = frozenset().union(*(said.words for said in claims)) if claims else whole.words
    _check_words(where, entry, kind, form, words, moves, called or [field.name])
    return set(words & set(ARMS))


def _is_other(whole: Claim, kind: str, wanted: list[tuple[set[str], str]], width: int, moves: bool) -> bool:
    """Whether the name of a field of ``width`` numbers says that this is not in it."""
    if whole.kind in ("padding", "other"):
        return True
    if kind == "gripper":
        return width in (3, 4) and whole.kind in ("position", *ROTATIONS)
    if whole.kind == "joint":
        return not whole.words & HAND
    known = wanted[0][0] | {"", "gripper"} | ({"velocity"} if moves else set())
    return len(wanted) == width and not whole.axis and whole.kind not in known


def _agrees(said: Claim, kinds: set[str], axis: str, kind: str, moves: bool) -> bool:
    if said.kind == "velocity":
        return moves or kind == "gripper"
    if kind == "gripper" and said.kind == "joint":  # a hand's last joint may be its gripper's
        return not said.words & BODY and "wrist" not in said.words
    if not said.kind:  # nothing, or a bare axis; w may be what some call a gripper
        return not said.axis or ("" in kinds) or (axis == said.axis if axis else said.axis == "w")
    return said.kind in kinds and (not axis or not said.axis or axis == said.axis)


def _check_words(
    where: str, entry: Mapping, kind: str, form: str, words: frozenset[str], moves: bool, called: Sequence[str]
) -> None:
    """Units, order of a quaternion, which way a gripper counts, and whether numbers are changes."""
    names, scale = ", ".join(called), entry.get("scale", 1.0)
    if kind == "gripper":
        says = (bool(words & OPEN), bool(words & CLOSED))
        counts_up = entry.get("open", 1) > entry.get("closed", 0)
        if says[0] != says[1] and says[0] != counts_up:
            _refuse(
                where, entry["field"], names, f"open at {entry.get('open', 1):g}, closed at {entry.get('closed', 0):g}"
            )
        return
    if (
        words & UNITS[kind]
        and scale == 1.0
        and form not in ("rotation_6d", "matrix")
        and not form.startswith("quaternion")
    ):
        unit = "metres" if kind == "position" else "radians"
        _refuse(where, entry["field"], names, f"{unit}; give it a scale")
    if kind == "rotation" and words & {"rad", "radians"} and math.isclose(scale, math.pi / 180, rel_tol=0.01):
        _refuse(where, entry["field"], names, "degrees")
    orders = words & {"xyzw", "wxyz"}
    if form.startswith("quaternion") and len(orders) == 1 and not form.endswith(next(iter(orders))):
        _refuse(where, entry["field"], names, form)
    if ("delta" in words and not moves) or (words & {"abs", "absolute"} and moves):
        _refuse(where, entry["field"], names, "a change of the pose" if moves else "a pose, not a change of it")


def _refuse(where: str, numbers: str, called: str, read_as: str) -> None:
    raise Disagreement(
        f"{where} reads {numbers} as {read_as}; the data set calls it {called}. Change the mapping or, if the data set's names "
        'are wrong, give the entry "names" of its own'
    )


def check_joints(where: str, entry: Mapping, called: Sequence[str] | None) -> None:
    """Joints must not be what the data set calls a hand's pose, or padding; raises Disagreement."""
    claims = [claim(name) for name in called or []]
    poses = [said for said in claims if said.kind in ("position", "") and said.axis in ("x", "y", "z")]
    for name, said in zip(called or [], claims):
        if said.kind in ("padding", "quaternion"):
            _refuse(where, entry["field"], f"{name!r} ({said.kind})", "joints")
    if {said.axis for said in poses} >= set("xyz"):
        _refuse(where, entry["field"], ", ".join(called or []), "joints, and those are a pose of the hand")


def check_gripper(where: str, entry: Mapping, called: Sequence[str] | None, of_field: Sequence[str] | None) -> None:
    """A gripper's number must not be what the data set calls something else, where it names one in this field."""
    grippers = [name for name in of_field or () if GRIPPER.search(name) and claim(name).kind in ("gripper", "")]
    if grippers and called and called[0] not in grippers:
        raise Disagreement(
            f"{where} has {entry['field']}, which the data set calls {called[0]}; its grippers are {', '.join(grippers)}"
        )


def unread(fields: Sequence[str], widths: Mapping[str, int], names: Mapping[str, Sequence[str]]) -> list[str]:
    """What these entries ("name[i:j]", ...) leave of the fields that they are from: "state[6] (pad)"."""
    taken: dict[str, set[int]] = {}
    for field in map(Field.parse, fields):
        taken.setdefault(field.name, set()).update(range(field.start, field.start + field.width(widths)))
    found = []
    for name, places in taken.items():
        left = [place for place in range(widths[name]) if place not in places]
        while left:
            last = next((i for i in range(1, len(left)) if left[i] != left[i - 1] + 1), len(left))
            first, after = left[0], left[last - 1] + 1
            called = f" ({', '.join(names[name][first:after])})" if names.get(name) else ""
            found.append(f"{name}[{first}{f':{after}' if after - first > 1 else ''}]{called}")
            left = left[last:]
    return found
