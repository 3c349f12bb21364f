"""Episodes, stored starts, replays, the worker's process and an evaluation on RLBench's own code.

Run as test_rlbench_contract.py says.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.core.end_effector import make_state
from drifting_vla_jax.envs.rlbench import demos
from drifting_vla_jax.rollout import demo_replay, episode_log, runner
from drifting_vla_jax.rollout.episode import EpisodeSettings, EpisodeSpec, run_episode
from drifting_vla_jax.serve.server import PolicyServer
from drifting_vla_jax.wire import protocol
from tests.envs.rlbench_on_fake import PYREP, REPOSITORY, SIZE, TASK, action, command, skip_without_checkouts, target
from tests.rollout.asked import evaluated, worker_settings

skip_without_checkouts()
pytestmark = pytest.mark.filterwarnings("ignore:.*Overriding environment")  # gymnasium's, at a second import


# an episode


class Toward:
    """A policy that knows where the target is: goes there in steps of some centimetres, ``rest`` more of its chunk being
    targets that no arm can reach."""

    def __init__(self, env, h=8, rest=0):
        self.env, self.h, self.rest, self.asked = env, h, rest, 0

    def infer(self, observation):
        self.asked += 1
        here, there = observation["state"], target(self.env)
        shares = np.linspace(0, 1, self.h + 1)[1:]
        actions = [action(here[:3] + share * (there - here[:3]), command(here)[3:7]) for share in shares]
        actions += [action([np.nan] * 3)] * self.rest
        return {"actions": np.stack(actions), "server_timing": {"infer_ms": 1.0}}


def test_success_in_the_middle_of_a_chunk_ends_the_episode_and_drops_the_rest(make):
    env = make()
    result = run_episode(env, Toward(env, rest=4), EpisodeSpec(TASK, 3, 11, 0), EpisodeSettings(12, 40, 1))
    assert result.outcome == "success" and result.instruction == "reach the green target" and result.steps <= 8
    result = run_episode(env, Toward(env, rest=4), EpisodeSpec(TASK, 3, 11, 0), EpisodeSettings(12, 40, 9))
    assert result.outcome == "invalid_action" and result.latched  # asked to hold longer, the rest of the chunk counts


# stored episodes


def record(env, root: Path, count: int, variations, tree: str) -> list[np.ndarray]:
    """Demonstrations by RLBench's own scripted expert, in one of the two trees; returns where their targets were."""
    targets = []
    for number, variation in zip(range(count), variations):
        env.reset(TASK, variation, 100 + number)
        (demo,) = env._task[1].get_demos(1, live_demos=True)
        targets.append(target(env))
        if tree == "peract":
            folder = root / TASK / "all_variations" / "episodes" / f"episode{number}"
            folder.mkdir(parents=True)
            (folder / "variation_number.pkl").write_bytes(pickle.dumps(variation))
        else:
            folder = root / TASK / f"variation{variation}" / "episodes" / "episode0"
            folder.mkdir(parents=True)
        (folder / "low_dim_obs.pkl").write_bytes(pickle.dumps(demo))
    return targets


@pytest.fixture(params=["peract", "stepjam"])
def stored(request, make, tmp_path):
    env = make(cameras=())
    targets = record(env, tmp_path / "test", 2, (4, 11), request.param)
    env.close()
    return tmp_path / "test", targets


def test_an_episode_starts_as_the_stored_one_did(make, stored):
    root, targets = stored
    env = make(demos=str(root))
    assert [demos.variation(root, TASK, n) for n in (0, 1)] == [4, 11]
    for number in (1, 0, 1):
        state = env.reset(TASK, (4, 11)[number], number)[0].state
        recorded = demos.load(root, TASK, number)
        expected = make_state(recorded.gripper_pose[0], recorded.gripper_open[0])
        np.testing.assert_allclose(state, expected, atol=1e-6)  # what the data set has for this observation
        np.testing.assert_allclose(target(env), targets[number], atol=1e-6)
    with pytest.raises(ValueError, match="is of variation 4; variation 0 was asked for"):
        env.reset(TASK, 0, 0)
    with pytest.raises(ValueError, match=r"no stored episode 2 of reach_target .* it has 2, numbered 0 \.\. 1"):
        env.reset(TASK, 0, 2)


def test_recordings_are_replayed_and_counted(stored, tmp_path, fake):
    root, _ = stored
    settings = worker_settings(
        server="", env="rlbench", tasks=(TASK,), episodes=2, seed=0, out=tmp_path / "out", execute=8, max_steps=200,
        hold_steps=1, demos=str(root),
    )  # fmt: skip
    assert runner.run(settings, demo_replay.Replayer) == 0
    lines = episode_log.read_episodes(tmp_path / "out" / "episodes.jsonl")
    assert [(line["variation"], line["seed"], line["outcome"]) for line in lines] == [
        (4, 0, "success"),
        (11, 1, "success"),
    ]
    assert "reach_target                   2/2" in demo_replay.summary(settings)


