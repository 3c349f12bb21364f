"""The settings of an evaluation in simulation, each spelled once: a key of config.eval, a flag of ``rollout.worker``, JSON.

    RolloutSettings      what a worker does: the keys of config.eval that its episodes depend on
    EvaluationSettings   config.eval whole: these, and how workers are run
    Simulation           in which simulator, made how, on which of its tasks

A configuration's section becomes one of them by ``core.settings.read``; the evaluation hands them to its workers as JSON
(``to_json``, the flag --settings); by hand each is a flag of its own, with the default value and the help of its ``Option``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from drifting_vla_jax.core.paths import user_path
from drifting_vla_jax.core.ranges import (
    COUNT,
    FIRST_SEED,
    FRAME_SKIP,
    PROCESSES,
    SECONDS,
    SEVERAL,
    Choice,
    Flag,
    Many,
    Name,
    Number,
    Place,
    Text,
    whole,
)
from drifting_vla_jax.core.settings import Option, read, require, to_dict
from drifting_vla_jax.envs import registry
from drifting_vla_jax.rollout.chunking.base import Execution

RECORDS = ("none", "success", "all")  # which episodes are kept


@dataclass(frozen=True)
class RolloutSettings(Execution):
    """What a worker does, beside the way of executing chunks; the range and the help of each say what it is."""

    episodes: Annotated[int, COUNT, Option(20, "Episodes of every task.")]
    seed: Annotated[int, FIRST_SEED, Option(0, "Of every task's first episode; choose one that no demonstration used.")]
    demos: Annotated[str, Place("DIR"), Option("", "A split of stored episodes to start from; empty: by seed.")]
    execute: Annotated[
        int, whole(1, 4096), Option(8, "Actions executed of each chunk before the policy is asked again.")
    ]
    max_steps: Annotated[int, COUNT, Option(200, "Control steps after which an episode has failed.")]
    hold_steps: Annotated[int, COUNT, Option(10, "Control steps in a row that the task must stay solved.")]
    videos: Annotated[int, SEVERAL, Option(0, "Record the first N episodes of every task.")]
    video_camera: Annotated[
        str, Text(empty=True), Option("", "The view of the videos; the policy's first camera if empty.")
    ]
    record: Annotated[
        str, Choice(RECORDS), Option("none", "Episodes kept in OUT/rollouts, for data.export and data.build.")
    ]


@dataclass(frozen=True)
class EvaluationSettings(RolloutSettings):
    """The section ``eval`` of a configuration.

    Attributes:
      workers: simulator processes.
      latency_ms: async: how long an answer takes, in place of ``delay_steps``; below 0: as long as on this machine.
      repeatable: a network call per request, so that results depend on no other request.
      episode_seconds: after which a worker that is still at the same episode is replaced.
    """

    workers: Annotated[int, PROCESSES]
    latency_ms: Annotated[float, Number(-1e6, 1e6)]
    repeatable: Annotated[bool, Flag()]
    episode_seconds: Annotated[float, SECONDS]

    def __post_init__(self):
        super().__post_init__()
        require(
            self.hold_steps <= self.max_steps,
            f"config.eval.hold_steps {self.hold_steps} is more than config.eval.max_steps {self.max_steps}: no episode could "
            "succeed",
        )
        late = self.execution == "async"
        require(
            late or not self.latency_ms,
            f"config.eval.latency_ms is {self.latency_ms:g}, but only execution async acts while it waits; set one or the other",
        )
        require(
            not late or self.lead_steps <= self.execute,
            f"config.eval.lead_steps {self.lead_steps} is more than the actions executed, config.eval.execute {self.execute}",
        )

    def rollout(self, delay_steps: int) -> RolloutSettings:
        """What workers are told, with the delay that was found."""
        names = [field.name for field in dataclasses.fields(RolloutSettings)]
        return RolloutSettings(**{name: getattr(self, name) for name in names} | {"delay_steps": delay_steps})


@dataclass(frozen=True)
class Simulation:
    """In which simulator episodes are run.

    Attributes:
      env: a simulator's name or import path, see ``envs.registry``.
      options: the simulator's own settings; those that are missing are as by default.
    """

    env: Annotated[
        str,
        Name(),
        Option(None, f"The simulator: {', '.join(registry.ENVIRONMENTS)}, or an import path, my_lab.my_sim:MySim."),
    ]
    tasks: Annotated[tuple[str, ...], Many(Name(), least=1), Option(None, "Tasks, separated by commas.")]
    options: Mapping[str, Any]
    frame_skip: Annotated[
        int, whole(0, FRAME_SKIP.high), Option(0, "Simulator steps per action; 0 as the policy was trained.")
    ]
    variations: Annotated[
        tuple[int, ...], Many(whole(0, 10**9), least=1), Option((0,), "Task variations that the episodes take in turn.")
    ]

    def identity(self) -> dict[str, Any]:
        """The options that tell two evaluations apart."""
        return registry.identity(self.env, self.options)


def to_json(rollout: RolloutSettings, simulation: Simulation) -> str:
    """Both, as --settings takes them."""
    return json.dumps({"rollout": to_dict(rollout), "simulation": to_dict(simulation)})


def given(text: str) -> dict[str, dict[str, Any]]:
    """What --settings says: JSON as of ``to_json``, or the path of a file of it; keys may be missing.

    Raises:
      ValueError: it is neither.
      OSError: the file cannot be read.
    """
    if text and not text.lstrip().startswith("{"):
        with open(user_path(text), encoding="utf-8") as file:
            text = file.read()
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise ValueError(f"--settings is no JSON: {error}") from error
    known = {"rollout", "simulation"}
    if not isinstance(found, dict) or not set(found) <= known or not all(isinstance(v, dict) for v in found.values()):
        raise ValueError('--settings: expected {"rollout": {...}, "simulation": {...}}')
    return {name: found.get(name, {}) for name in known}


def of_values(rollout: Mapping[str, Any], simulation: Mapping[str, Any]) -> tuple[RolloutSettings, Simulation]:
    """Both from values; raises SettingsError, a ValueError, that names each that is missing, unknown or cannot be."""
    return read(RolloutSettings, rollout, "rollout"), read(Simulation, simulation, "simulation")
