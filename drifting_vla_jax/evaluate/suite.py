"""Command line: every condition of ``conditions.py`` for several runs, each as an ordinary evaluation.

    python -m drifting_vla_jax.evaluate.suite --runs=runs/mt10,runs/mt10-flow,runs/mt10-regression \
        [--conditions=plain,words] [--episodes=50] [--fewer=20] [--videos=3] [--dry_run]

An evaluation lies in a folder of its own, RUN/eval/step<N>-seed<S>-..., as ``main --mode=eval`` would have it, and what is
there is not run again: stopped and started again the same command goes on. All runs' plain evaluations come first.

    RUN/eval/suite-step<N>.json    {"checkpoint_step", "weights", "objective", "parameters": {"all", "trained"},
                                    "call_ms": {network evaluations per chunk: {"p50", "p95"}},
                                    "evaluations": [{"condition", "evaluations_per_chunk", "folder"}, ...]}
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from drifting_vla_jax.config.io import validate
from drifting_vla_jax.core import cli, ranges
from drifting_vla_jax.core.files import write_atomically
from drifting_vla_jax.core.folder_lock import owned
from drifting_vla_jax.core.metadata import read_dict
from drifting_vla_jax.envs import registry
from drifting_vla_jax.evaluate import checkpoint
from drifting_vla_jax.evaluate.conditions import PLAIN, SAMPLING_STEPS, Condition, of_environment
from drifting_vla_jax.rollout import episode_log
from drifting_vla_jax.rollout.runner import episode_list

if TYPE_CHECKING:
    from drifting_vla_jax.policy.restore import RestoredPolicy

FLAGS = flags.FLAGS
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One evaluation of one run.

    Attributes:
      trained: the weights, with the Euler steps to act with.
      config: the checkpoint's, with the condition's changes.
      out: its folder.
    """

    condition: Condition
    trained: RestoredPolicy
    config: ConfigDict
    out: Path

    @property
    def evaluations_per_chunk(self) -> int:
        return self.trained.metadata()["evaluations_per_chunk"]

    def progress(self) -> tuple[int, int]:
        """Episodes that are there and say something, and how many there are to be.

        Raises:
          ValueError: those there are another policy's: the run was trained again.
        """
        metadata = self.trained.metadata()
        episode_log.check_same(
            self.out, {name: metadata[name] for name in (*episode_log.WHOSE, *episode_log.LATER) if name in metadata}
        )
        there = episode_log.read_all_episodes(self.out)
        specs = episode_list(checkpoint.settings_of(self.config), checkpoint.simulation(metadata, self.config))
        return sum(there.get(spec.key, {}).get("success") is not None for spec in specs), len(specs)

    def run(self) -> None:
        """Runs what is missing."""
        from drifting_vla_jax.policy.restore import make_policy

        policy = make_policy(self.trained, checkpoint.batch_sizes(self.config), self.config.serve.text_cache)
        checkpoint.evaluate_configured(policy, self.config, self.out)


def jobs(
    trained: RestoredPolicy, workdir: Path, names: Sequence[str], episodes: int, fewer: int, **changes: Any
) -> Iterator[Job]:
    """What there is to evaluate of a run, in the table's order.

    Left out is what its simulator or its chunks do not have, and the number of actions that it executes anyway.

    Args:
      names: of conditions; none: all that its simulator has.
      episodes, fewer: of each task, of conditions that are ``whole`` and of the others.
      changes: of the section ``eval``, for all.
    """
    for condition in conditions_of(trained):
        if names and condition.name not in names:
            continue
        for steps in (0, *SAMPLING_STEPS) if condition.stepwise and trained.objective.adjustable_steps else (0,):
            if steps == trained.objective.evaluations_per_chunk:
                continue
            acting = dataclasses.replace(trained, sampling_steps=steps)
            config = trained.assets.config.copy_and_resolve_references()
            if not _applies(condition, config):
                continue
            config.eval.update({"episodes": episodes if condition.whole else fewer, **changes})
            if condition.name != PLAIN:
                config.eval.videos = 0
            metadata = acting.metadata()
            config.update_from_flattened_dict(condition.overrides(metadata["evaluations_per_chunk"]))
            if condition.options:
                config.env[registry.section(config.env.name)].update(condition.options)
            validate(config)
            out = checkpoint.folder(metadata, config, workdir)
            if "eval.execute" in condition.changes:
                out = checkpoint.swept(out, config.eval.execute)
            yield Job(condition, acting, config, out)


