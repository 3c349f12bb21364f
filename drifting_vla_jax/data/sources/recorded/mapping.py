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

    {"layout": "joints",                                                   or bimanual: "left" and "right" hold a hand each
     "state":  {"joints": ["observation.state[0:6]", "observation.state[7:13]"],
                "grippers": ["observation.state[6]", "observation.state[13]"]},
     "action": {"kind": "absolute", "joints": ["action[0:6]", {"field": "action[7:13]", "scale": 0.01745}],
                "grippers": [{"field": "action[6]", "open": 100}, {"field": "action[13]", "open": 100}]}}

A field is named as its format names it, with the entries that are meant. ``docs/reference/mapping-language.md`` has every key.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from drifting_vla_jax.core.suggest import did_you_mean
from drifting_vla_jax.data.sources.recorded.fields import EULER, FORMS, Field, MappingError

KINDS = ("absolute", "delta", "achieved")
FRAMES = ("base", "hand")
FITS = ("crop", "pad")
ARMS = ("left", "right")
HAND, LISTS = ("position", "rotation", "gripper"), ("joints", "grippers")
ENTRIES = {"end_effector": HAND, "bimanual": ARMS, "joints": LISTS}  # of state and action in each layout
TOP = {"preset", "layout", "cameras", "state", "action", "instruction", "control_hz", "skip_first", "fit"}
OPENING = {"field", "open", "closed", "relative", "names"}
KEYS = {
    "position": {"field", "scale", "names"},
    "rotation": {"field", "form", "scale", "names"},
    "gripper": OPENING,
    "joints": {"field", "scale", "names"},
    "grippers": OPENING,
}


def _read(source: str, presets: Mapping[str, Mapping]) -> dict:
    if source in presets:
        return {"preset": source}
    path = Path(source)
    if path.suffix != ".json" and not path.is_file():
        raise MappingError(
            f"--mapping={source} is no preset and no JSON file; {did_you_mean(source, presets, 'presets:')}"
        )
    try:
        spec = json.loads(path.read_bytes())
    except ValueError as error:
        raise MappingError(f"{path} is no JSON: {error}") from error
    if not isinstance(spec, dict):
        raise MappingError(
            f"{path} holds a {type(spec).__name__}; expected an object, see docs/reference/mapping-language.md"
        )
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
    _check_keys(spec, "the mapping", TOP, source)
    layout = spec.get("layout", "end_effector")
    if layout not in tuple(ENTRIES):
        raise MappingError(f"{source}: layout is {layout!r}; expected one of {', '.join(ENTRIES)}")
    for part, more in (("state", {"more"}), ("action", {"kind"} if layout == "joints" else {"kind", "frame"})):
        spec.setdefault(part, {})
        _check_entries(spec[part], part, layout, more, source)
        for arm in ARMS if layout == "bimanual" else ():
            if arm in spec[part]:
                _check_entries(spec[part][arm], f"{part}.{arm}", "end_effector", set(), source)
    _check_values(spec, source)
    return spec


def _with_fields(spec: dict) -> dict:
    """``"position": "a[0:3]"`` is short for ``"position": {"field": "a[0:3]"}``, and ``"joints": "a"`` for a list of it."""
    for part in ("state", "action"):
        whole = spec.get(part)
        whole = whole if isinstance(whole, dict) else {}
        for entries in (whole, whole.get("left"), whole.get("right")):
            for entry in HAND if isinstance(entries, dict) else ():
                if isinstance(entries.get(entry), str):
                    entries[entry] = {"field": entries[entry]}
        for entry in LISTS:
            if isinstance(whole.get(entry), str | dict):
                whole[entry] = [whole[entry]]
            if isinstance(whole.get(entry), list):
                whole[entry] = [{"field": each} if isinstance(each, str) else each for each in whole[entry]]
    return spec


def _merged(base: dict, changes: Mapping) -> dict:
    for key, value in changes.items():
        inner = isinstance(value, Mapping) and isinstance(base.get(key), dict) and key != "cameras"
        base[key] = _merged(base[key], value) if inner else value
    return {key: value for key, value in base.items() if value is not None}  # null takes a preset's entry away


