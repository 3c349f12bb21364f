"""Runs a list of episodes in one simulator against a policy server: what the command ``rollout.worker`` does.

The i-th episode of a task has seed S + i, whatever the policy: two policies meet the same starts. A finished episode is
on disk before the next begins, and is skipped by the next start. An episode whose simulator crashed, or whose server
was lost and came back, is run again a few times; what stays unscored (success null) the next start tries once more.
"""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tqdm

from drifting_vla_jax.envs import env as envs
from drifting_vla_jax.rollout import recorder
from drifting_vla_jax.rollout.episode import EpisodeResult, EpisodeSettings, EpisodeSpec, run_episode
from drifting_vla_jax.rollout.execution import RECEDING, Execution
from drifting_vla_jax.wire.client import PolicyClient

logger = logging.getLogger(__name__)

RERUNS = 2  # an episode that the simulator or the connection broke off is run this many times more


@dataclass(frozen=True)
class WorkerSettings:
    """Everything a worker needs to know; its fields are the flags of ``rollout.worker``, which explains them."""

    server: str
    env: str
    tasks: tuple[str, ...]
    episodes: int
    seed: int
    out: Path
    execute: int
    max_steps: int
    hold_steps: int
    frame_skip: int = 0
    variations: tuple[int, ...] = (0,)
    videos: int = 0
    video_camera: str = ""
    video_size: int = 384
    worker: int = 0
    num_workers: int = 1
    execution: Execution = RECEDING
    server_wait: float = 10.0
    api_key: str | None = None


def episode_list(tasks: Sequence[str], episodes: int, seed: int, variations: Sequence[int] = (0,)) -> list[EpisodeSpec]:
    """``episodes`` of every task: the i-th has seed ``seed`` + i and takes its turn of the variations."""
    return [
        EpisodeSpec(task, variations[index % len(variations)], seed + index, index)
        for task in tasks
        for index in range(episodes)
    ]


def evaluation_identity(
    metadata: Mapping[str, Any], environment: str, seed: int, settings: EpisodeSettings, frame_skip: int
) -> dict[str, Any]:
    """What the episodes of one folder have in common: the policy and how it was asked; the content of settings.json."""
    names = ("checkpoint_step", "config_hash", "objective", "evaluations_per_chunk")
    return {
        "environment": environment,
        "seed": seed,
        **settings.identity(),
        "frame_skip": frame_skip or metadata["frame_skip"],
        **{name: metadata[name] for name in names},
        "num_samples": metadata.get("num_samples", 1),
        "choose": metadata.get("choose", "first"),
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
        if settings.env not in envs.ENVIRONMENTS:
            known = ", ".join(sorted(envs.ENVIRONMENTS))
            raise ValueError(f"unknown environment {settings.env!r}; expected one of {known}")
        how = settings.execute, settings.max_steps, settings.hold_steps
        EpisodeSettings(*how)  # nonsense is refused before anybody is called
        self._client = self._connect()
        self.metadata = self._client.metadata
        self._episode_settings = EpisodeSettings.for_policy(self.metadata, *how, settings.execution)
        self._frame_skip = settings.frame_skip or self.metadata["frame_skip"]
        self._env = self._make_env()
        _check_tasks(settings.tasks, self._env.tasks, settings.env)
        here, learned = self._env.control_hz, self.metadata["control_hz"]
        if here != learned:
            logger.warning("actions are executed at %g Hz here; the policy learned them at %g Hz", here, learned)

    def identity(self) -> dict[str, Any]:
        """See ``evaluation_identity``."""
        settings = self._settings
        return evaluation_identity(self.metadata, settings.env, settings.seed, self._episode_settings, self._frame_skip)

    def run(self, spec: EpisodeSpec) -> dict:
        """Runs an episode, again if the simulator or the connection broke it off; returns its line."""
        began = time.monotonic()
        attempts = 0
        result = EpisodeResult()
        while attempts <= RERUNS:
            attempts += 1
            try:
                result = self._run_once(spec)
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
        }

    def _run_once(self, spec: EpisodeSpec) -> EpisodeResult:
        film = None
        if self._films(spec):
            from drifting_vla_jax.rollout.video import Film  # fonts and ffmpeg only where a video is made

            camera = self._settings.video_camera or self.metadata["cameras"][0]
            film = Film(self._env, self._video_path(spec), camera=camera, size=self._settings.video_size)
        return run_episode(self._env, self._client, spec, self._episode_settings, film)

    def _films(self, spec: EpisodeSpec) -> bool:
        return spec.index < self._settings.videos

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
            raise ValueError(f"the server at {self._settings.server} came back with another policy")
        return True

    def _make_env(self) -> envs.Env:
        return envs.make(
            self._settings.env,
            cameras=self.metadata["cameras"],
            image_size=self.metadata["image_size"],
            frame_skip=self._frame_skip,
        )

    def _renew_env(self) -> None:
        self._env.close()
        self._env = self._make_env()

    def close(self) -> None:
        """Leaves the server and frees the simulator."""
        self._client.close()
        self._env.close()


def _check_tasks(tasks: Sequence[str], known: Sequence[str], environment: str) -> None:
    for task in tasks:
        if task not in known:
            near = difflib.get_close_matches(task, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it knows {', '.join(sorted(known))}"
            raise ValueError(f"unknown task {task!r} in {environment}; {hint}")


def _share(settings: WorkerSettings) -> list[EpisodeSpec]:
    """This worker's episodes: every n-th, starting one further with every task, so that all film about as much."""
    specs = episode_list(settings.tasks, settings.episodes, settings.seed, settings.variations)
    turn = [place // settings.episodes + spec.index for place, spec in enumerate(specs)]
    return [spec for spec, n in zip(specs, turn) if n % settings.num_workers == settings.worker]


def log_path(settings: WorkerSettings) -> Path:
    """The file a worker appends to: its own, where several share a folder."""
    if settings.num_workers == 1:
        return settings.out / "episodes.jsonl"
    return settings.out / f"episodes-{settings.worker}-of-{settings.num_workers}.jsonl"


def run(settings: WorkerSettings) -> int:
    """Runs a worker's share of the episodes that are not recorded yet; returns how many stay unscored.

    Raises:
      ValueError: bad settings, or ``out`` holds another evaluation.
      ConnectionError: no server, or it was lost and did not come back; what was finished is recorded.
      PolicyServerError: the server refuses this simulator's observations.
    """
    specs = _share(settings)
    worker = Worker(settings)
    try:
        recorder.claim_folder(settings.out, worker.identity())
        recorded = recorder.read_all_episodes(settings.out)
        done = {key for key, episode in recorded.items() if episode["success"] is not None}
        todo = [spec for spec in specs if (spec.task, spec.variation, spec.seed) not in done]
        with recorder.EpisodeLog(log_path(settings)) as log:
            return _run_all(worker, todo, len(specs), log)
    finally:
        worker.close()


def _run_all(worker: Worker, todo: Sequence[EpisodeSpec], total: int, log: recorder.EpisodeLog) -> int:
    successes = unscored = 0
    with tqdm.tqdm(total=total, initial=total - len(todo), unit="episode", disable=None) as bar:
        for spec in todo:
            line = worker.run(spec)
            log.append(line)
            successes += line["success"] is True
            unscored += line["success"] is None
            bar.set_postfix(success=successes, refresh=False)
            bar.update()
            if bar.disable:  # no terminal: a log file wants lines
                logger.info("%s seed %d: %s after %d steps", spec.task, spec.seed, line["outcome"], line["steps"])
            if line["outcome"] == "server_lost":
                raise ConnectionError(line["message"])
    return unscored
