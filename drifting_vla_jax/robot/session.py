"""Episodes on an arm, one after the other: the policy asked while time goes by, an operator who starts, ends, judges.

``receding`` and ``ensemble`` wait for an answer, and the arm at its last target meanwhile; ``async`` asks in the
background (``rollout/chunking/realtime.py``). An operator's word decides; without one an episode is "unjudged", which is
neither success nor failure.
"""

from __future__ import annotations

import logging
import math
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from drifting_vla_jax.envs.base import EnvError
from drifting_vla_jax.robot.driver import DriverError
from drifting_vla_jax.robot.env import Robot
from drifting_vla_jax.rollout import episode_log
from drifting_vla_jax.rollout.chunking.asynchronous import Asynchronous
from drifting_vla_jax.rollout.chunking.base import make_chunks
from drifting_vla_jax.rollout.chunking.realtime import Client, RealTimePolicy
from drifting_vla_jax.rollout.episode import EpisodeResult, EpisodeSettings, EpisodeSpec, policy_seed
from drifting_vla_jax.rollout.frame_history import FrameHistory
from drifting_vla_jax.rollout.trajectory_writer import RolloutsAbout, TrajectoryWriter, wanted
from drifting_vla_jax.wire.client import PolicyServerError

logger = logging.getLogger(__name__)

_OUTCOME = {
    "bad request": DriverError.outcome,
    "inference failed": "refused",
}  # by who is at fault, of a server's refusal
AGAIN = ("driver", "interrupted", "server_lost")  # outcomes of episodes that the next start runs once more


class Operator(Protocol):
    """Who stands beside the arm."""

    def ready(self, said: str) -> bool:
        """Whether the scene is in order and the episode may start; False ends the session."""
        ...

    def ended(self) -> bool:
        """Whether the episode is to end now; asked at every control step."""
        ...

    def verdict(self, instruction: str) -> bool | None:
        """Whether it succeeded; None if that cannot be said."""
        ...


class AutomaticOperator:
    """Starts at once, ends at ``max_steps``; ``judge``, if any, is told the instruction and gives the verdict."""

    def __init__(self, judge: Callable[[str], bool | None] | None = None):
        self._judge = judge

    def ready(self, said: str) -> bool:
        return True

    def ended(self) -> bool:
        return False

    def verdict(self, instruction: str) -> bool | None:
        return self._judge(instruction) if self._judge else None


class TerminalOperator:
    """Somebody at the keyboard."""

    def ready(self, said: str) -> bool:
        print(f"{said}: put the scene in order. Enter starts, q ends the session, Ctrl-C stops the arm", flush=True)
        line = sys.stdin.readline()
        if line.strip().lower() != "q" and line:
            print("running; Enter ends the episode", flush=True)
            return True
        return False

    def ended(self) -> bool:
        return bool(select.select([sys.stdin], [], [], 0)[0]) and sys.stdin.readline() is not None

    def verdict(self, instruction: str) -> bool | None:
        print(f"{instruction!r}: done? y, n, or Enter if that cannot be said", flush=True)
        while (answer := sys.stdin.readline().strip().lower()) not in ("", "y", "n"):
            print("y, n or Enter", flush=True)
        return {"y": True, "n": False}.get(answer)


class _Timed:
    """A client whose answers' times are noted."""

    def __init__(self, client: Client, result: EpisodeResult):
        self._client, self._result = client, result

    def infer(self, observation: dict) -> dict:
        began = time.perf_counter()
        answer = self._client.infer(observation)
        self._result.round_trip_ms.append(1000 * (time.perf_counter() - began))
        self._result.infer_ms.append(answer["server_timing"]["infer_ms"])
        return answer

    def close(self) -> None:
        self._client.close()


class _Waiting:
    """What ``RealTimePolicy`` is for async, for the ways that wait."""

    def __init__(self, connect: Callable[[], Client], settings: EpisodeSettings):
        self._client, self._chunks = connect(), make_chunks(settings.execution, settings.execute)

    def act(self, observation: dict) -> np.ndarray:
        if self._chunks.needs_chunk:
            self._chunks.add(self._client.infer(observation)["actions"])
        return self._chunks.next()

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *_) -> None:
        self._client.close()


