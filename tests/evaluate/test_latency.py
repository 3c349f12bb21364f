"""A world that does not wait: how long an answer takes becomes the control steps after which it is used."""

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from drifting_vla_jax.evaluate import checkpoint
from drifting_vla_jax.rollout import episode_log
from tests.rollout.asked import executing
from tests.small import small_config


class Thinking:
    """A policy that takes its time over an answer."""

    def __init__(self, seconds):
        self.metadata = {"control_hz": 20.0, "cameras": ["front"], "image_size": 8, "state_dim": 4, "prompts": ["go"]}
        self.seconds, self.seen = seconds, []

    def infer(self, observations):
        self.seen.append(observations)
        time.sleep(self.seconds)


def config(**changes):
    config = small_config()
    config.eval.update(execution="async", **changes)
    return config


def asked(**changes):
    return checkpoint.settings_of(config(**changes))


@pytest.mark.parametrize(("latency", "steps"), [(0.0, 1), (1.0, 1), (50.0, 1), (50.1, 2), (170.0, 4)])
def test_a_latency_is_rounded_up_to_control_steps(latency, steps):
    """At 20 Hz a step is 50 ms; without a latency it is what delay_steps says."""
    policy = SimpleNamespace(metadata={"control_hz": 20.0})
    assert checkpoint.delay_steps(policy, asked(latency_ms=latency), Path("nothing here")) == steps


def test_below_zero_the_policy_itself_is_timed():
    policy = Thinking(0.002)
    assert checkpoint.delay_steps(policy, asked(latency_ms=-1.0), Path("nothing here")) == 1
    times = checkpoint.call_times(policy)
    assert len(times) == 100 and min(times) >= 2
    (observation,) = policy.seen[0]
    assert observation["images"]["front"].shape == (8, 8, 3) and observation["prompt"] == "go"
    assert observation["state"].dtype == np.float32 and observation["state"].shape == (4,)


def test_an_evaluation_goes_on_with_the_delay_measured_when_it_began(tmp_path):
    """Else a busier machine would make the second half of its episodes other ones, and the folder would be refused."""
    episode_log.claim_folder(tmp_path, {"delay_steps": 7})
    episode_log.write_episodes(
        tmp_path / "episodes.jsonl", [{"task": "go", "variation": 0, "seed": 0, "success": True}]
    )
    policy = Thinking(0.0)
    assert checkpoint.delay_steps(policy, asked(latency_ms=-1.0), tmp_path) == 7 and not policy.seen
    assert checkpoint.delay_steps(policy, asked(latency_ms=50.0), tmp_path) == 1


def test_each_latency_has_a_folder_of_its_own(tmp_path):
    metadata = {"checkpoint_step": 3}
    names = [checkpoint.folder(metadata, config(latency_ms=ms), tmp_path).name for ms in (0.0, 170.0, -1.0)]
    assert [name.rpartition("-")[2] for name in names] == ["async", "170ms", "measured"]


def test_an_answer_later_than_the_plan_is_refused_unless_the_last_target_is_held():
    with pytest.raises(ValueError, match=r"used up to action 8.*chunks have 4. hold_last lets"):
        executing("async", delay_steps=3).check(execute=2, horizon=4)
    executing("async", delay_steps=3, hold_last=True).check(execute=2, horizon=4)