def test_a_crash_is_run_again_and_not_scored(stored, tmp_path, fake):
    class Unlucky(demo_replay.Replayer):
        failures = 1

        def _run_once(self, spec, recording):
            fake.crashes, self.failures = self.failures > 0, self.failures - 1
            return super()._run_once(spec, recording)

    settings = worker_settings(
        server="", env="rlbench", tasks=(TASK,), episodes=1, seed=0, out=tmp_path / "out", execute=8, max_steps=200,
        hold_steps=1, demos=str(stored[0]),
    )  # fmt: skip
    assert runner.run(settings, Unlucky) == 0
    (line,) = episode_log.read_episodes(tmp_path / "out" / "episodes.jsonl")
    assert (line["attempts"], line["outcome"]) == (2, "success")


# the worker's process


def foreign_path() -> str:
    """A PYTHONPATH under which the learner's packages are blocked and RLBench is on the fake."""
    paths = [str(REPOSITORY / "tests" / "rollout" / "foreign"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return os.pathsep.join(filter(None, paths))


class Down:
    """Answers every observation with a way down, from where the state says the hand is."""

    batch_sizes = (1,)
    metadata = dict.fromkeys(protocol.METADATA_KEYS, 1) | {
        "cameras": ["front", "wrist"],
        "image_size": SIZE,
        "state_dim": 10,
        "horizon": 4,
        "action_dim": 8,
        "prompts": [],
        "control_hz": 20.0,
        "history": 0,
    }

    def __init__(self):
        self.seen = []

    def check(self, observation):
        protocol.check_observation(observation, self.metadata)

    def infer(self, observations):
        self.seen += observations
        states = [o["state"] for o in observations]
        here = [command(state) if state.any() else action(state[:3]) for state in states]  # zeros: the server warms up
        actions = np.repeat(np.stack(here)[:, None], 4, axis=1)
        actions[:, :, 2] -= [0.02, 0.04, 0.06, 0.08]
        return actions.astype(np.float32)


def test_the_workers_process_runs_it_against_a_live_server_without_the_learners_packages(checkout, tmp_path):
    where = os.pathsep.join([PYREP, str(checkout[0]), str(tmp_path)])
    env = {**os.environ, "PYTHONPATH": foreign_path(), "FAKE_COPPELIASIM": where, "DISPLAY": ":0"}
    policy = Down()
    with PolicyServer(policy, port=0, batch_deadline_ms=1) as server:
        command = [sys.executable, "-m", "drifting_vla_jax.rollout.worker", f"--server=ws://127.0.0.1:{server.port}"]
        command += ["--env=rlbench", f"--tasks={TASK}", "--episodes=2", "--variations=3,4", "--execute=4"]
        command += [
            "--max_steps=8",
            "--hold_steps=1",
            f"--out={tmp_path / 'out'}",
            "--control=ik_then_plan",
            "--videos=1",
        ]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
    lines = episode_log.read_episodes(tmp_path / "out" / "episodes.jsonl")
    assert [(e["variation"], e["instruction"]) for e in lines] == [
        (3, "reach the green target"),
        (4, "reach the blue target"),
    ]
    assert all(e["outcome"] in ("success", "time_limit") and 1 <= e["steps"] <= 8 for e in lines)
    assert (tmp_path / "out" / lines[0]["video"]).stat().st_size > 1000
    asked = [o for o in policy.seen if o["prompt"] == "reach the green target"]
    assert asked[0]["images"]["wrist"].shape == (SIZE, SIZE, 3) and asked[0]["images"]["front"].std() > 10


def test_an_evaluation_starts_at_the_stored_episodes(checkout, stored, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", foreign_path())
    monkeypatch.setenv("FAKE_COPPELIASIM", os.pathsep.join([PYREP, str(checkout[0]), str(tmp_path)]))
    options = {"control": "plan", "headless": True}
    results = evaluated(
        Down(), out=tmp_path / "out", env="rlbench", tasks=[TASK], episodes=2, workers=1, seed=0,
        execute=4, max_steps=2, hold_steps=1, options=options, demos=str(stored[0]),
    )  # fmt: skip
    assert results["overall"]["n"] == 2 and not results["overall"]["unscored"]
    lines = episode_log.read_episodes(tmp_path / "out" / "episodes.jsonl")
    assert [(e["variation"], e["seed"]) for e in lines] == [(4, 0), (11, 1)]
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (settings["control"], settings["demos"]) == ("plan", str(stored[0])) and "headless" not in settings