def _check_keys(part: object, name: str, known: Iterable[str], source: str) -> None:
    if not isinstance(part, dict):
        raise MappingError(f"{source}: {name} is {part!r}; expected an object")
    for key in part:
        if key not in known:
            raise MappingError(
                f"{source}: {name} has no key {key!r}; {did_you_mean(key, sorted(known), 'expected some of')}"
            )


def _check_entries(part: object, name: str, layout: str, more: set[str], source: str) -> None:
    """Keys of a state or action, or of a hand's, and of the entries in it."""
    for key in part if isinstance(part, dict) else ():
        others = [other for other, entries in ENTRIES.items() if key in entries and key not in ENTRIES[layout]]
        if others:
            raise MappingError(f"{source}: {name}.{key} is for the layout {others[0]}; this is {layout}, with "
                               f"{', '.join(ENTRIES[layout])}")  # fmt: skip
    _check_keys(part, name, {*ENTRIES[layout], *more}, source)
    for entry in HAND:
        if entry in part:
            _check_keys(part[entry], entry, KEYS[entry], f"{source}: {name}")
    for entry in LISTS:
        found = part.get(entry, [])
        if not isinstance(found, list):
            raise MappingError(f"{source}: {name}.{entry} is {found!r}; expected a list of fields")
        for each in found:
            _check_keys(each, entry, KEYS[entry], f"{source}: {name}")


def _check_values(spec: dict, source: str) -> None:
    state, action, layout = spec["state"], spec["action"], spec.get("layout", "end_effector")
    kind = action.get("kind")
    if kind not in KINDS:
        raise MappingError(f"{source}: action.kind is {kind!r}; expected one of {', '.join(KINDS)}")
    if layout == "joints":
        _check_joints(state, action, source)
    for arm in {"end_effector": ("",), "bimanual": ARMS}.get(layout, ()):
        if arm and (arm not in state or (arm not in action and kind != "achieved")):
            raise MappingError(f"{source}: the layout bimanual needs state.{arm} and action.{arm}")
        hands = (part.setdefault(arm, {}) if arm else part for part in (state, action))
        _check_hand(*hands, kind, f".{arm}" if arm else "", source)
    if action.get("frame", "base") not in FRAMES:
        raise MappingError(f"{source}: action.frame is {action['frame']!r}; expected one of {', '.join(FRAMES)}")
    if spec.get("fit", "crop") not in FITS:
        raise MappingError(f"{source}: fit is {spec['fit']!r}; expected one of {', '.join(FITS)}")
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


def _check_hand(state: dict, action: dict, kind: str, arm: str, source: str) -> None:
    """Whether there is all that a hand needs; ``arm`` is ".left", ".right" or nothing."""
    if "position" not in state:
        raise MappingError(f"{source}: state{arm} has no position; a data set needs where the hand is (metres)")
    needed = {"absolute": ("action",), "delta": ("action", "state"), "achieved": ("state",)}[kind]
    parts = {"state": state, "action": action}
    for part in needed:
        for entry in ("position", "rotation"):
            if entry not in parts[part]:
                raise MappingError(f"{source}: {kind} targets need {part}{arm}.{entry}, and it is not there")
    if "gripper" not in action and "gripper" not in state:
        raise MappingError(
            f"{source}: neither action{arm}.gripper nor state{arm}.gripper says how far the hand is open"
        )
    for part, entries in parts.items():
        for entry in HAND:
            if entry in entries:
                _check_entry(entries[entry], entry, f"{source}: {part}{arm}.{entry}")


def _check_joints(state: dict, action: dict, source: str) -> None:
    if not state.get("joints"):
        raise MappingError(f"{source}: state has no joints; a data set needs where they are")
    if not action.get("joints") and action["kind"] != "achieved":
        raise MappingError(f"{source}: {action['kind']} targets need action.joints, and they are not there")
    for part, entries in (("state", state), ("action", action)):
        for entry in LISTS:
            for each in entries.get(entry, []):
                _check_entry(each, entry, f"{source}: {part}.{entry}")


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
    called = entry.get("names", [])
    if not (isinstance(called, list) and all(isinstance(text, str) for text in called)):
        raise MappingError(f"{where}.names is {called!r}; expected a list of names")
    if name in ("gripper", "grippers") and entry.get("open", 1) == entry.get("closed", 0):
        raise MappingError(f"{where}: open and closed are both {entry.get('open', 1)}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
