"""One episode: observe, ask, act, judge.

Success is HELD: the task's condition was true for ``hold_steps`` control steps in a row, at which the episode ends.
``latched`` (true at any step) is recorded beside it. An episode ends in one of these outcomes:

    success                          held
    time_limit                       max_steps control steps without it
    ended                            the simulator ended the episode by itself before it was held
    invalid_action, ik, path         the simulator refused the action: counts against the policy
    timeout                          the simulator did not answer in time: counts against the policy
    refused                          the server refused the state to which the policy led, or its own answer: counts too
    env_crash, server_lost           says nothing about the policy: success is null, run again, counted apart

An arm's (``robot/env.py``) may also end in

    failed                           the operator says so
    emergency_stop                   somebody, or the arm itself, stopped it: counts against the policy
    unjudged                         nobody said whether it succeeded: success is null
    driver, interrupted              the arm or a camera failed, the session was broken off: success is null
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from drifting_vla_jax.envs.base import Env, EnvError
from drifting_vla_jax.rollout.chunking.base import RECEDING, Execution, make_chunks
from drifting_vla_jax.rollout.frame_history import FrameHistory
from drifting_vla_jax.wire.client import REFUSALS, PolicyServerError

if TYPE_CHECKING:
    from drifting_vla_jax.rollout.trajectory_writer import TrajectoryWriter
    from drifting_vla_jax.rollout.video import Film

UNSCORED = ("env_crash", "server_lost", "driver", "interrupted", "unjudged")


@dataclass(frozen=True)
class EpisodeSpec:
    """Which episode: its scene is a function of (task, variation, seed) alone; ``index`` counts within the task."""

    task: str
    variation: int
    seed: int
    index: int

    @property
    def key(self) -> tuple[str, int, int]:
        """What names it in records."""
        return self.task, self.variation, self.seed


@dataclass(frozen=True)
class EpisodeSettings:
    """How every episode is run.

    Attributes:
      execute: actions executed of each chunk.
      max_steps: control steps at most.
      hold_steps: control steps of success in a row.
      history, history_stride: earlier images that the policy wants to see, and control steps between them.
      execution: how chunks are executed.
    """

    execute: int
    max_steps: int
    hold_steps: int
    history: int = 0
    history_stride: int = 1
    execution: Execution = RECEDING

    @classmethod
    def for_policy(
        cls,
        metadata: Mapping[str, Any],
        execute: int,
        max_steps: int,
        hold_steps: int,
        execution: Execution = RECEDING,
    ) -> EpisodeSettings:
        """Shown what the policy behind a server's metadata asks for.

        Raises:
          ValueError: a number that cannot be, chunks of this policy cannot be executed like this, or it moves something
            else than one end effector.
        """
        names = metadata.get("action_names")
        if names is not None:
            raise ValueError(f"simulators move one end effector; the policy's actions are {', '.join(names)}")
        settings = cls(
            execute, max_steps, hold_steps, metadata.get("history", 0), metadata.get("history_stride", 1), execution
        )
        execution.check(execute, metadata["horizon"])
        return settings

    def __post_init__(self):
        for name in ("execute", "max_steps", "hold_steps", "history", "history_stride"):
            value, least = getattr(self, name), 0 if name == "history" else 1
            if value < least:
                raise ValueError(f"{name} is {value}; expected at least {least}")

    def identity(self) -> dict[str, Any]:
        """All of it, without what this way of executing chunks does not read."""
        return {**asdict(self), **self.execution.used()}


class PolicyClientProtocol(Protocol):
    """The part of PolicyClient that an episode needs."""

    def infer(self, observation: dict) -> dict: ...


@dataclass
class EpisodeResult:
    """How an episode went. Times in milliseconds: one entry per request, the round trip as the robot sees it.

    ``events`` counts what the simulator says it did to actions, e.g. "clipped" into its workspace. ``delay_steps``, where
    chunks are executed asynchronously: the same round trips in whole control steps. What the episode was run with is among
    its settings.
    """

    instruction: str = ""
    outcome: str = "time_limit"
    latched: bool = False
    steps: int = 0
    message: str = ""
    round_trip_ms: list[float] = field(default_factory=list)
    infer_ms: list[float] = field(default_factory=list)
    events: Counter = field(default_factory=Counter)
    delay_steps: list[int] = field(default_factory=list)

    @property
    def success(self) -> bool | None:
        """Held; None where the episode says nothing about the policy."""
        return None if self.outcome in UNSCORED else self.outcome == "success"

    def line(self, spec: EpisodeSpec) -> dict[str, Any]:
        """The episode as a line of episodes.jsonl."""
        times = self.round_trip_ms
        latency = (
            {"p50": _percentile(times, 50), "p95": _percentile(times, 95), "mean": _mean(times)} if times else None
        )
        return {
            "task": spec.task,
            "variation": spec.variation,
            "seed": spec.seed,
            "success": self.success,
            "latched": self.latched,
            "steps": self.steps,
            "outcome": self.outcome,
            "instruction": self.instruction,
            "message": self.message,
            "events": dict(self.events),
            "latency_ms": latency,
            "round_trip_ms": [round(t, 3) for t in times],
            "infer_ms": [round(t, 3) for t in self.infer_ms],
            **({"delay_steps": self.delay_steps} if self.delay_steps else {}),
        }


def _percentile(values: list[float], q: float) -> float:
    return round(float(np.percentile(values, q)), 3)


def _mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 3)


def policy_seed(episode_seed: int, step: int) -> int:
    """The seed of the policy's noise at a control step, 0 <= seed < 2**32: the same for every run of this episode."""
    return int(np.random.SeedSequence([episode_seed, step]).generate_state(1)[0])


