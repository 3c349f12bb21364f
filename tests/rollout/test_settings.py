"""The settings of an evaluation: one class, from which keys, flags and JSON are made."""

import dataclasses
import json
import sys

import pytest
from absl.testing import flagsaver

from configs import base
from drifting_vla_jax.core import cli
from drifting_vla_jax.core.settings import SettingsError, read
from drifting_vla_jax.rollout import settings, worker
from drifting_vla_jax.rollout.runner import rollout_identity
from drifting_vla_jax.rollout.settings import EvaluationSettings, RolloutSettings, Simulation
from tests.rollout.asked import asked

METADATA = {
    "horizon": 8,
    "frame_skip": 2,
    "checkpoint_step": 7,
    "config_hash": "abc",
    "objective": "drifting",
    "evaluations_per_chunk": 1,
}


def parsed(*arguments):
    with flagsaver.flagsaver():
        cli.parse(["worker", *arguments])
        return worker.settings_from_flags()


def test_config_eval_is_the_settings_and_nothing_else():
    whole = read(EvaluationSettings, base.get_config().eval, "config.eval")
    rollout = whole.rollout(delay_steps=3)
    assert type(rollout) is RolloutSettings and rollout.delay_steps == 3
    assert dataclasses.replace(whole, delay_steps=3).rollout(3) == rollout
    with pytest.raises(SettingsError, match="lead_steps 5 is more than the actions executed, config.eval.execute 4"):
        dataclasses.replace(whole, execution="async", lead_steps=5)


def test_a_worker_reads_back_what_an_evaluation_tells_it():
    now = asked("metaworld", ["door-open"], execute=3, demos="", options={"change": "light"}, variations=(0, 2))
    told = f"--settings={settings.to_json(**now)}"
    found = parsed("--server=ws://x:1", "--out=unused", told)
    assert {"rollout": found.rollout, "simulation": found.simulation} == now
    by_hand = parsed("--server=ws://x:1", "--out=unused", told, "--execute=5", "--change=words", "--tasks=a,b")
    assert by_hand.rollout == dataclasses.replace(now["rollout"], execute=5)
    assert (by_hand.simulation.tasks, by_hand.simulation.options) == (("a", "b"), {"change": "words"})


def test_settings_may_be_a_file_and_what_is_missing_is_as_by_default(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"simulation": {"env": "dummy", "tasks": ["reach-red"]}, "rollout": {"seed": 4}}))
    found = parsed("--server=ws://x:1", "--out=unused", f"--settings={path}")
    assert found.rollout == asked("dummy", ["reach-red"], seed=4)["rollout"] and found.simulation.env == "dummy"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "--settings is no JSON"),
        ('{"rollouts": {}}', '--settings: expected {"rollout": {...}, "simulation": {...}}'),
        ('{"rollout": {"execute": 0}}', "rollout.execute is 0; expected a whole number, at least 1"),
        ('{"rollout": {"exekute": 1}}', "rollout.exekute is no key; did you mean 'execute'"),
        ('{"simulation": {"frame_skip": "2"}}', "simulation.frame_skip is '2'; expected a whole number"),
    ],
)
def test_settings_that_cannot_be_are_one_line(capsys, text, line):
    arguments = ["--server=ws://x:1", "--out=unused", "--env=dummy", "--tasks=reach-red", f"--settings={text}"]
    with flagsaver.flagsaver(), pytest.raises(SystemExit, match="2"):
        sys.exit(worker.main(cli.parse(["worker", *arguments])))
    assert line in capsys.readouterr().err


def test_every_setting_of_a_rollout_is_a_flag_of_the_worker():
    names = {field.name for cls in (RolloutSettings, Simulation) for field in dataclasses.fields(cls)} - {"options"}
    assert names == set(worker._ROLLOUT) | set(worker._SIMULATION)


def test_an_evaluation_begun_before_these_settings_goes_on():
    """Its settings.json, as version 0.1 wrote it."""
    now = asked("metaworld", ["door-open"], seed=10**9, execute=4, max_steps=250, videos=1, execution="async")
    assert rollout_identity(METADATA, **now) == {
        **{"environment": "metaworld", "seed": 10**9, "execute": 4, "max_steps": 250, "hold_steps": 10},
        **{
            "history": 0,
            "history_stride": 1,
            "execution": "async",
            "lead_steps": 1,
            "delay_steps": 1,
            "blend_steps": 1,
        },
        **{"hold_last": False, "frame_skip": 2, "change": "none", "checkpoint_step": 7, "config_hash": "abc"},
        **{"objective": "drifting", "evaluations_per_chunk": 1, "num_samples": 1, "choose": "first"},
    }
    stored = rollout_identity(METADATA, **asked("rlbench", ["open_drawer"], demos="data", options={"headless": True}))
    assert (stored["control"], stored["demos"], "headless" in stored) == ("ik_then_plan", "data", False)
