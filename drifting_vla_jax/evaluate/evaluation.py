"""Evaluates a policy in simulation: one server in this process, n worker processes, one folder of results.

    OUT/settings.json                   which policy, asked how
    OUT/episodes.jsonl, results.json    every episode once, in the list's order; rates with intervals
    OUT/videos/, OUT/logs/              mp4 per filmed episode; what each worker said

The policy answers through the same socket that a robot would use, so what is measured is what is served. Stopped at any
moment, the same call goes on where it was: finished episodes are never run twice.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import tqdm

import drifting_vla_jax
from drifting_vla_jax.evaluate.statistics import summarize
from drifting_vla_jax.rollout import recorder
from drifting_vla_jax.rollout.episode import EpisodeSettings
from drifting_vla_jax.rollout.execution import RECEDING, Execution
from drifting_vla_jax.rollout.runner import episode_list, evaluation_identity
from drifting_vla_jax.serve.server import Policy, PolicyServer

logger = logging.getLogger(__name__)

WORKER_COMMAND = (sys.executable, "-m", "drifting_vla_jax.rollout.worker")
_POLL_SECONDS = 0.5
_BAD_INPUT = 2  # the worker's exit code for it


class WorkerDiedError(RuntimeError):
    """A worker process ended without finishing its share: its last words, in one line; the end of its log is logged."""


@dataclass(frozen=True)
class _Running:
    """A worker process and where its output goes."""

    number: int
    process: subprocess.Popen
    log: Path


def evaluate(
    policy: Policy,
    *,
    out: Path,
    environment: str,
    tasks: Sequence[str],
    episodes_per_task: int,
    workers: int,
    seed: int,
    execute: int,
    max_steps: int,
    hold_steps: int,
    execution: Execution = RECEDING,
    frame_skip: int = 0,
    videos: int = 0,
    video_camera: str = "",
    variations: Sequence[int] = (0,),
    host: str = "127.0.0.1",
    port: int = 0,
    batch_deadline_ms: float = 2.0,
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> dict[str, Any]:
    """Runs every episode that ``out`` does not hold yet and writes results.json.

    Args:
      policy: what is evaluated; served by a thread of this process.
      out: the evaluation's folder; made if missing, continued if it holds part of this evaluation.
      environment, tasks: a simulator by name and which of its tasks.
      episodes_per_task: the i-th of a task has seed ``seed`` + i.
      workers: simulator processes.
      execute, max_steps, hold_steps: see ``rollout.episode.EpisodeSettings``.
      execution: how chunks are executed.
      frame_skip: simulator steps per action; 0 as the policy was trained.
      videos: how many episodes of every task are filmed.
      worker_command: what starts a worker, for a simulator with a Python of its own.

    Returns:
      The content of results.json, see ``statistics.summarize``.

    Raises:
      ValueError: bad input, found here or by a worker; one line.
      WorkerDiedError: a worker ended early; the same call goes on.
      OSError: the port is in use.
    """
    out = Path(out)
    tasks = tuple(dict.fromkeys(tasks))
    specs = episode_list(tasks, episodes_per_task, seed, variations)
    if not specs:
        raise ValueError(f"nothing to evaluate: tasks {list(tasks)}, {episodes_per_task} episodes of each")
    keys = [(spec.task, spec.variation, spec.seed) for spec in specs]
    settings = EpisodeSettings.for_policy(policy.metadata, execute, max_steps, hold_steps, execution)
    identity = evaluation_identity(policy.metadata, environment, seed, settings, frame_skip)
    recorder.claim_folder(out, identity)
    options = {
        "env": environment,
        "tasks": ",".join(tasks),
        "episodes": episodes_per_task,
        "seed": seed,
        "out": out,
        "execute": execute,
        **asdict(execution),
        "max_steps": max_steps,
        "hold_steps": hold_steps,
        "frame_skip": frame_skip,
        "variations": ",".join(str(v) for v in variations),
        "videos": videos,
        "video_camera": video_camera,
        "num_workers": max(1, min(workers, len(specs))),
        "server_wait": 2,  # it listens before they start; once gone, it has gone with this process
    }
    if len(_scored(out, keys)) < len(keys):
        with PolicyServer(policy, host=host, port=port, batch_deadline_ms=batch_deadline_ms) as server:
            reachable = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
            options["server"] = f"ws://{reachable}:{server.port}"
            with _workers(worker_command, options, out / "logs") as running:
                _watch(running, out, keys)
    return _merge(out, keys, identity)


@contextlib.contextmanager
def _workers(command: Sequence[str], options: dict[str, Any], logs: Path) -> Iterator[list[_Running]]:
    """Starts the worker processes; whatever happens, none outlives the block."""
    logs.mkdir(parents=True, exist_ok=True)
    root = str(Path(drifting_vla_jax.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    running: list[_Running] = []
    try:
        for number in range(options["num_workers"]):
            arguments = [f"--{name}={value}" for name, value in {**options, "worker": number}.items()]
            log = logs / f"worker-{number}.log"
            with open(log, "wb") as output:
                process = subprocess.Popen(
                    [*command, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
                )
            running.append(_Running(number, process, log))
        yield running
    finally:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            try:
                worker.process.wait(10)
            except subprocess.TimeoutExpired:  # a simulator may be deaf
                worker.process.kill()
                worker.process.wait()


def _watch(running: Sequence[_Running], out: Path, keys: Sequence[recorder.Key]) -> None:
    """One progress bar over all workers, until each has ended well."""
    done = _scored(out, keys)
    often = 0.5 if sys.stderr.isatty() else 15  # seconds between redraws; a log file wants few
    with tqdm.tqdm(total=len(keys), initial=len(done), desc="episodes", unit="episode", mininterval=often) as bar:
        while True:
            codes = [worker.process.poll() for worker in running]  # before reading: what ended has written everything
            done = _scored(out, keys)
            bar.set_postfix(success=f"{sum(e['success'] for e in done)}/{len(done)}", refresh=False)
            bar.update(len(done) - bar.n)
            if any(codes):
                raise _died(*next((worker, code) for worker, code in zip(running, codes) if code))
            if all(code == 0 for code in codes):
                return
            time.sleep(_POLL_SECONDS)


def _died(worker: _Running, code: int) -> Exception:
    lines = worker.log.read_text(errors="replace").strip().splitlines()
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if code == _BAD_INPUT and reasons:
        return ValueError(reasons[-1])
    logger.error("the end of %s:\n%s", worker.log, "\n".join(lines[-20:]))
    said = lines[-1].removeprefix("error: ") if lines else "(it said nothing)"
    return WorkerDiedError(
        f"rollout worker {worker.number} ended with exit code {code}, saying last: {said}; see {worker.log}. "
        "The same command goes on where it was"
    )


def _scored(out: Path, keys: Sequence[recorder.Key]) -> list[dict]:
    """The wanted episodes that are recorded and say something about the policy."""
    episodes = recorder.read_all_episodes(out)
    return [episodes[key] for key in keys if key in episodes and episodes[key]["success"] is not None]


def _merge(out: Path, keys: Sequence[recorder.Key], identity: dict[str, Any]) -> dict[str, Any]:
    """Every worker's file into one, in the list's order, and the results of what was asked for."""
    recorded = recorder.read_all_episodes(out)
    missing = [key for key in keys if key not in recorded]
    if missing:
        raise WorkerDiedError(
            f"{len(missing)} episodes are not recorded though every worker ended well: {missing[:3]} ..."
        )
    wanted = dict.fromkeys(keys)
    others = [episode for key, episode in recorded.items() if key not in wanted]  # of a longer list, asked for before
    recorder.write_episodes(out / "episodes.jsonl", [*(recorded[key] for key in keys), *others])
    for path in out.glob("episodes-*.jsonl"):
        path.unlink()
    results = summarize([recorded[key] for key in keys], identity)
    recorder.write_atomically(out / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results
