"""Evaluates a policy in simulation: one server in this process, n worker processes, one folder of results.

    OUT/settings.json                   which policy, asked how
    OUT/episodes.jsonl, results.json    every episode once, in the list's order; rates with intervals
    OUT/rollouts/                       what was seen and commanded in the episodes that are to be kept
    OUT/videos/, OUT/logs/              mp4 per filmed episode; what each worker said

The policy answers through the same socket that a robot would use, so what is measured is what is served. Stopped at any
moment, the same call goes on where it was: finished episodes are never run twice.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drifting_vla_jax.core.files import write_atomically
from drifting_vla_jax.core.folder_lock import owned
from drifting_vla_jax.core.network import joined
from drifting_vla_jax.evaluate.statistics import summarize
from drifting_vla_jax.evaluate.worker_pool import WorkerDiedError, WorkerPool
from drifting_vla_jax.rollout import episode_log, settings
from drifting_vla_jax.rollout.runner import episode_list, rollout_identity
from drifting_vla_jax.rollout.settings import RolloutSettings, Simulation
from drifting_vla_jax.serve.server import PolicyServer, Servable

logger = logging.getLogger(__name__)

WORKER_COMMAND = (sys.executable, "-m", "drifting_vla_jax.rollout.worker")


def evaluate(
    policy: Servable,
    rollout: RolloutSettings,
    simulation: Simulation,
    *,
    out: Path,
    workers: int,
    episode_seconds: float = 600.0,
    host: str = "127.0.0.1",
    port: int = 0,
    batch_deadline_ms: float = 2.0,
    worker_command: Sequence[str] = WORKER_COMMAND,
) -> dict[str, Any]:
    """Runs every episode that ``out`` does not hold yet and writes results.json.

    Args:
      policy: what is evaluated; served by a thread of this process.
      rollout, simulation: which episodes, how they are run, and where.
      out: the evaluation's folder; made if missing, continued if it holds part of this evaluation.
      workers: simulator processes.
      episode_seconds: after which a worker that is still at the same episode is replaced; the episode is begun again.
      host, port, batch_deadline_ms: of the server.
      worker_command: what starts a worker, for a simulator with a Python of its own.

    Returns:
      The content of results.json, see ``statistics.summarize``.

    Raises:
      ValueError: bad input, found here or by a worker; one line.
      WorkerDiedError: workers keep dying; the same call goes on.
      InUseError: another evaluation runs in the folder.
      OSError: the port is in use.
    """
    out = Path(out)
    keys = [spec.key for spec in episode_list(rollout, simulation)]
    if not keys:
        raise ValueError(f"nothing to evaluate: tasks {list(simulation.tasks)}, {rollout.episodes} episodes of each")
    identity = rollout_identity(policy.metadata, rollout, simulation)
    options = {
        "settings": settings.to_json(rollout, simulation),
        "out": out,
        "server_wait": 2,  # it listens before they start; once gone, it has gone with this process
    }
    with owned(out):
        episode_log.claim_folder(out, identity)
        if len(_scored(out, keys)) < len(keys):
            with PolicyServer(policy, host=host, port=port, batch_deadline_ms=batch_deadline_ms) as server:
                reachable = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
                options["server"] = f"ws://{joined(reachable.strip('[]'), server.port)}"
                count = max(1, min(workers, len(keys)))
                with WorkerPool(
                    worker_command, options, workers=count, out=out, keys=keys, episode_seconds=episode_seconds
                ) as crew:
                    crew.work()
        return _merge(out, keys, identity)


def _scored(out: Path, keys: Sequence[episode_log.Key]) -> list[dict]:
    """The wanted episodes that are recorded and say something about the policy."""
    episodes = episode_log.read_all_episodes(out)
    return [episodes[key] for key in keys if key in episodes and episodes[key]["success"] is not None]


def _merge(out: Path, keys: Sequence[episode_log.Key], identity: dict[str, Any]) -> dict[str, Any]:
    """Every worker's file into one, in the list's order, and the results of what was asked for."""
    recorded = episode_log.read_all_episodes(out)
    missing = [key for key in keys if key not in recorded]
    if missing:
        raise WorkerDiedError(
            f"{len(missing)} episodes are not recorded though every worker ended well: {missing[:3]} ..."
        )
    wanted = dict.fromkeys(keys)
    others = [episode for key, episode in recorded.items() if key not in wanted]  # of a longer list, asked for before
    episode_log.write_episodes(out / "episodes.jsonl", [*(recorded[key] for key in keys), *others])
    for path in [*out.glob("episodes-*.jsonl"), *out.glob("logs/*.alive"), out / "queue"]:
        path.unlink(missing_ok=True)
    results = summarize([recorded[key] for key in keys], identity)
    write_atomically(out / "results.json", json.dumps(results, indent=2, allow_nan=False) + "\n")
    return results
