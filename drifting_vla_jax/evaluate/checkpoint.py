"""Evaluations as a configuration asks for them; and, as a command, that of a checkpoint by the configuration it was trained with.

    python -m drifting_vla_jax.evaluate.checkpoint --workdir=runs/mine --step=2000 --episodes=10 --out=DIR

Training starts this command beside itself (``train.monitoring.evaluations``); ``main --mode=eval`` calls the functions.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from drifting_vla_jax.config.checks import ConfigError
from drifting_vla_jax.config.io import validate
from drifting_vla_jax.core import cli, ranges
from drifting_vla_jax.core.metadata import read_json
from drifting_vla_jax.core.settings import read
from drifting_vla_jax.envs import registry
from drifting_vla_jax.evaluate.evaluate import evaluate
from drifting_vla_jax.evaluate.table import format_results
from drifting_vla_jax.rollout import episode_log
from drifting_vla_jax.rollout.settings import EvaluationSettings, Simulation
from drifting_vla_jax.serve.server import Servable
from drifting_vla_jax.wire import protocol

FLAGS = flags.FLAGS
log = logging.getLogger(__name__)


def batch_sizes(config: ConfigDict) -> tuple[int, ...]:
    """What a policy is compiled for that is to be evaluated."""
    return (1,) if config.eval.repeatable else tuple(config.serve.batch_sizes)


def evaluate_configured(policy: Servable, config: ConfigDict, out: Path) -> dict[str, Any]:
    """``evaluate`` with the sections ``env``, ``eval`` and ``serve``."""
    check_film(config)
    asked = settings_of(config)
    return evaluate(
        policy,
        rollout=asked.rollout(delay_steps(policy, asked, out)),
        simulation=simulation(policy.metadata, config),
        out=out,
        workers=asked.workers,
        episode_seconds=asked.episode_seconds,
        batch_deadline_ms=config.serve.batch_deadline_ms,
    )


def settings_of(config: ConfigDict) -> EvaluationSettings:
    """The section ``eval``; raises SettingsError, a ValueError, if it cannot be meant."""
    return read(EvaluationSettings, config.eval, "config.eval")


def simulation(metadata: Mapping[str, Any], config: ConfigDict) -> Simulation:
    """The section ``env``, for a policy."""
    options = registry.read_options(config.env.name, config.env)
    return Simulation(config.env.name, tasks(metadata, config), options, metadata["frame_skip"], (0,))


def check_film(config: ConfigDict) -> None:
    """Raises ConfigError if videos are to be of a view that the simulator does not have."""
    camera, name = config.eval.video_camera, config.env.name
    there = registry.info(name).cameras
    if config.eval.videos and camera and camera not in there:
        raise ConfigError(
            f"config.eval.video_camera is {camera!r}; {name} has {', '.join(there)}, and '' is the policy's first view"
        )


def tasks(metadata: Mapping[str, Any], config: ConfigDict) -> tuple[str, ...]:
    """What is evaluated: of a policy that learned from several data sets, the tasks of the one that it acts for.

    Raises:
      ValueError: the configuration has none of them.
    """
    there = metadata.get("tasks", config.env.tasks)
    found = tuple(task for task in config.env.tasks if task in there)
    if not found:
        raise ValueError(
            f"config.env.tasks are {', '.join(config.env.tasks)}; of {metadata['dataset']}, which the policy acts "
            f"for, it knows {', '.join(there)}: choose another config.serve.dataset or name one of them"
        )
    return found


def delay_steps(policy: Servable, asked: EvaluationSettings, out: Path) -> int:
    """Control steps that an answer takes. In a world that does not wait, that is ``latency_ms``, rounded up.

    An evaluation in ``out`` that was begun with the delay measured then goes on with it.
    """
    if asked.execution != "async" or not asked.latency_ms:
        return asked.delay_steps
    if asked.latency_ms < 0 and episode_log.read_all_episodes(out):
        return read_json(out / "settings.json").integer("delay_steps")
    latency = asked.latency_ms if asked.latency_ms > 0 else float(np.percentile(call_times(policy), 95))
    delay, hz = math.ceil(latency / 1000 * policy.metadata["control_hz"]), policy.metadata["control_hz"]
    log.info("an answer takes %.1f ms: %d control steps of %g a second", latency, delay, hz)
    return delay


def call_times(policy: Servable) -> list[float]:
    """Milliseconds of each of 100 calls of the policy, one at a time, after a first that compiles; no network between."""
    observation, times = protocol.example_observation(policy.metadata), []
    policy.infer([observation])
    for _ in range(100):
        began = time.perf_counter()
        policy.infer([observation])
        times.append(1000 * (time.perf_counter() - began))
    return times


def folder(metadata: Mapping[str, Any], config: ConfigDict, workdir: Path) -> Path:
    """Where the evaluation of this policy lies in its run."""
    e, own = config.eval, registry.read_options(config.env.name, config.env)
    name = f"step{metadata['checkpoint_step']}-seed{e.seed}"
    if e.execution != "receding":
        name += f"-{e.execution}"
    if e.execution == "async" and e.latency_ms:
        name += f"-{e.latency_ms:g}ms" if e.latency_ms > 0 else "-measured"
    name += "".join(f"-{value}" for value in registry.changed_options(config.env.name, own).values())
    if "flow_steps" in metadata:
        name += f"-flow{metadata['flow_steps']}"
    if "dataset" in metadata:
        name += f"-{metadata['dataset']}"
    if e.record != "none":
        name += f"-{e.record}-recorded"
    return workdir / "eval" / name


def sweep(policy: Servable, config: ConfigDict, workdir: Path, execute: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Results for every number of actions executed of a chunk, each evaluation in a folder of its own.

    Raises:
      ConfigError: a chunk does not have that many.
    """
    results, chosen = {}, sorted(set(execute))
    for value in chosen:
        config.eval.execute = value
        validate(config)
    for value in chosen:
        config.eval.execute = value
        results[value] = evaluate_configured(policy, config, swept(folder(policy.metadata, config, workdir), value))
    return results


def swept(out: Path, execute: int) -> Path:
    """The folder of an evaluation beside ``out`` that executes another number of actions of a chunk."""
    return out.with_name(f"{out.name}-execute{execute}")


def main(_) -> None:
    from drifting_vla_jax.policy.restore import load, make_policy

    trained = load(FLAGS.workdir, FLAGS.step)
    config = trained.assets.config
    config.eval.episodes = FLAGS.episodes
    policy = make_policy(trained, batch_sizes(config), config.serve.text_cache)
    print(format_results(evaluate_configured(policy, config, Path(FLAGS.out))))


if __name__ == "__main__":
    cli.define_path("workdir", None, "directory of the run", required=True)
    flags.DEFINE_string("step", "latest", "which checkpoint, latest | best | a number")
    flags.DEFINE_integer("episodes", 10, "of every task", *ranges.COUNT.bounds)
    cli.define_path("out", None, "folder of the evaluation", writes="folder", required=True)
    cli.run(main)
