"""What a run has left on disk, read once.

DIR/config.json     needed   the configuration
DIR/metrics.jsonl   needed   one line per logged step
DIR/run.json        older runs have none: code, devices, data, start and end (train/monitoring/run_info.py)
DIR/eval/<id>/      results.json, episodes.jsonl, videos/ of every finished evaluation
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drifting_vla_jax.config.migration import migrated
from drifting_vla_jax.core.metadata import read_dict
from drifting_vla_jax.rollout import episode_log

RESULTS = {"checkpoint_step": int, "overall": dict, "tasks": dict, "settings": dict}  # fields of results.json


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: results.json, and the episodes behind it."""

    folder: Path
    results: dict[str, Any]
    episodes: list[dict]
    written: float

    @property
    def step(self) -> int:
        """Of the checkpoint."""
        return self.results["checkpoint_step"]

    @property
    def ordinary(self) -> bool:
        """False of a folder that is named for its condition: step2000-seed0-words, see ``evaluate.checkpoint.folder``."""
        return not re.fullmatch(r"step\d+-seed\d+-.+", self.folder.name)

    @property
    def rules(self) -> dict[str, Any]:
        """How episodes were run: evaluations of other checkpoints with the same rules are one curve."""
        whose = ("checkpoint_step", "config_hash", "weights")
        settings = {key: value for key, value in self.results["settings"].items() if key not in whose}
        return settings | {"episodes": {name: task["n"] + task["unscored"] for name, task in self.tasks.items()}}

    @property
    def tasks(self) -> dict[str, dict]:
        return self.results["tasks"]


@dataclass(frozen=True)
class Run:
    """A run's files.

    Attributes:
      config: {"train.learning_rate": 0.001, ...}.
      metrics: {"train/loss": {step: value}, ...}, steps ascending.
      starts: of run.json; empty for a run older than that file.
      evaluations: by checkpoint step; of one step those under other conditions first, then by when they were written.
    """

    workdir: Path
    config: dict[str, Any]
    metrics: dict[str, dict[int, float]]
    starts: list[dict]
    evaluations: list[Evaluation]

    @property
    def steps(self) -> int:
        """Done so far, as far as logged."""
        return max(max(points) for name, points in self.metrics.items() if name.startswith("train/"))

    @property
    def newest(self) -> Evaluation | None:
        """The ordinary evaluation of the latest checkpoint; of several, the one written last."""
        return self.evaluations[-1] if self.evaluations else None


def read_run(workdir: Path) -> Run:
    """Everything that a report shows of ``workdir``.

    Raises:
      FileNotFoundError: no run there, or one that has logged nothing yet.
      ValueError: a file is damaged; which, and what to do.
    """
    workdir = Path(workdir)
    if not (workdir / "config.json").is_file():
        raise FileNotFoundError(
            f"{workdir} is no run: there is no {workdir / 'config.json'}; --workdir is training's DIR"
        )
    metrics = read_metrics(workdir / "metrics.jsonl")
    if not any(name.startswith("train/") for name in metrics):
        raise FileNotFoundError(
            f"{workdir} has no metrics yet: the first line of metrics.jsonl comes after config.train.log_every steps"
        )
    record = workdir / "run.json"
    return Run(
        workdir=workdir,
        config=flatten(migrated(read_dict(workdir / "config.json", {}))),
        metrics=metrics,
        starts=read_dict(record, {"starts": list})["starts"] if record.exists() else [],
        evaluations=_evaluations(workdir / "eval"),
    )


def read_metrics(path: Path) -> dict[str, dict[int, float]]:
    """metrics.jsonl by name. What an evaluation beside the training found stands at the step that it evaluated.

    Raises:
      ValueError: a line inside the file is damaged; one that is still being written at its end is left out.
    """
    out: dict[str, dict[int, float]] = {}
    for number, line in enumerate(episode_log.read_episodes(path), 1):
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise ValueError(f"line {number} of {path} is damaged (no step in it); delete that line to go on")
        evaluated = int(line.get("sim/step", line["step"]))
        for name, value in line.items():
            if name not in ("step", "sim/step") and isinstance(value, (int, float)) and math.isfinite(value):
                out.setdefault(name, {})[evaluated if name.startswith("sim/") else line["step"]] = value
    return {name: dict(sorted(points.items())) for name, points in out.items()}


def objective_title(config: dict[str, Any]) -> str:
    """What a page calls a run's objective: "flow matching"; of one's own, the name of its class."""
    return config["objective.name"].rpartition(":")[2].replace("_", " ")


def flatten(config: dict, prefix: str = "") -> dict[str, Any]:
    """{"train": {"steps": 9}} -> {"train.steps": 9}."""
    out = {}
    for key, value in config.items():
        out |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out


def _evaluations(folder: Path) -> list[Evaluation]:
    found = []
    for path in folder.glob("*/results.json"):
        episodes = list(episode_log.read_all_episodes(path.parent).values())
        results = read_dict(path, RESULTS, advice="evaluate again")
        found.append(Evaluation(path.parent, results, episodes, path.stat().st_mtime))
    return sorted(found, key=lambda evaluation: (evaluation.step, evaluation.ordinary, evaluation.written))
