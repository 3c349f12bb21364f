"""Checkpoints are evaluated beside the training, which does not wait for it."""

import sys
import time

import pytest

from drifting_vla_jax.train.monitoring import evaluations as rollouts
from tests.small import small_config

STAND_IN = """
import json, pathlib, sys, time
flags = dict(argument[2:].split("=") for argument in sys.argv[1:])
time.sleep({seconds})
out = pathlib.Path(flags["out"])
out.mkdir(parents=True)
overall, tasks = {{"success_rate": 0.5}}, {{"reach-red": {{"success_rate": 0.5}}, "reach-blue": {{"success_rate": None}}}}
results = {{"overall": overall, "tasks": tasks, "checkpoint_step": int(flags["step"])}}
(out / "results.json").write_text(json.dumps(results))
raise SystemExit({code})
"""


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """beside(seconds, code) -> rollouts every second step, by a stand-in for the evaluation."""

    def beside(seconds=0.0, code=0):
        monkeypatch.setattr(
            rollouts, "COMMAND", (sys.executable, "-S", "-c", STAND_IN.format(seconds=seconds, code=code))
        )
        config = small_config()
        config.train.rollout_every = 2
        return rollouts.BackgroundEvaluation(config, tmp_path)

    return beside


def found(rollout, within=10.0):
    deadline = time.monotonic() + within
    while not (metrics := rollout.finished().scalars) and time.monotonic() < deadline:
        time.sleep(0.02)
    return metrics


def test_a_checkpoint_is_evaluated_once_it_is_on_disk(beside, tmp_path):
    rollout = beside()
    rollout.saved(1, last=False)
    rollout.saved(2, last=False)
    assert rollout.finished() == rollouts.NOTHING and not (tmp_path / "eval").exists()
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    assert found(rollout) == {"sim/step": 2, "sim/success_rate": 0.5, "sim/success_rate/reach-red": 0.5}


def test_one_at_a_time_and_the_last_is_left_to_the_evaluation(beside, tmp_path, caplog):
    rollout = beside(seconds=60)
    for step in (2, 4, 6):
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
        rollout.saved(step, last=step == 6)
        assert rollout.finished() == rollouts.NOTHING
    assert caplog.messages == ["step 4 is not evaluated: the evaluation of step 2 still runs"]
    began = time.monotonic()
    rollout.stop()
    assert time.monotonic() - began < 5


def test_who_waits_at_the_end_can_be_interrupted(beside, tmp_path):
    rollout, asked = beside(seconds=60), iter([False, False, False, True])
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    rollout.saved(2, last=False)
    began = time.monotonic()
    assert rollout.close(lambda: next(asked)) == rollouts.NOTHING
    assert next(asked, None) is None and time.monotonic() - began < 10
    rollout.stop()


def test_one_that_fails_is_said_and_training_goes_on(beside, tmp_path, caplog):
    rollout = beside(code=1)
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    rollout.saved(2, last=False)
    rollout.finished()
    assert (
        rollout.close(lambda: False) == rollouts.NOTHING
        and "evaluation of step 2 ended with exit code 1; see" in caplog.text
    )
