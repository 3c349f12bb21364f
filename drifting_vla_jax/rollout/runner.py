"""Runs a list of episodes in one simulator against a policy server: what the command ``rollout.worker`` does.

The i-th episode of a task has seed S + i, whatever the policy: two policies meet the same starts. A finished episode is
on disk before the next begins, and is skipped by the next start. An episode whose simulator crashed, or whose server
was lost and came back, is run again a few times; what stays unscored (success null) the next start tries once more.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tqdm

from drifting_vla_jax.core.network import shown
from drifting_vla_jax.envs import base as envs
from drifting_vla_jax.envs import registry
from drifting_vla_jax.rollout import episode_log
from drifting_vla_jax.rollout.episode import EpisodeResult, EpisodeSettings, EpisodeSpec, run_episode
from drifting_vla_jax.rollout.episode_claims import Claim, EpisodeQueue
from drifting_vla_jax.rollout.settings import RolloutSettings, Simulation
from drifting_vla_jax.rollout.trajectory_writer import RolloutsAbout, TrajectoryWriter, wanted
from drifting_vla_jax.wire.client import PolicyClient

if TYPE_CHECKING:
    from drifting_vla_jax.rollout.video import Film

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
RERUNS = 2  # an episode that the simulator or the connection broke off is run this many times more


@dataclass(frozen=True)
class WorkerSettings:
    """Everything a worker needs to know.

    Attributes:
      rollout, simulation: what is run, and where.
      server: address of the policy server, ws://HOST:PORT.
      out: folder for episodes.jsonl and videos.
      worker: this process's number among those that share ``out``.
      server_wait: seconds to wait for a server that is starting.
      api_key: for a server that wants one.
      video_size: height and width of the videos' picture, pixels.
    """

    rollout: RolloutSettings
    simulation: Simulation
    server: str
    out: Path
    worker: int = 0
    server_wait: float = 10.0
    api_key: str | None = None
    video_size: int = 384


def episode_list(rollout: RolloutSettings, simulation: Simulation) -> list[EpisodeSpec]:
    """``episodes`` of every task: the i-th has seed ``seed`` + i and takes its turn of the variations.

    With ``demos``, a folder of the simulator's stored episodes, the seed is the number of one and the variation is its own.

    Raises:
      ValueError, OSError: a stored episode is not there or cannot be read, or the simulator has none.
    """
    stored = registry.stored_episodes(simulation.env) if rollout.demos else None

    def variation(task: str, index: int) -> int:
        if stored:
            return stored.variation(Path(rollout.demos), task, rollout.seed + index)
        return simulation.variations[index % len(simulation.variations)]

    return [
        EpisodeSpec(task, variation(task, i), rollout.seed + i, i)
        for task in dict.fromkeys(simulation.tasks)
        for i in range(rollout.episodes)
    ]


def episode_settings(metadata: Mapping[str, Any], rollout: RolloutSettings) -> EpisodeSettings:
    """How an episode of the policy with this metadata is run; raises ValueError if it cannot be."""
    return EpisodeSettings.for_policy(metadata, rollout.execute, rollout.max_steps, rollout.hold_steps, rollout)


def rollout_identity(metadata: Mapping[str, Any], rollout: RolloutSettings, simulation: Simulation) -> dict[str, Any]:
    """``evaluation_identity`` of episodes in simulation; raises ValueError if the policy cannot act so."""
    own = simulation.identity() | ({"demos": rollout.demos} if rollout.demos else {})
    how = episode_settings(metadata, rollout), simulation.frame_skip, own, rollout.record
    return evaluation_identity(metadata, simulation.env, rollout.seed, *how)


def evaluation_identity(
    metadata: Mapping[str, Any],
    environment: str,
    seed: int,
    settings: EpisodeSettings,
    frame_skip: int,
    own: Mapping[str, Any],
    record: str = "none",
) -> dict[str, Any]:
    """What the episodes of one folder have in common: the policy and how it was asked; the content of settings.json.

    ``own``: settings of this simulator alone that tell two evaluations apart, see ``registry.identity``.
    """
    return {
        "environment": environment,
        "seed": seed,
        **settings.identity(),
        "frame_skip": frame_skip or metadata["frame_skip"],
        **own,
        **{name: metadata[name] for name in episode_log.WHOSE},
        **{name: metadata[name] for name in episode_log.LATER if name in metadata},
        "num_samples": metadata.get("num_samples", 1),
        "choose": metadata.get("choose", "first"),
        **({"record": record} if record != "none" else {}),  # what was run without it has left nothing behind
    }


class Worker:
    """One simulator and one connection; both are made again when they fail.

    Raises (on making one):
      ValueError: unknown simulator, task or camera, or a policy for other observations.
      ConnectionError: no server.
      ModuleNotFoundError: the simulator is not installed.
    """

    def __init__(self, settings: WorkerSettings):
        self._settings = settings
        self._rollout, self._simulation = settings.rollout, settings.simulation
        registry.environment_class(self._simulation.env)  # raises ValueError
        self._client = self._connect()
        self.metadata = self._client.metadata
        self._episode_settings = episode_settings(self.metadata, self._rollout)
        self._frame_skip = self._simulation.frame_skip or self.metadata["frame_skip"]
        self._env = self._make_env()
        for task in self._simulation.tasks:
            self._env.check_task(task)
        here, learned = self._env.control_hz, self.metadata["control_hz"]
        if here != learned:
            logger.warning("actions are executed at %g Hz here; the policy learned them at %g Hz", here, learned)

    def identity(self) -> dict[str, Any]:
        """See ``evaluation_identity``."""
        return rollout_identity(self.metadata, self._rollout, self._simulation)

    def run(self, spec: EpisodeSpec) -> dict:
        """Runs an episode, again if the simulator or the connection broke it off; returns its line."""
        began = time.monotonic()
        attempts = 0
        result = EpisodeResult()
        while attempts <= RERUNS:
            attempts += 1
            recording = TrajectoryWriter() if self._rollout.record != "none" else None
            try:
                result = self._run_once(spec, recording)
                break
            except envs.EnvError as error:
                result = EpisodeResult(outcome="env_crash", message=f"{type(error).__name__}: {error}")
                self._renew_env()
            except ConnectionError as error:
                result = EpisodeResult(outcome="server_lost", message=str(error))
                if not self._renew_client():
                    break
            logger.warning("%s seed %d broke off (attempt %d): %s", spec.task, spec.seed, attempts, result.message)
        if result.outcome == "timeout":
            self._renew_env()  # it may still be stuck
        filmed = self._films(spec) and result.success is not None
        return {
            **result.line(spec),
            "attempts": attempts,
            "worker": self._settings.worker,
            "video": str(self._video_path(spec).relative_to(self._settings.out)) if filmed else None,
            "seconds": round(time.monotonic() - began, 3),
            **self._keep(recording, spec, result),
        }

    def _run_once(self, spec: EpisodeSpec, recording: TrajectoryWriter | None) -> EpisodeResult:
        return run_episode(self._env, self._client, spec, self._episode_settings, self._film(spec), recording)

    def _keep(self, recording: TrajectoryWriter | None, spec: EpisodeSpec, result: EpisodeResult) -> dict[str, str]:
        """Writes the episode, if it is one of those wanted; what its line says of that."""
        out, record = self._settings.out, self._rollout.record
        if not recording or result.success is None or not wanted(record, result.success):
            return {}
        env = self._env
        about = RolloutsAbout.of(self.metadata, self._simulation.env, env.info.state_names, env.control_hz)
        path = recording.save(out, about, spec, result.instruction, result.success)
        return {"recording": str(path.relative_to(out))}

    def _film(self, spec: EpisodeSpec) -> Film | None:
        if not self._films(spec):
            return None
        from drifting_vla_jax.rollout.video import Film  # fonts and ffmpeg only where a video is made

        camera = self._rollout.video_camera or self.metadata["cameras"][0]
        return Film(self._env, self._video_path(spec), camera=camera, size=self._settings.video_size)

    def _films(self, spec: EpisodeSpec) -> bool:
        return spec.index < self._rollout.videos

    def _video_path(self, spec: EpisodeSpec) -> Path:
        return self._settings.out / "videos" / f"{spec.task}-v{spec.variation}-s{spec.seed}.mp4"

    def _connect(self) -> PolicyClient:
        return PolicyClient(self._settings.server, self._settings.api_key, wait=self._settings.server_wait)

    def _renew_client(self) -> bool:
        """Connects again; False if the server stays away."""
        self._client.close()
        try:
            self._client = self._connect()
        except ConnectionError as error:
            logger.warning("%s", error)
            return False
        if self._client.metadata != self.metadata:
            raise ValueError(f"the server at {shown(self._settings.server)} came back with another policy")
        return True

    def _make_env(self) -> envs.Env:
        return registry.make(
            self._simulation.env,
            cameras=self.metadata["cameras"],
            image_size=self.metadata["image_size"],
            frame_skip=self._frame_skip,
            demos=self._rollout.demos,
            **self._simulation.options,
        )

    def _renew_env(self) -> None:
        self._env.close()
        self._env = self._make_env()

    def close(self) -> None:
        """Leaves the server and frees the simulator."""
        self._client.close()
        self._env.close()


def log_path(settings: WorkerSettings) -> Path:
    """The file a worker appends to: its own, where several share a folder."""
    return settings.out / (f"episodes-{settings.worker}.jsonl" if settings.worker else "episodes.jsonl")


def alive_path(out: Path, worker: int) -> Path:
    """The file whose time says when a worker last began an episode or looked for one."""
    return out / "logs" / f"worker-{worker}.alive"


def run(settings: WorkerSettings, make_worker: Callable[[WorkerSettings], Worker] = Worker) -> int:
    """Works until every episode of the list is recorded, by this process or by others; returns how many stay unscored.

    Raises:
      ValueError: bad settings, or ``out`` holds another evaluation.
      ConnectionError: no server, or it was lost and did not come back; what was finished is recorded.
      PolicyServerError: the server refuses this simulator's observations.
    """
    specs = episode_list(settings.rollout, settings.simulation)
    worker = make_worker(settings)
    try:
        episode_log.claim_folder(settings.out, worker.identity())
        queue = EpisodeQueue(settings.out / "queue", len(specs))
        with episode_log.EpisodeLog(log_path(settings)) as log, contextlib.closing(queue):
            return _Shift(settings, worker, specs, queue, log).run()
    finally:
        worker.close()


class _Shift:
    """One process's turn at the list. An episode recorded as unscored before it is tried again, one since then is not."""

    def __init__(self, settings, worker: Worker, specs: Sequence[EpisodeSpec], queue: EpisodeQueue, log):
        self._worker, self._specs, self._queue, self._log = worker, specs, queue, log
        self._number = settings.worker
        self._alive = alive_path(settings.out, settings.worker)
        self._alive.parent.mkdir(exist_ok=True)
        self._reader, self._fresh = episode_log.EpisodeReader(settings.out), set()
        self._reader.update()

    def run(self) -> int:
        todo = list(enumerate(self._specs))
        with tqdm.tqdm(total=len(todo), unit="episode", disable=None) as bar:
            while todo:
                taken = [(place, spec) for place, spec in todo if not self._settle(place, spec, bar)]
                if len(taken) == len(todo):  # others are at work on all that is left; one of them may die
                    time.sleep(_POLL_SECONDS)
                todo = taken
        return sum(self._reader.episodes[spec.key]["success"] is None for spec in self._specs)

    def _settle(self, place: int, spec: EpisodeSpec, bar: tqdm.tqdm) -> bool:
        """Makes sure that an episode is recorded; False if another process is at it."""
        self._alive.touch()
        if not self._is_done(spec):
            with self._queue.claim(place) as claim:
                if claim is None:
                    return False
                if not self._is_done(spec):  # recorded while we were asking
                    self._record(spec, claim, bar.disable)
        self._look()
        done = [e for spec in self._specs if (e := self._reader.episodes.get(spec.key)) and e["success"] is not None]
        bar.set_postfix(success=sum(e["success"] for e in done), refresh=False)
        bar.update(len(done) - bar.n)
        return True

    def _look(self) -> None:
        """Learns what was recorded meanwhile, here and elsewhere."""
        self._fresh |= {episode_log.episode_key(episode) for episode in self._reader.update()}

    def _is_done(self, spec: EpisodeSpec) -> bool:
        self._look()
        recorded = self._reader.episodes.get(spec.key)
        return recorded is not None and (recorded["success"] is not None or spec.key in self._fresh)

    def _record(self, spec: EpisodeSpec, claim: Claim, say: bool) -> None:
        if claim.hopeless:
            said = f"{claim.deaths} processes ended while they ran it"
            result = EpisodeResult(outcome="env_crash", message=said)
            line = {
                **result.line(spec),
                "attempts": claim.deaths,
                "worker": self._number,
                "video": None,
                "seconds": 0.0,
            }
        else:
            line = self._worker.run(spec)
        self._log.append(line)
        if say:  # no terminal: a log file wants lines
            logger.info("%s seed %d: %s after %d steps", spec.task, spec.seed, line["outcome"], line["steps"])
        if line["outcome"] == "server_lost":
            raise ConnectionError(line["message"])