def conditions_of(trained: RestoredPolicy) -> tuple[Condition, ...]:
    """In which a run can be evaluated: those of its simulator."""
    return of_environment(registry.info(trained.assets.config.env.name))


def _applies(condition: Condition, config: ConfigDict) -> bool:
    execute = condition.changes.get("eval.execute", 0)
    return execute != config.eval.execute and execute <= config.action.horizon


def record(workdir: Path, trained: RestoredPolicy, planned: Sequence[Job], again: bool = False) -> Path:
    """Writes what the page needs to know of a run's evaluations beyond their folders; calls are timed once, or ``again``."""
    path = workdir / "eval" / f"suite-step{trained.step}.json"
    before = read_dict(path, {}) if path.is_file() else {}
    if before.get("weights", trained.weights) != trained.weights:
        before = {}  # another training's, to the same step
    rows = [
        {
            "condition": job.condition.name,
            "evaluations_per_chunk": job.evaluations_per_chunk,
            "folder": job.out.name,
        }
        for job in planned
    ]
    about = {
        "checkpoint_step": trained.step,
        "weights": trained.weights,
        "objective": trained.metadata()["objective"],
        "parameters": trained.parameters(),
        "call_ms": _call_ms(planned, {} if again else before.get("call_ms", {})),
        "evaluations": [*rows, *(row for row in before.get("evaluations", []) if row not in rows)],
    }
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, json.dumps(about, indent=2) + "\n")
    return path


def _call_ms(planned: Sequence[Job], known: dict[str, Any]) -> dict[str, Any]:
    """Of each number of network evaluations: the time of a call with no simulator running, in ms."""
    from drifting_vla_jax.policy.restore import make_policy

    found = dict(known)
    for job in planned:
        evaluations = str(job.evaluations_per_chunk)
        if evaluations not in found:
            times = checkpoint.call_times(make_policy(job.trained))
            found[evaluations] = {f"p{cut}": round(float(np.percentile(times, cut)), 3) for cut in (50, 95)}
    return found


def main(_) -> None:
    from drifting_vla_jax.policy.restore import load

    runs = {Path(name): load(Path(name), FLAGS.step) for name in FLAGS.runs}
    order = list(dict.fromkeys(condition.name for trained in runs.values() for condition in conditions_of(trained)))
    unknown = sorted(set(FLAGS.conditions) - set(order))
    if unknown:
        raise ValueError(f"unknown condition {', '.join(unknown)}; expected some of {', '.join(order)}")
    changes = {"videos": FLAGS.videos} | ({"workers": FLAGS.workers} if FLAGS.workers else {})
    planned = []
    for workdir, trained in runs.items():
        of_run = list(jobs(trained, workdir, FLAGS.conditions, FLAGS.episodes, FLAGS.fewer, **changes))
        planned += of_run
        if not FLAGS.dry_run:
            with owned(workdir / "eval", f"suite-step{trained.step}.json"):
                record(workdir, trained, of_run, FLAGS.calls)
    planned.sort(key=lambda job: order.index(job.condition.name))
    for number, job in enumerate(planned, 1):
        done, wanted = job.progress()
        print(f"{number:3} of {len(planned)}  {job.out}: {done} of {wanted} episodes are there", flush=True)
        if not FLAGS.dry_run and (done < wanted or not (job.out / "results.json").is_file()):
            job.run()
    print(f"the page of all: python -m drifting_vla_jax.report.results.page --runs={','.join(FLAGS.runs)} --out=DIR")


if __name__ == "__main__":
    cli.define_paths("runs", None, "directories of runs", required=True)
    flags.DEFINE_list("conditions", [], "names of conditions; all that a run's simulator has if not given")
    flags.DEFINE_string("step", "latest", "which checkpoint of each, latest | best | a number")
    flags.DEFINE_integer("episodes", 50, "of every task, in the plain evaluation", *ranges.COUNT.bounds)
    flags.DEFINE_integer("fewer", 20, "of every task, in the others", *ranges.COUNT.bounds)
    flags.DEFINE_integer(
        "videos", 3, "episodes of every task that are filmed, in the plain evaluation", *ranges.SEVERAL.bounds
    )
    flags.DEFINE_integer("workers", 0, "simulator processes; 0: as configured", 0, ranges.PROCESSES.high)
    flags.DEFINE_bool("calls", False, "time the policies' calls again: the machine was busy when they were")
    flags.DEFINE_bool("dry_run", False, "say what there is and what is missing, and run nothing")
    cli.run(main)
