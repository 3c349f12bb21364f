"""An evaluation on Meta-World, done twice by two workers each, is the same to the last digit, whoever asked when."""

import json

import jax
import numpy as np
import pytest

from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.evaluate.checkpoint import batch_sizes, evaluate_configured
from drifting_vla_jax.policy.restore import RestoredPolicy, make_policy
from drifting_vla_jax.train.checkpoint import Assets
from tests.small import random_params, small_config

TIMINGS = ("latency_ms", "round_trip_ms", "infer_ms", "seconds", "worker")


@pytest.mark.slow
def test_the_same_episodes_twice(tmp_path):
    config = small_config()
    config.env.name, config.env.tasks, config.env.cameras = "metaworld", ("drawer-open", "door-open"), ("top", "zoom")
    config.eval.episodes, config.eval.workers, config.eval.max_steps, config.eval.videos = 3, 2, 16, 0
    mean = np.tile([0, 0, -0.02, 0, 0, -1, 0, 1, 0, 0.5], (4, 1))  # downward: there are things to touch
    space = ActionNormalizer("relative", mean, np.full((4, 10), 0.03), np.full(4, 0.3), np.ones(4))
    names, scratch = ("x", "y", "z", "gripper"), {"vision": "scratch", "text": "scratch"}
    trained = RestoredPolicy(
        Assets(config, space, ("go",), 20.0, names, scratch), jax.device_put(random_params(config)), 1
    )
    assert batch_sizes(config) == (1,)
    policy, runs, heard = make_policy(trained, batch_sizes(config)), [], []
    infer = policy.infer

    def listen(observations):
        actions = infer(observations)
        heard[-1].append((observations[0]["state"].tobytes(), actions.tobytes()))
        return actions

    policy.infer = listen
    for name in ("once", "again"):
        heard.append([])
        evaluate_configured(policy, config, tmp_path / name)
        lines = [json.loads(line) for line in (tmp_path / name / "episodes.jsonl").read_text().splitlines()]
        runs.append([{key: value for key, value in line.items() if key not in TIMINGS} for line in lines])
    assert runs[0] == runs[1] and len(runs[0]) == 6
    assert sorted(heard[0]) == sorted(heard[1]) and len(set(heard[0])) > 40  # every state and answer on the way
