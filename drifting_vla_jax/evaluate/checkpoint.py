"""Evaluations as a configuration asks for them; and, as a command, that of a checkpoint by the configuration it was trained with.

    python -m drifting_vla_jax.evaluate.checkpoint --workdir=runs/mine --step=2000 --episodes=10 --out=DIR

Training starts this command beside itself (``train.rollouts``); ``main --mode=eval`` calls the functions.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from drifting_vla_jax import cli
from drifting_vla_jax.config import validate
from drifting_vla_jax.evaluate.evaluation import evaluate
from drifting_vla_jax.evaluate.table import format_results
from drifting_vla_jax.rollout.execution import Execution
from drifting_vla_jax.serve.server import Policy

FLAGS = flags.FLAGS
log = logging.getLogger(__name__)


def batch_sizes(config: ConfigDict) -> tuple[int, ...]:
    """What a policy is compiled for that is to be evaluated."""
    return (1,) if config.eval.repeatable else tuple(config.serve.batch_sizes)


def evaluate_configured(policy: Policy, config: ConfigDict, out: Path) -> dict[str, Any]:
    """``evaluate`` with the sections ``env``, ``eval`` and ``serve``."""
    e = config.eval
    return evaluate(
        policy,
        out=out,
        environment=config.env.name,
        tasks=tasks(policy, config),
        episodes_per_task=e.episodes,
        workers=e.workers,
        seed=e.seed,
        execute=e.execute,
        max_steps=e.max_steps,
        hold_steps=e.hold_steps,
        execution=execution(policy, config),
        frame_skip=policy.metadata["frame_skip"],
        env_options=env_options(config),
        episode_seconds=e.episode_seconds,
        videos=e.videos,
        video_camera=e.video_camera,
        record=e.record,
        batch_deadline_ms=config.serve.batch_deadline_ms,
    )


def tasks(policy: Policy, config: ConfigDict) -> tuple[str, ...]:
    """What is evaluated: of a policy that learned from several data sets, the tasks of the one that it acts for.

    Raises:
      ValueError: the configuration has none of them.
    """
    there = policy.metadata.get("tasks", config.env.tasks)
    found = tuple(task for task in config.env.tasks if task in there)
    if not found:
        raise ValueError(
            f"config.env.tasks are {', '.join(config.env.tasks)}; of {policy.metadata['dataset']}, which the policy acts "
            f"for, it knows {', '.join(there)}: choose another config.serve.dataset or name one of them"
        )
    return found


def execution(policy: Policy, config: ConfigDict) -> Execution:
    """How chunks are executed. In a world that does not wait, the delay is ``latency_ms`` in control steps, rounded up."""
    e, delay = config.eval, config.eval.delay_steps
    if e.execution == "async" and e.latency_ms:
        latency = e.latency_ms if e.latency_ms > 0 else measured_latency(policy)
        delay = math.ceil(latency / 1000 * policy.metadata["control_hz"])
        log.info(
            "an answer takes %.1f ms: %d control steps of %g a second", latency, delay, policy.metadata["control_hz"]
        )
    return Execution(e.execution, e.ensemble_decay, e.lead_steps, delay, e.blend_steps, e.hold_last)


def measured_latency(policy: Policy) -> float:
    """Milliseconds in which the policy has 95 of 100 answers ready, one at a time; without a network between."""
    m, times = policy.metadata, []
    steps = (1 + m["history"],) if m.get("history") else ()
    shape = (*steps, m["image_size"], m["image_size"], 3)
    observation = {
        "images": {camera: np.zeros(shape, np.uint8) for camera in m["cameras"]},
        "state": np.zeros(m["state_dim"], np.float32),
        "prompt": m["prompts"][0],
        "seed": 0,
    }
    for _ in range(100):
        began = time.perf_counter()
        policy.infer([observation])
        times.append(1000 * (time.perf_counter() - began))
    return float(np.percentile(times, 95))


def env_options(config: ConfigDict) -> dict[str, Any]:
    """What only this simulator takes."""
    if config.env.name == "rlbench":
        return {**config.env.rlbench, "demos": config.eval.demos}
    return dict(config.env.metaworld) if config.env.name == "metaworld" else {}


def folder(policy: Policy, config: ConfigDict, workdir: Path) -> Path:
    """Where the evaluation of this policy lies in its run."""
    e = config.eval
    name = f"step{policy.metadata['checkpoint_step']}-seed{e.seed}"
    if e.execution != "receding":
        name += f"-{e.execution}" + (f"-{e.latency_ms:g}ms" if e.execution == "async" and e.latency_ms else "")
    if config.env.name == "metaworld" and config.env.metaworld.change != "none":
        name += f"-{config.env.metaworld.change}"
    if e.record != "none":
        name += f"-{e.record}-recorded"
    if "dataset" in policy.metadata:
        name += f"-{policy.metadata['dataset']}"
    return workdir / "eval" / name


def sweep(policy: Policy, config: ConfigDict, workdir: Path, execute: Sequence[int]) -> dict[int, dict[str, Any]]:
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
        out = folder(policy, config, workdir)
        results[value] = evaluate_configured(policy, config, out.with_name(f"{out.name}-execute{value}"))
    return results


def main(_) -> None:
    from drifting_vla_jax.policy.restore import load, make_policy

    trained = load(FLAGS.workdir, FLAGS.step)
    config = trained.assets.config
    config.eval.episodes = FLAGS.episodes
    policy = make_policy(trained, batch_sizes(config), config.serve.text_cache)
    print(format_results(evaluate_configured(policy, config, Path(FLAGS.out))))


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "directory of the run", required=True)
    flags.DEFINE_string("step", "latest", "which checkpoint, latest | best | a number")
    flags.DEFINE_integer("episodes", 10, "of every task", lower_bound=1)
    flags.DEFINE_string("out", None, "folder of the evaluation", required=True)
    cli.run(main)