def _make_policy(connect: Callable[[], Client], settings: EpisodeSettings) -> RealTimePolicy | _Waiting:
    how = settings.execution
    if how.execution != "async":
        return _Waiting(connect, settings)
    return RealTimePolicy(connect, Asynchronous(settings.execute, how.lead_steps, how.blend_steps))


def run_arm_episode(
    robot: Robot,
    connect: Callable[[], Client],
    spec: EpisodeSpec,
    settings: EpisodeSettings,
    operator: Operator,
    recording: TrajectoryWriter,
    result: EpisodeResult,
) -> None:
    """Runs one episode to its end; the arm holds then. ``result`` and ``recording`` are filled as it goes.

    Raises:
      EnvError: the arm failed, was stopped, or is asked for what is no action; ``result`` has the outcome.
      ConnectionError, PolicyServerError: the server was lost, or refuses the observations.
    """
    try:
        _act(robot, connect, spec, settings, operator, recording, result)
        robot.hold()
        verdict = operator.verdict(robot.instruction)
        result.outcome = {True: "success", False: "failed", None: "unjudged"}[verdict]
        result.latched = verdict is True
    except EnvError as error:
        result.outcome, result.message = error.outcome, str(error)
        raise
    except (ConnectionError, PolicyServerError) as error:
        result.outcome, result.message = _OUTCOME.get(getattr(error, "kind", ""), "server_lost"), str(error)
        raise
    except KeyboardInterrupt:
        robot.stop("interrupted", "interrupted")
        result.outcome, result.message = "interrupted", robot.stop_reason
        raise
    except BaseException as error:
        robot.stop(f"{type(error).__name__}: {error}", DriverError.outcome)
        result.outcome, result.message = DriverError.outcome, f"{type(error).__name__}: {error}"
        raise


def _act(robot, connect, spec, settings, operator, recording, result) -> None:
    observation, result.instruction = robot.reset(spec.task, spec.variation, spec.seed)
    memory = FrameHistory(settings.history, settings.history_stride)
    with _make_policy(lambda: _Timed(connect(), result), settings) as policy:
        while result.steps < settings.max_steps and not operator.ended():
            memory.see(observation.images)
            request = {"images": memory.shown(), "state": observation.state, "prompt": robot.instruction}
            action = policy.act(request | {"seed": policy_seed(spec.seed, result.steps)})
            step = robot.step(action)
            recording.add(observation, step.info["commanded"])
            result.events.update(step.info["events"])
            result.steps += 1
            observation = step.observation
        if settings.execution.execution == "async":
            result.delay_steps += [math.ceil(ms / 1000 * robot.control_hz) for ms in result.round_trip_ms]


def run_session(
    robot: Robot,
    connect: Callable[[], Client],
    settings: EpisodeSettings,
    operator: Operator,
    *,
    episodes: int,
    seed: int,
    out: Path,
    record: str,
    about: RolloutsAbout,
) -> list[EpisodeResult]:
    """Runs what OUT does not hold yet of ``episodes``, a line of OUT/episodes.jsonl for each; returns those run now.

    Raises:
      EnvError, ConnectionError, PolicyServerError: as ``run_arm_episode``, after the line is written.
    """
    before = episode_log.read_all_episodes(out)
    ran = []
    with episode_log.EpisodeLog(out / "episodes.jsonl") as log:
        for index in range(episodes):
            spec = EpisodeSpec(robot.tasks[0], 0, seed + index, index)
            if spec.key in before and before[spec.key]["outcome"] not in AGAIN:
                continue
            if not operator.ready(f"episode {index + 1} of {episodes}, {robot.instruction!r}"):
                break
            result, recording, began = EpisodeResult(), TrajectoryWriter(), time.monotonic()
            ran.append(result)
            try:
                run_arm_episode(robot, connect, spec, settings, operator, recording, result)
            finally:
                line = result.line(spec) | {"attempts": 1, "worker": 0, "video": None}
                line["seconds"] = round(time.monotonic() - began, 3)
                if len(recording) and result.outcome not in AGAIN and wanted(record, result.success):
                    path = recording.save(out, about, spec, result.instruction, result.success)
                    line["recording"] = str(path.relative_to(out))
                log.append(line)
                logger.info(
                    "episode %d: %s after %d steps %s", index + 1, result.outcome, result.steps, dict(result.events)
                )
    return ran
