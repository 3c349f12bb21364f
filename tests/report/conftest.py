"""A made-up run, small enough to check every number by hand."""

import json

import pytest

from configs import base
from drifting_vla_jax.evaluate.statistics import summarize
from drifting_vla_jax.rollout import episode_log

RULES = {"environment": "dummy", "seed": 0, "execute": 2, "max_steps": 9, "hold_steps": 2}


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def episode(task, seed, success, **changes):
    return {
        "task": task,
        "variation": 0,
        "seed": seed,
        "success": success,
        "latched": success,
        "steps": 5,
        "outcome": "success" if success else "time_limit",
        "instruction": "reach the red ball",
        "round_trip_ms": [10.0, 20.0],
        "infer_ms": [4.0, 8.0],
        "seconds": 0.3,
        "video": "",
    } | changes


@pytest.fixture
def make_run(tmp_path):
    """make_run(name, **config changes) -> workdir of 4 of 4 steps, logged every second one, without an evaluation."""

    def make_run(name="mine", **changes):
        workdir = tmp_path / name
        workdir.mkdir()
        config = base.get_config()
        config.name = name
        config.env.tasks = ("reach", "push")
        config.train.steps, config.train.log_every, config.train.warmup_steps = 4, 2, 1
        config.update_from_flattened_dict(changes)
        (workdir / "config.json").write_text(config.to_json())
        speed = {"train/samples_per_second": 64.0}
        lines = [
            {"step": 2, "train/loss": 8.0, "train/step_ms": 3000.0, "train/input_wait_share": 0.1} | speed,
            {"step": 4, "train/loss": 4.0, "train/step_ms": 1000.0, "train/input_wait_share": 0.1} | speed,
            {"step": 4, "val/position_error_cm": 1.25},
        ]
        write_lines(workdir / "metrics.jsonl", lines)
        return workdir

    return make_run


@pytest.fixture
def evaluate():
    """evaluate(workdir, episodes, step) -> the folder of a finished evaluation."""

    def evaluate(workdir, episodes, step=4, name="", **rules):
        out = workdir / "eval" / (name or f"step{step}-seed0")
        identity = {
            "checkpoint_step": step,
            "config_hash": "0" * 12,
            "objective": "drifting",
            "evaluations_per_chunk": 1,
        }
        episode_log.claim_folder(out, RULES | rules | identity)
        episode_log.write_episodes(out / "episodes.jsonl", episodes)
        results = summarize(episodes, RULES | rules | identity)
        (out / "results.json").write_text(json.dumps(results))
        return out

    return evaluate


@pytest.fixture
def ten():
    """Six of ten reach episodes and ten of ten push episodes are solved."""
    return [episode("reach", seed, seed < 6) for seed in range(10)] + [
        episode("push", seed, True) for seed in range(10)
    ]