def run_episode(
    env: Env,
    client: PolicyClientProtocol,
    spec: EpisodeSpec,
    settings: EpisodeSettings,
    film: Film | None = None,
    recording: TrajectoryWriter | None = None,
) -> EpisodeResult:
    """Runs one episode to its end; observations are rendered only where the policy is asked, or all are recorded.

    Args:
      film: takes a picture now and then; finished and closed here, or discarded if this raises.
      recording: gets every row of this episode.

    Raises:
      EnvError: the simulator crashed (outcome "env_crash"); every other EnvError is an outcome, not an exception.
      ConnectionError: the server was lost.
      PolicyServerError: the server refuses the simulator's first observation, or has no time.
      ValueError: unknown task or variation.
    """
    result = EpisodeResult()
    with film or contextlib.nullcontext():
        try:
            _act(env, client, spec, settings, result, film, recording)
        except EnvError as error:
            if error.outcome in UNSCORED:
                raise
            result.outcome, result.message = error.outcome, str(error)
        except PolicyServerError as error:
            if not result.steps or error.kind not in REFUSALS:  # at once: not what this policy takes at all
                raise
            result.outcome, result.message = "refused", str(error)
        if film:
            detail, mood = _detail(spec, result), "good" if result.success else "bad"
            film.finish(result.instruction, detail, result.outcome.replace("_", " "), mood, fresh=not result.message)
    return result


def _act(
    env: Env,
    client: PolicyClientProtocol,
    spec: EpisodeSpec,
    settings: EpisodeSettings,
    result: EpisodeResult,
    film: Film | None,
    recording: TrajectoryWriter | None,
) -> None:
    """The control loop. Writes into ``result`` as it goes: an episode cut short by an error keeps its numbers."""
    observation, result.instruction = env.reset(spec.task, spec.variation, spec.seed)
    chunks = make_chunks(settings.execution, settings.execute)
    memory = FrameHistory(settings.history, settings.history_stride)
    memory.see(observation.images)
    held = 0
    while result.steps < settings.max_steps:
        if chunks.needs_chunk:
            seed = policy_seed(spec.seed, result.steps)
            request = {"images": memory.shown(), "state": observation.state}
            chunk = _ask(client, request | {"prompt": result.instruction, "seed": seed}, result)
            chunks.add(chunk)
            if film:
                film.plan(chunk)
            if settings.execution.execution == "async":
                result.delay_steps.append(math.ceil(result.round_trip_ms[-1] / 1000 * env.control_hz))
        if film:
            state, mood = (f"held {held} of {settings.hold_steps}", "good") if held else ("acting", "open")
            film.shoot(result.instruction, _detail(spec, result), state, mood)
        action = chunks.next()
        if recording is not None:
            recording.add(observation, action)
        render = chunks.needs_chunk or memory.needs_every_step or recording is not None
        step = env.step(action, render=render)
        observation = step.observation
        if render:
            memory.see(observation.images)
        result.steps += 1
        result.events.update(step.info.get("events", ()))
        result.latched |= bool(step.success)
        if not step.info.get("judged", True):
            result.outcome = "unjudged"  # at the end too: not to have seen success is no failure
        held = held + 1 if step.success else 0
        if held == settings.hold_steps:
            result.outcome = "success"
            return
        if step.done:
            result.outcome = "ended" if step.info.get("judged", True) else "unjudged"
            return


def _detail(spec: EpisodeSpec, result: EpisodeResult) -> str:
    return f"{spec.task} · seed {spec.seed} · step {result.steps}"


def _ask(client: PolicyClientProtocol, request: dict, result: EpisodeResult) -> np.ndarray:
    """One question to the policy, timed from observation in hand to actions in hand."""
    began = time.perf_counter()
    answer = client.infer(request)
    result.round_trip_ms.append(1000 * (time.perf_counter() - began))
    result.infer_ms.append(answer["server_timing"]["infer_ms"])
    return answer["actions"]
