"""From a policy to results.json: a real server, real worker processes, a simulator whose outcomes are known."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.core.folder_lock import InUseError, owned
from drifting_vla_jax.evaluate import evaluate as evaluation
from drifting_vla_jax.evaluate import worker_pool
from drifting_vla_jax.evaluate.worker_pool import WorkerDiedError
from drifting_vla_jax.rollout.episode_log import read_episodes
from drifting_vla_jax.wire import protocol
from tests.rollout.asked import evaluated

FOREIGN = Path(__file__).parents[1] / "rollout" / "foreign"  # a Python without the learner's packages, with "fake"


class ParityPolicy:
    """Sends the hand to x = the state's parity, as the fake simulator wants it; to x = 1 for seeds below ``blind``."""

    batch_sizes = (1, 2)
    metadata = dict.fromkeys(protocol.METADATA_KEYS, 1) | {
        "cameras": ["top", "side"],
        "image_size": 8,
        "state_dim": 2,
        "horizon": 4,
        "action_dim": 8,
        "prompts": ["reach 0"],
        "control_hz": 20.0,
        "objective": "drifting",
        "config_hash": "abc",
        "checkpoint_step": 800,
    }

    def __init__(self, blind: int = 0):
        self.blind = blind
        self.asked: list[str] = []

    def check(self, observation):
        protocol.check_observation(observation, self.metadata)

    def infer(self, observations):
        self.asked += [o["prompt"] for o in observations]
        actions = np.tile(np.array([0, 0, 0, 0, 0, 0, 1, 1], np.float32), (len(observations), 4, 1))
        for chunk, o in zip(actions, observations):
            seed = int(o["prompt"].split()[-1])
            chunk[:, 0] = 1 if seed < self.blind else o["state"][0]
        return actions


@pytest.fixture(autouse=True)
def foreign_python(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(FOREIGN))
    monkeypatch.setattr(worker_pool, "POLL_SECONDS", 0.05)


def run(policy, out, **changes) -> dict:
    settings = {"env": "fake", "tasks": ["reach", "break"], "episodes": 3, "workers": 2, "seed": 1}
    settings |= {"execute": 2, "max_steps": 6, "hold_steps": 4, **changes}
    return evaluated(policy, out, **settings)


def test_an_evaluation_in_a_folder_where_another_one_runs_is_refused(tmp_path):
    with owned(tmp_path), pytest.raises(InUseError, match="is in use by pid"):
        run(ParityPolicy(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_results_of_a_known_policy_and_a_second_call_that_runs_nothing(tmp_path):
    policy = ParityPolicy(blind=3)  # seeds 1, 2, 3: of these x = 1 is wrong for 2 alone
    results = run(policy, tmp_path, videos=1)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    for task in ("reach", "break"):
        row = results["tasks"][task]
        assert (row["n"], row["success_rate"], row["outcomes"]) == (3, 2 / 3, {"success": 2, "time_limit": 1})
    overall = results["overall"]
    assert (overall["n"], overall["success_rate"]) == (6, 2 / 3)
    assert (overall["low"], overall["high"]) == pytest.approx((0.3000, 0.9032), abs=1e-4)
    assert results["settings"]["hold_steps"] == 4 and results["checkpoint_step"] == 800
    assert 0 < results["infer_ms"]["p50"] < results["latency_ms"]["p50"] <= results["latency_ms"]["p95"]

    episodes = read_episodes(tmp_path / "episodes.jsonl")
    assert [(e["task"], e["seed"]) for e in episodes] == [(t, s) for t in ("reach", "break") for s in (1, 2, 3)]
    assert [e["steps"] for e in episodes] == [4, 6, 4] * 2
    assert {e["worker"] for e in episodes} <= {0, 1}
    videos = [e["video"] for e in episodes if e["video"]]
    assert videos == ["videos/reach-v0-s1.mp4", "videos/break-v0-s1.mp4"]
    assert all((tmp_path / video).stat().st_size > 500 for video in videos)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"episodes.jsonl", "results.json", "settings.json", "videos", "logs"}

    asked = len(policy.asked)
    assert run(policy, tmp_path) == results and len(policy.asked) == asked
    more = run(policy, tmp_path, episodes=4)  # four more: only they are run
    assert more["overall"]["n"] == 8 and {p for p in policy.asked[asked:]} == {"reach 0", "reach 4", "break 4"}
    fewer = run(policy, tmp_path, tasks=["reach"], episodes=2)
    assert fewer["overall"]["n"] == 2 and len(read_episodes(tmp_path / "episodes.jsonl")) == 8


@pytest.mark.slow
def test_an_episode_that_kills_its_simulator_is_given_up_and_the_next_call_tries_again(tmp_path, monkeypatch, caplog):
    trap = tmp_path / "trap"
    trap.touch()
    monkeypatch.setenv("FAKE_BREAK", str(trap))
    monkeypatch.setattr(worker_pool, "_FAILED", 9)
    policy = ParityPolicy()
    results = run(policy, tmp_path / "out", workers=1)
    assert "worker 0 ended with exit code 77" in caplog.text
    assert results["overall"]["n"] == 5 and results["overall"]["unscored"] == 1
    assert results["tasks"]["break"]["outcomes"] == {"env_crash": 1, "success": 2}
    trap.unlink()
    policy.asked.clear()
    assert run(policy, tmp_path / "out")["overall"]["success_rate"] == 1
    assert set(policy.asked) == {"reach 0", "break 3"}  # the server's warming, and what was missing


@pytest.mark.slow
def test_a_worker_that_keeps_failing_ends_the_evaluation_with_its_last_words(tmp_path, caplog):
    words = "print('error: no display'); raise SystemExit(1)"
    with pytest.raises(
        WorkerDiedError, match=r"worker 0 ended with exit code 1, saying last: no display; see .*log"
    ) as e:
        run(ParityPolicy(), tmp_path, workers=1, worker_command=[sys.executable, "-S", "-c", words])
    assert "\n" not in str(e.value) and "started again" in caplog.text
    assert not (tmp_path / "results.json").exists()


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(tmp_path, monkeypatch, caplog):
    trap = tmp_path / "hang"
    trap.touch()
    monkeypatch.setenv("FAKE_HANG", str(trap))
    results = run(ParityPolicy(), tmp_path / "out", workers=1, episode_seconds=3.0)
    assert "is at one episode for 3 s: killed" in caplog.text
    assert results["overall"]["success_rate"] == 1 and results["overall"]["n"] == 6


@pytest.mark.slow
def test_a_workers_bad_input_is_a_value_error_of_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"^unknown task 'raech' in fake; did you mean 'reach'\?$"):
        run(ParityPolicy(), tmp_path, tasks=["raech"])


