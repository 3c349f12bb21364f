"""Configurations of older releases: keys that have another name now, and keys that they lack.

Checkpoints, run folders and results keep the config.json that they were written with; ``migrated`` is applied where one is
read. In a configuration file and on a command line an old key is refused with its new name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MOVED = {  # old key: what it is now; of several the setting went to each
    "objective.samples": ("objective.drifting.samples", "objective.flow_matching.samples"),
    "objective.temperatures": ("objective.drifting.temperatures",),
    "objective.in_reach": ("objective.drifting.temperature_unit",),
    "objective.anneal_from": ("objective.drifting.temperature_anneal.initial_scale",),
    "objective.anneal_until": ("objective.drifting.temperature_anneal.fraction",),
    "objective.grouping": ("objective.drifting.grouping",),
    "objective.bank": ("objective.drifting.memory_bank",),
    "objective.guidance": ("objective.drifting.guidance",),
    "objective.flow_steps": ("objective.flow_matching.steps",),
}
VALUES = {"objective.in_reach": {False: "mean_distance", True: "nearest_positive"}}  # old key: {old value: new one}
LATER = {  # keys that older configurations lack
    "eval": {"record": "none"},
    "train": {"optimizer": "adamw", "metrics": [], "figures": []},
    "data": {"mixture": {"paths": [], "weights": []}},
    "action": {"layout": "end_effector", "joints": [], "grippers": []},
    "serve": {"dataset": ""},
}


def migrated(data: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as JSON, in today's keys. One that is of today comes back as it is."""
    data = _copied(data)
    for old, places in MOVED.items():
        *sections, name = old.split(".")
        section = _section(data, sections)
        if section is None or name not in section:
            continue
        value = section.pop(name)
        for place in places:
            _put(data, place.split("."), VALUES[old].get(value, value) if old in VALUES else _copied(value))
    return data | {part: LATER[part] | data[part] for part in LATER if isinstance(data.get(part), dict)}


def renamed(text: str) -> str | None:
    """The line that says what the first old key in a text is called now; None: there is none in it."""
    for old, places in MOVED.items():
        if found := re.search(rf"\b{re.escape(old)}\b((?:\.\w+)*)", text):
            return f"config.{found[0]} is now {' and '.join(f'config.{place}{found[1]}' for place in places)}"
    return None


def _section(data: Mapping, sections: list[str]) -> dict | None:
    for name in sections:
        data = data.get(name) if isinstance(data, Mapping) else None
    return data if isinstance(data, dict) else None


def _put(data: dict, path: list[str], value: Any) -> None:
    for name in path[:-1]:
        data = data.setdefault(name, {})
    data.setdefault(path[-1], value)


def _copied(value: Any) -> Any:
    return {key: _copied(each) for key, each in value.items()} if isinstance(value, Mapping) else value
