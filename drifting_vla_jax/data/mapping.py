"""Whose number is what: from the fields of somebody else's recordings to our state and our targets.

    {"preset": "ee_euler",                                                 what the rest changes; may be left out
     "cameras": {"top": "observation.images.cam_high"},                    our names: their fields
     "state":  {"position": "observation.state[0:3]",                      metres
                "rotation": {"field": "observation.state[3:6]", "form": "euler_xyz"},
                "gripper":  {"field": "observation.state[6]", "open": 1, "closed": 0},
                "more": ["observation.joints"]},                           taken as it is
     "action": {"kind": "delta",                                           or absolute, achieved
                "position": {"field": "action[0:3]", "scale": 0.05},
                "rotation": {"field": "action[3:6]", "form": "axis_angle", "scale": 0.5},
                "frame": "base",                                           of deltas; or hand
                "gripper":  {"field": "action[6]", "open": -1, "closed": 1}}}

A field is named as its format names it, with the entries that are meant. ``docs/sources.md`` has every key.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path

from drifting_vla_jax.data.fields import EULER, FORMS, Field, MappingError
from drifting_vla_jax.hints import hint

KINDS = ("absolute", "delta", "achieved")
FRAMES = ("base", "hand")
FITS = ("crop", "pad")
POSITION, ROTATION, GRIPPER = {"field", "scale"}, {"field", "form", "scale"}, {"field", "open", "closed", "relative"}
KEYS = {
    "": {"preset", "cameras", "state", "action", "instruction", "control_hz", "skip_first", "fit"},
    "state": {"position", "rotation", "gripper", "more"},
    "action": {"kind", "frame", "position", "rotation", "gripper"},
    "position": POSITION,
    "rotation": ROTATION,
    "gripper": GRIPPER,
}


def _read(source: str, presets: Mapping[str, Mapping]) -> dict:
    if source in presets:
        return {"preset": source}
    path = Path(source)
    if path.suffix != ".json" and not path.is_file():
        raise MappingError(f"--mapping={source} is no preset and no JSON file; {hint(source, presets, 'presets:')}")
    try:
        spec = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise MappingError(f"{path} is no JSON: {error}") from error
    if not isinstance(spec, dict):
        raise MappingError(f"{path} holds a {type(spec).__name__}; expected an object, see docs/sources.md")
    return spec


def load(source: str, presets: Mapping[str, Mapping]) -> dict:
    """A preset, or a JSON file that may start from one, with every shorthand written out and every key checked.

    Raises:
      MappingError: no such preset or file, or a key or value that means nothing; says where.
    """
    spec = _with_fields(_read(source, presets))
    name = spec.pop("preset", None)
    if name is not None and name not in presets:
        raise MappingError(f"{source}: unknown preset {name!r}; expected one of {', '.join(presets)}")
    spec = _merged(_with_fields(copy.deepcopy(dict(presets[name]))) if name else {}, spec)
    _check_keys(spec, "", source)
    for part in ("state", "action"):
        spec.setdefault(part, {})
        _check_keys(spec[part], part, source)
        for entry in ("position", "rotation", "gripper"):
            if entry in spec[part]:
                _check_keys(spec[part][entry], entry, f"{source}: {part}")
    _check_values(spec, source)
    return spec


def _with_fields(spec: dict) -> dict:
    """``"position": "a[0:3]"`` is short for ``"position": {"field": "a[0:3]"}``."""
    for part in ("state", "action"):
        entries = spec.get(part)
        if isinstance(entries, dict):
            for entry in ("position", "rotation", "gripper"):
                if isinstance(entries.get(entry), str):
                    entries[entry] = {"field": entries[entry]}
    return spec


def _merged(base: dict, changes: Mapping) -> dict:
    for key, value in changes.items():
        inner = isinstance(value, Mapping) and isinstance(base.get(key), dict) and key != "cameras"
        base[key] = _merged(base[key], value) if inner else value
    return {key: value for key, value in base.items() if value is not None}  # null takes a preset's entry away


def _check_keys(part: object, name: str, source: str) -> None:
    if not isinstance(part, dict):
        raise MappingError(f"{source}: {name} is {part!r}; expected an object")
    for key in part:
        if key not in KEYS[name]:
            choice = hint(key, sorted(KEYS[name]), "expected some of")
            raise MappingError(f"{source}: {name or 'the mapping'} has no key {key!r}; {choice}")


def _check_values(spec: dict, source: str) -> None:
    state, action = spec["state"], spec["action"]
    if "position" not in state:
        raise MappingError(f"{source}: state has no position; a data set needs where the hand is (metres)")
    kind = action.get("kind")
    if kind not in KINDS:
        raise MappingError(f"{source}: action.kind is {kind!r}; expected one of {', '.join(KINDS)}")
    needed = {"absolute": (action,), "delta": (action, state), "achieved": (state,)}[kind]
    for part in needed:
        for entry in ("position", "rotation"):
            if entry not in part:
                where = "action" if part is action else "state"
                raise MappingError(f"{source}: {kind} targets need {where}.{entry}, and it is not there")
    if "gripper" not in action and "gripper" not in state:
        raise MappingError(f"{source}: neither action.gripper nor state.gripper says how far the hand is open")
    if action.get("frame", "base") not in FRAMES:
        raise MappingError(f"{source}: action.frame is {action['frame']!r}; expected one of {', '.join(FRAMES)}")
    if spec.get("fit", "crop") not in FITS:
        raise MappingError(f"{source}: fit is {spec['fit']!r}; expected one of {', '.join(FITS)}")
    for part, entries in (("state", state), ("action", action)):
        for entry in ("position", "rotation", "gripper"):
            if entry in entries:
                _check_entry(entries[entry], entry, f"{source}: {part}.{entry}")
    for name in ("instruction", "more"):
        found = (spec if name == "instruction" else state).get(name, [])
        if not (isinstance(found, list) and all(isinstance(text, str) for text in found)):
            raise MappingError(f"{source}: {name} is {found!r}; expected a list of fields")
    cameras = spec.get("cameras", {"": ""})
    if not (isinstance(cameras, dict) and cameras and all(isinstance(key, str) for key in cameras.values())):
        raise MappingError(f"{source}: cameras is {cameras!r}; expected our names and their fields")
    if not (isinstance(spec.get("skip_first", 0), int) and spec.get("skip_first", 0) >= 0):
        raise MappingError(f"{source}: skip_first is {spec['skip_first']!r}; expected a number of rows")
    if "control_hz" in spec and not (_is_number(spec["control_hz"]) and spec["control_hz"] > 0):
        raise MappingError(f"{source}: control_hz is {spec['control_hz']!r}; expected steps per second")


def _check_entry(entry: Mapping, name: str, where: str) -> None:
    if not isinstance(entry.get("field"), str):
        raise MappingError(f'{where} names no field; expected {{"field": "name[first:after]", ...}}')
    Field.parse(entry["field"])
    form = entry.get("form")
    if name == "rotation" and form not in FORMS and not EULER.fullmatch(str(form)):
        raise MappingError(f"{where}.form is {form!r}; expected euler_xyz (any order; capitals: about the moved axes), "
                           f"{', '.join(FORMS)}")  # fmt: skip
    numbers = [key for key in ("scale", "open", "closed") if key in entry and not _is_number(entry[key])]
    if numbers:
        raise MappingError(f"{where}.{numbers[0]} is {entry[numbers[0]]!r}; expected a number")
    if name == "rotation" and "scale" in entry and form in FORMS and form != "axis_angle":
        raise MappingError(f"{where}.scale is for angles; a {form} has none")
    if name == "gripper" and entry.get("open", 1) == entry.get("closed", 0):
        raise MappingError(f"{where}: open and closed are both {entry.get('open', 1)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
