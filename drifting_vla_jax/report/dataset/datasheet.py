"""A data set in numbers: what it says about itself, its tasks, and every dimension's distribution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.data.normalization import CONSTANT_BELOW
from drifting_vla_jax.report.dataset.reader import Demonstration, by_task

BINS = 48
UNITS = {"x": "m", "y": "m", "z": "m", "gripper": "0 closed .. 1 open"}
CONSTANT = CONSTANT_BELOW["position"]


def facts(data: DataSet, episodes: Sequence[Demonstration]) -> list[tuple[str, str]]:
    """(name, value) of what the data set says about itself, and what it takes on disk."""
    about = data.metadata
    size = sum(file.stat().st_size for file in data.folder.rglob("*") if file.is_file())
    hz, sheet = about["control_hz"], about["datasheet"]
    rows = [("folder", str(data.folder)), ("source", about["source"])]
    for split in about["episodes"]:
        members = [e for e in episodes if e.split == split]
        if members:
            steps = sum(map(len, members))
            rows.append((split, f"{len(members):,} episodes, {steps:,} steps, {_duration(steps / hz)}"))
    rows += [
        ("cameras", f"{', '.join(about['cameras'])}, {about['image_size']} px"),
        ("control", f"{hz:g} steps per second"),
        ("state", " ".join(about["state_names"])),
        ("action", f"{' '.join(about['action_names'])}: the absolute target one step ahead"),
        ("size on disk", f"{size / 2**20:,.1f} MB, {size / max(1, _all_steps(data)) / 1024:.1f} kB per step"),
        ("fingerprint", about.get("fingerprint", "")),
        ("made", f"{sheet['made_at']} by {sheet['made_by']}, Python {sheet['python']}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in sheet["packages"].items())),
    ]
    return [(name, value) for name, value in rows if value]


def built(data: DataSet) -> list[tuple[str, str]]:
    """(name, value) of what the source remembered: its settings, and per task what it kept and what it dropped."""
    details = data.metadata["details"]
    rows = [(name, _text(value)) for name, value in details.get("settings", {}).items()]
    for task in details.get("tasks", ()):
        told = (
            f"{name.replace('_', ' ')} {_text(value)}" for name, value in task.items() if name != "task" and value != []
        )
        rows.append((task["task"], ", ".join(told)))
    return rows


def tasks(episodes: Sequence[Demonstration]) -> list[dict[str, Any]]:
    """A row per task: episodes by split, steps (min, median, max), instructions, share of steps with a closed gripper."""
    rows = []
    for name, members in by_task(episodes).items():
        lengths = [len(e) for e in members]
        closed = np.concatenate([e.actions[:, 7] < 0.5 for e in members])
        rows.append(
            {
                "name": name,
                "episodes": dict(Counter(e.split for e in members)),
                "variations": len({e.variation for e in members}),
                "steps": (min(lengths), float(np.median(lengths)), max(lengths)),
                "instructions": list(dict.fromkeys(text for e in members for text in e.instructions)),
                "closed": float(closed.mean()),
            }
        )
    return rows


def dimensions(values: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row per column of values [n, k]: quantiles, spread, whether it is constant, a histogram of BINS heights 0 .. 1."""
    rows = []
    for name, column in zip(names, values.T):
        finite = column[np.isfinite(column)].astype(np.float64)
        cuts = np.quantile(finite, [0, 0.01, 0.5, 0.99, 1]) if len(finite) else np.full(5, np.nan)
        counts = np.histogram(finite, BINS)[0] if len(finite) else np.zeros(BINS)
        rows.append(
            {
                "name": name,
                "unit": unit(name),
                "cuts": cuts.tolist(),
                "std": float(finite.std()) if len(finite) else float("nan"),
                "constant": bool(len(finite) and np.ptp(finite) < CONSTANT),
                "missing": len(column) - len(finite),
                "bars": (counts / max(1, counts.max())).round(3).tolist(),
            }
        )
    return rows


def unit(name: str) -> str:
    """Of a dimension by its name: metres, quaternion x y z w, opening, or none known."""
    if name in UNITS:
        return UNITS[name]
    if name in ("qx", "qy", "qz", "qw"):
        return "unit quaternion x y z w"
    return "unit vector" if "_axis_" in name else ""


def _all_steps(data: DataSet) -> int:
    return sum(e["length"] for split in data.metadata["episodes"].values() for e in split)


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