@pytest.mark.slow
def test_what_only_one_simulator_takes_reaches_its_workers(tmp_path):
    with pytest.raises(ValueError, match=r"^fake has no option 'control'; its options: none$"):
        run(ParityPolicy(), tmp_path, options={"control": "plan"})


def test_bad_input_is_refused_before_anything_starts(tmp_path):
    with pytest.raises(ValueError, match="nothing to evaluate"):
        run(ParityPolicy(), tmp_path, tasks=[])
    with pytest.raises(ValueError, match="execute is 0"):
        run(ParityPolicy(), tmp_path, execute=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_another_checkpoint_does_not_continue_this_ones_folder(tmp_path):
    policy = ParityPolicy()
    run(policy, tmp_path, tasks=["reach"], episodes=1)
    policy.metadata = policy.metadata | {"checkpoint_step": 900}
    with pytest.raises(ValueError, match="checkpoint_step 800, this one has 900"):
        run(policy, tmp_path, tasks=["reach"], episodes=1)


@pytest.mark.slow
def test_no_worker_outlives_an_interrupted_evaluation(tmp_path, monkeypatch):
    """A stand-in for the worker sleeps, and Ctrl-C comes while it is watched."""
    note = tmp_path / "pid"
    sleeper = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    def interrupted(*_):
        while not (note.exists() and note.read_text()):
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(worker_pool.WorkerPool, "_look_after", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(ParityPolicy(), tmp_path / "out", workers=1, worker_command=[sys.executable, "-S", "-c", sleeper])
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


@pytest.mark.slow
def test_a_killed_evaluation_goes_on(tmp_path):
    """kill -9 of the whole process at some moment; the workers notice that the server is gone, and end."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import test_evaluate as t\n"
        "t.run(t.ParityPolicy(), Path(sys.argv[2]), tasks=['reach'], episodes=200, workers=1)"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(out)]
    root = str(Path(evaluation.__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": f"{FOREIGN}{os.pathsep}{root}"}
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while len(read_episodes(out / "episodes.jsonl")) < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = read_episodes(out / "episodes.jsonl")
    assert 20 <= len(before) < 200
    while "error: " not in (log := (out / "logs" / "worker-0.log").read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "error: connection to ws://127.0.0.1" in log and "Traceback" not in log
    results = run(ParityPolicy(), out, tasks=["reach"], episodes=200, workers=2)
    episodes = read_episodes(out / "episodes.jsonl")
    assert [e["seed"] for e in episodes] == list(range(1, 201)) and results["overall"]["successes"] == 200
    kept = {e["seed"]: e for e in before if e["success"]}
    assert {e["seed"]: e for e in episodes if e["seed"] in kept} == kept
