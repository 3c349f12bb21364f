"""The suite: which evaluations there are of which run, in which folders; what is there is not run again."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from drifting_vla_jax.core import cli
from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.envs.metaworld.env import MetaWorld
from drifting_vla_jax.evaluate import checkpoint, suite
from drifting_vla_jax.evaluate.conditions import of_environment
from drifting_vla_jax.policy import restore
from drifting_vla_jax.policy.restore import RestoredPolicy, make_policy
from drifting_vla_jax.rollout import episode_log
from drifting_vla_jax.train.checkpoint import Assets
from tests.small import random_params, small_config


def trained(**changes):
    """Two tasks of the dummy simulator (or of Meta-World), chunks of 4 actions of which 2 are executed."""
    config = small_config()
    config.eval.update(workers=1, seed=5, max_steps=6, hold_steps=2, videos=0)
    config.update_from_flattened_dict(changes)
    space = ActionNormalizer("relative", np.zeros((4, 10)), np.full((4, 10), 0.03), np.zeros(4), np.ones(4))
    assets = Assets(config, space, ("go",), 20.0, ("x", "y", "z", "gripper"), {"vision": "scratch", "text": "scratch"})
    return RestoredPolicy(assets, jax.device_put(random_params(config)), 7)


FLOW = {"objective.name": "flow_matching", "env.name": "metaworld"}


def folders(of, tmp_path, **options):
    found = suite.jobs(of, tmp_path, (), 50, 20, **options)
    return {(job.condition.name, job.evaluations_per_chunk): job for job in found}


def test_a_one_step_policy_meets_every_condition_that_it_can(tmp_path):
    on_metaworld = folders(trained(**{"env.name": "metaworld"}), tmp_path)
    # it executes 2 actions anyway
    assert [name for name, _ in on_metaworld] == [
        c.name for c in of_environment(MetaWorld.info) if c.name != "execute2"
    ]
    assert {n for _, n in on_metaworld} == {1}
    assert {name for name, _ in folders(trained(), tmp_path)} == {
        *("plain", "execute1", "execute4", "late-50ms", "late-200ms", "late-each", "late-measured")
    }


def test_every_evaluation_has_its_folder_and_its_number_of_episodes(tmp_path):
    found = folders(trained(**FLOW), tmp_path, videos=3)
    names = {key: job.out.name for key, job in found.items()}
    assert names["plain", 10] == "step7-seed5" and names["words", 10] == "step7-seed5-words"
    assert names["plain", 1] == "step7-seed5-flow1" and names["plain", 2] == "step7-seed5-flow2"
    assert names["execute1", 10] == "step7-seed5-execute1"
    assert names["late-measured", 2] == "step7-seed5-async-measured-flow2"
    # 20 ms for each of 10 evaluations is 200 ms: one evaluation serves both conditions
    assert names["late-each", 10] == names["late-200ms", 10] == "step7-seed5-async-200ms"
    assert len(set(names.values())) == len(names) - 1 == 16
    assert found["plain", 1].progress() == (0, 100) and found["words", 10].progress() == (0, 40)
    assert (found["plain", 2].config.eval.videos, found["late-each", 2].config.eval.videos) == (3, 0)


def test_fewer_euler_steps_are_another_answer_of_the_same_checkpoint():
    flow = trained(**FLOW)
    few = RestoredPolicy(flow.assets, flow.params, 7, sampling_steps=2)
    told, as_trained = few.metadata(), flow.metadata()
    assert (told["evaluations_per_chunk"], told["flow_steps"]) == (2, 2)
    assert as_trained["evaluations_per_chunk"] == 10 and "flow_steps" not in as_trained
    assert told["config_hash"] == as_trained["config_hash"]
    assert few.assets.config.objective.flow_matching.steps == 10
    seen = {
        "images": {name: np.zeros((16, 16, 3), np.uint8) for name in ("front", "side")},
        "state": np.zeros(4, np.float32),
        "prompt": "go",
        "seed": 1,
    }
    answers = [make_policy(of).infer([seen]) for of in (flow, few)]
    assert np.abs(answers[0] - answers[1]).max() > 1e-5
    with pytest.raises(ValueError, match="2 sampling steps are asked for, but .* answers in 1 network evaluation"):
        RestoredPolicy(trained().assets, {}, 7, sampling_steps=2)


def test_parameters_are_counted_with_and_without_the_frozen_ones():
    every = trained().parameters()
    some = trained(**{"train.freeze": ("text",)}).parameters()
    assert every["all"] == every["trained"] == some["all"] > some["trained"] > 0


def test_the_command_runs_what_is_missing_and_goes_on(monkeypatch, tmp_path, capsys):
    """Two runs, two conditions; an evaluation that is complete is left alone, the plain ones of all runs come first."""
    by_run = {"a": trained(), "b": trained(**{"objective.name": "regression"})}
    monkeypatch.setattr(restore, "load", lambda workdir, step: by_run[workdir.name])
    monkeypatch.setattr(suite, "_call_ms", lambda planned, known: {"1": {"p50": 3.0, "p95": 4.0}})
    ran = []

    def evaluated(policy, config, out):
        ran.append(f"{out.parts[-3]} {out.name} {config.eval.episodes}")
        lines = [
            {"task": task, "variation": 0, "seed": 5 + i, "success": True}
            for task in config.env.tasks
            for i in range(config.eval.episodes)
        ]
        episode_log.claim_folder(out, {})
        episode_log.write_episodes(out / "episodes.jsonl", lines)
        (out / "results.json").write_text("{}")

    monkeypatch.setattr(checkpoint, "evaluate_configured", evaluated)
    flags = {"runs": [str(tmp_path / name) for name in by_run], "conditions": ["execute4", "plain"], "step": "latest"}
    flags |= {"episodes": 3, "fewer": 2, "videos": 0, "workers": 0, "calls": False, "dry_run": False}
    monkeypatch.setattr(suite, "FLAGS", SimpleNamespace(**(flags | {"dry_run": True})))
    for name in by_run:
        (tmp_path / name).mkdir()
    suite.main([])
    assert ran == [] and not (tmp_path / "a" / "eval").exists()
    monkeypatch.setattr(suite, "FLAGS", SimpleNamespace(**flags))
    suite.main([])
    plain, other = ("step7-seed5 3", "step7-seed5-execute4 2")
    assert ran == [f"a {plain}", f"b {plain}", f"a {other}", f"b {other}"]
    assert "  4 of 4  " in capsys.readouterr().out
    about = json.loads((tmp_path / "b" / "eval" / "suite-step7.json").read_text())
    assert about["objective"] == "regression" and about["call_ms"] == {"1": {"p50": 3.0, "p95": 4.0}}
    assert [row["folder"] for row in about["evaluations"]] == ["step7-seed5", "step7-seed5-execute4"]
    (tmp_path / "a" / "eval" / "step7-seed5" / "results.json").unlink()
    suite.main([])
    assert ran[4:] == [f"a {plain}"]
    monkeypatch.setattr(suite, "FLAGS", SimpleNamespace(**(flags | {"conditions": ["wrods"]})))
    with pytest.raises(ValueError, match=r"unknown condition wrods; expected some of plain, execute1"):
        suite.main([])
    assert cli.USER_ERRORS[0] is ValueError


@pytest.mark.slow
def test_a_late_policy_of_fewer_steps_acts_in_a_simulator(tmp_path):
    """The dummy simulator, two Euler steps, measured latency: an ordinary evaluation, complete after one call."""
    flow = trained(**(FLOW | {"env.name": "dummy"}))
    jobs = suite.jobs(flow, tmp_path, ["late-measured"], 1, 1)
    job = next(job for job in jobs if job.evaluations_per_chunk == 2)
    job.run()
    assert job.progress() == (2, 2)
    settings = json.loads((job.out / "settings.json").read_text())
    assert (settings["execution"], settings["evaluations_per_chunk"], settings["hold_last"]) == ("async", 2, True)
    job.run()


def test_a_run_that_was_trained_again_is_not_taken_for_evaluated(monkeypatch, tmp_path):
    """To the same step by the same configuration; what is there is another policy's, and is said before anything runs."""
    first, again = (dataclasses.replace(trained(), weights=name) for name in ("1", "2"))
    monkeypatch.setattr(suite, "_call_ms", lambda planned, known: known or {"1": first.weights})
    (job,) = suite.jobs(first, tmp_path, ["plain"], 1, 1)
    episode_log.claim_folder(job.out, first.metadata())
    episode_log.write_episodes(
        job.out / "episodes.jsonl",
        [{"task": task, "variation": 0, "seed": 5, "success": True} for task in first.assets.config.env.tasks],
    )
    assert job.progress() == (2, 2)
    told = json.loads(suite.record(tmp_path, first, [job]).read_text())
    assert told["weights"] == "1"
    (job,) = suite.jobs(again, tmp_path, ["plain"], 1, 1)
    with pytest.raises(ValueError, match="holds an evaluation with weights '1', this one has '2'"):
        job.progress()
    told = json.loads(suite.record(tmp_path, dataclasses.replace(again, weights="3"), []).read_text())
    assert told["weights"] == "3" and told["evaluations"] == []
