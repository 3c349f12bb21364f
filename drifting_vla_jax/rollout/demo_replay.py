"""Repeats recorded demonstrations in the simulator: the success that the data itself reaches.

A policy that imitates perfectly does no better than this. Where a task's recordings fail, because a grasp comes a step too
late or the scene is not the recorded one, it is the conversion, the control or the simulator's version that wants work.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from drifting_vla_jax.envs import registry
from drifting_vla_jax.envs.info import EnvInfo
from drifting_vla_jax.rollout import episode_log
from drifting_vla_jax.rollout.episode import EpisodeResult, EpisodeSpec, run_episode
from drifting_vla_jax.rollout.runner import Worker, WorkerSettings, episode_list
from drifting_vla_jax.rollout.trajectory_writer import TrajectoryWriter

SETTLE_STEPS = 10  # that the last pose is held


class _Recording:
    """Answers with one episode's recorded actions [t, 8], all of them at once."""

    def __init__(self, actions: np.ndarray):
        self._actions = actions

    def infer(self, observation: dict) -> dict[str, Any]:
        return {"actions": self._actions, "server_timing": {"infer_ms": 0.0}}


class _NoServer:
    """What stands where a worker has its policy server."""

    def __init__(self, info: EnvInfo):
        self.metadata = {
            "cameras": ["front" if "front" in info.cameras else info.cameras[0]],
            "image_size": 128,
            "horizon": 10**6,
            "control_hz": info.simulator_hz,
            "frame_skip": 1,
            "checkpoint_step": 0,
            "config_hash": "",
            "objective": "replay",
            "evaluations_per_chunk": 0,
        }

    def close(self) -> None:
        pass


class Replayer(Worker):
    """A worker whose policy is the recording; everything else, crashes and videos included, is the worker's.

    Raises (on making one):
      ValueError: no folder of stored episodes.
    """

    def __init__(self, settings: WorkerSettings):
        if not settings.rollout.demos:
            raise ValueError("a replay needs stored episodes: --demos=SPLIT")
        super().__init__(settings)

    def _connect(self) -> _NoServer:
        return _NoServer(registry.info(self._settings.simulation.env))

    def _run_once(self, spec: EpisodeSpec, recording: TrajectoryWriter | None) -> EpisodeResult:
        stored = registry.stored_episodes(self._settings.simulation.env)
        actions = stored.load(Path(self._settings.rollout.demos), spec.task, spec.seed).actions()
        actions = np.concatenate([actions, np.repeat(actions[-1:], SETTLE_STEPS, axis=0)])
        settings = replace(self._episode_settings, execute=len(actions), max_steps=len(actions))
        return run_episode(self._env, _Recording(actions), spec, settings, self._film(spec), recording)


def summary(settings: WorkerSettings) -> str:
    """A line per task: how many recordings succeed, how the others end, what became of their actions."""
    recorded = episode_log.read_all_episodes(settings.out)
    rollout, simulation = settings.rollout, settings.simulation
    lines = [f"replay of {rollout.demos}, success held for {rollout.hold_steps} control steps"]
    for task in simulation.tasks:
        specs = episode_list(rollout, replace(simulation, tasks=(task,)))
        keys = [spec.key for spec in specs]
        episodes = [recorded[key] for key in keys if key in recorded]
        outcomes, events = Counter(e["outcome"] for e in episodes), Counter()
        steps = sum(e["steps"] for e in episodes)
        for episode in episodes:
            events.update(episode["events"])
        said = ", ".join(f"{n} {name}" for name, n in sorted(outcomes.items()) if name != "success")
        of_steps = ", ".join(f"{n} {name}" for name, n in sorted(events.items()))
        lines.append(
            f"  {task:30} {outcomes['success']}/{len(episodes)}"
            + (f"  {said}" if said else "")
            + (f"  (of {steps} actions: {of_steps})" if of_steps else "")
        )
    return "\n".join(lines)
