"""A worker's list: what is run, what is run again, what is skipped, and what is refused before anything runs."""

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from drifting_vla_jax.envs import base as envs
from drifting_vla_jax.envs import registry
from drifting_vla_jax.envs.info import EnvInfo
from drifting_vla_jax.rollout import episode_log, runner
from drifting_vla_jax.rollout.episode_claims import EpisodeQueue
from drifting_vla_jax.wire import protocol
from drifting_vla_jax.wire.client import ServerLostError, ServerUnreachableError
from tests.rollout.asked import worker_settings

METADATA = dict.fromkeys(protocol.METADATA_KEYS, 1) | {
    "cameras": ["top"],
    "horizon": 4,
    "control_hz": 20.0,
    "frame_skip": 3,
}
SPAWN = multiprocessing.get_context("spawn")
SEEN: list = []  # what the simulator and the client were asked for
TROUBLE: dict = {}  # (task, seed) -> exceptions to raise, one per attempt


class FakeEnv:
    """Every even seed succeeds at its second step."""

    info = EnvInfo("fake", tasks=("reach", "push"))
    control_hz = 20.0

    def __init__(self, cameras, image_size, frame_skip):
        SEEN.append(("make", cameras, frame_skip))

    def check_task(self, task):
        envs.check_task_name(task, self.info.tasks, "fake")

    def reset(self, task, variation, seed):
        SEEN.append(("reset", task, variation, seed))
        self.seed, self.steps = seed, 0
        if TROUBLE.get((task, seed)):
            raise TROUBLE[task, seed].pop(0)
        return envs.EnvObservation({}, np.zeros(2, np.float32)), f"please {task}"

    def step(self, action, render=True):
        self.steps += 1
        return envs.Step(envs.EnvObservation({}, np.zeros(2, np.float32)), self.seed % 2 == 0 and self.steps > 1, False)

    def project(self, camera, points):
        return np.full((len(points), 2), 0.5)

    def render(self, camera, size):
        return np.zeros((size, size, 3), np.uint8)

    def close(self):
        SEEN.append(("close",))


class FakeClient:
    """A server that is always there, unless ``absent``."""

    absent = False
    metadata = METADATA

    def __init__(self, uri, api_key, wait):
        SEEN.append(("connect", uri, api_key))
        if self.absent:
            raise ServerUnreachableError("no policy server answers")

    def infer(self, observation):
        return {"actions": np.zeros((4, 8), np.float32), "server_timing": {"infer_ms": 1.0}}

    def close(self):
        pass


@pytest.fixture(autouse=True)
def world(monkeypatch):
    monkeypatch.setitem(registry.ENVIRONMENTS, "fake", f"{__name__}:FakeEnv")
    monkeypatch.setattr(runner, "PolicyClient", FakeClient)
    monkeypatch.setattr(FakeClient, "absent", False)
    SEEN.clear()
    TROUBLE.clear()


def settings(out, **changes) -> runner.WorkerSettings:
    base = {"server": "ws://x:1", "env": "fake", "tasks": ("reach", "push"), "episodes": 2, "seed": 10, "out": out}
    return worker_settings(**{**base, "execute": 2, "max_steps": 6, "hold_steps": 2, **changes})


def resets() -> list[tuple]:
    return [entry[1:] for entry in SEEN if entry[0] == "reset"]


def outcomes(out) -> dict:
    return {(e["task"], e["seed"]): e["outcome"] for e in episode_log.read_all_episodes(out).values()}


def test_every_episode_leaves_a_line(tmp_path):
    assert runner.run(settings(tmp_path)) == 0
    assert resets() == [("reach", 0, 10), ("reach", 0, 11), ("push", 0, 10), ("push", 0, 11)]
    assert outcomes(tmp_path) == {
        ("reach", 10): "success",
        ("reach", 11): "time_limit",
        ("push", 10): "success",
        ("push", 11): "time_limit",
    }
    first = episode_log.read_episodes(tmp_path / "episodes.jsonl")[0]
    assert first["instruction"] == "please reach" and first["attempts"] == 1 and first["video"] is None
    assert SEEN[0] == ("connect", "ws://x:1", None) and SEEN[1] == ("make", ("top",), 3) and SEEN[-1] == ("close",)


def test_finished_episodes_are_skipped_and_a_longer_list_goes_on(tmp_path):
    runner.run(settings(tmp_path))
    before = (tmp_path / "episodes.jsonl").read_bytes()
    SEEN.clear()
    runner.run(settings(tmp_path))
    assert resets() == [] and (tmp_path / "episodes.jsonl").read_bytes() == before
    runner.run(settings(tmp_path, episodes=3))
    assert resets() == [("reach", 0, 12), ("push", 0, 12)]


def test_a_cut_off_episode_is_run_again(tmp_path):
    runner.run(settings(tmp_path))
    path = tmp_path / "episodes.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    SEEN.clear()
    runner.run(settings(tmp_path))
    assert resets() == [("push", 0, 11)] and len(episode_log.read_episodes(path)) == 4


def test_a_worker_leaves_to_others_what_they_have_and_waits_for_it(tmp_path, monkeypatch):
    """Another process has the second episode, and dies of it while this one waits."""
    other = Path(tmp_path, "queue"), 4
    holder = SPAWN.Process(target=hold_then_die, args=(*other, 1, tmp_path / "held", tmp_path / "seen"))
    holder.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    monkeypatch.setattr(runner.time, "sleep", lambda seconds: (tmp_path / "seen").touch() or holder.join())
    runner.run(settings(tmp_path, worker=3, variations=(0, 4)))
    assert resets() == [("reach", 0, 10), ("push", 0, 10), ("push", 4, 11), ("reach", 4, 11)]
    assert [p.name for p in tmp_path.glob("*.jsonl")] == ["episodes-3.jsonl"]
    SEEN.clear()
    runner.run(settings(tmp_path, variations=(0, 4)))  # another number knows what that one has done
    assert resets() == []


def hold_then_die(path, size, index, held, seen):
    with EpisodeQueue(path, size).claim(index):
        held.touch()
        while not seen.exists():
            time.sleep(0.01)
        os._exit(1)


def test_an_episode_that_took_three_processes_with_it_is_given_up_and_tried_by_the_next_start(tmp_path):
    (tmp_path / "queue").write_bytes(bytes([0, 3, 0, 0]))
    assert runner.run(settings(tmp_path)) == 1
    line = episode_log.read_episodes(tmp_path / "episodes.jsonl")[1]
    assert (line["outcome"], line["success"], line["attempts"]) == ("env_crash", None, 3)
    assert line["message"] == "3 processes ended while they ran it"
    assert runner.run(settings(tmp_path)) == 0


def test_ctrl_c_is_not_an_episodes_fault(tmp_path):
    TROUBLE["reach", 11] = [KeyboardInterrupt(), KeyboardInterrupt(), KeyboardInterrupt(), KeyboardInterrupt()]
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            runner.run(settings(tmp_path))
    assert runner.run(settings(tmp_path)) == 0


def test_a_crashed_simulator_is_made_again_and_the_episode_run_again(tmp_path):
    TROUBLE["reach", 10] = [envs.EnvCrashError("signal 11"), envs.EnvCrashError("signal 11")]
    assert runner.run(settings(tmp_path)) == 0
    line = episode_log.read_episodes(tmp_path / "episodes.jsonl")[0]
    assert line["outcome"] == "success" and line["attempts"] == 3
    assert [entry[0] for entry in SEEN[:8]] == ["connect", "make", "reset", "close", "make", "reset", "close", "make"]


def test_a_simulator_that_keeps_crashing_is_counted_apart_and_tried_by_the_next_start(tmp_path):
    TROUBLE["push", 11] = [envs.EnvCrashError("signal 11")] * 3
    assert runner.run(settings(tmp_path)) == 1
    line = episode_log.read_episodes(tmp_path / "episodes.jsonl")[-1]
    assert (line["outcome"], line["success"], line["attempts"]) == ("env_crash", None, 3)
    assert line["message"] == "EnvCrashError: signal 11" and line["latency_ms"] is None
    assert runner.run(settings(tmp_path)) == 0
    assert outcomes(tmp_path)["push", 11] == "time_limit"


def test_a_simulator_that_hung_is_made_again(tmp_path):
    TROUBLE["reach", 10] = [envs.EnvTimeoutError("silence")]
    runner.run(settings(tmp_path))
    assert outcomes(tmp_path)["reach", 10] == "timeout"
    assert len([entry for entry in SEEN if entry[0] == "make"]) == 2


def test_a_server_that_comes_back_costs_nothing(tmp_path):
    TROUBLE["reach", 11] = [ServerLostError("lost")]
    assert runner.run(settings(tmp_path)) == 0
    assert outcomes(tmp_path)["reach", 11] == "time_limit"
    assert len([entry for entry in SEEN if entry[0] == "connect"]) == 2


def test_a_server_that_stays_away_ends_the_worker_and_the_next_start_goes_on(tmp_path, monkeypatch):
    def lose(env, action, render=True):
        if env.seed == 11:
            FakeClient.absent = True
            raise ServerLostError("connection lost")
        return envs.Step(envs.EnvObservation({}, np.zeros(2, np.float32)), True, False)

    with monkeypatch.context() as patch:
        patch.setattr(FakeEnv, "step", lose)
        with pytest.raises(ConnectionError, match="connection lost"):
            runner.run(settings(tmp_path))
    assert outcomes(tmp_path) == {("reach", 10): "success", ("reach", 11): "server_lost"}
    FakeClient.absent = False
    SEEN.clear()
    assert runner.run(settings(tmp_path)) == 0
    assert resets() == [("reach", 0, 11), ("push", 0, 10), ("push", 0, 11)]


def test_another_policy_or_other_settings_are_not_mixed_in(tmp_path, monkeypatch):
    runner.run(settings(tmp_path))
    with pytest.raises(ValueError, match="hold_steps 2, this one has 3"):
        runner.run(settings(tmp_path, hold_steps=3))
    monkeypatch.setattr(FakeClient, "metadata", METADATA | {"checkpoint_step": 700})
    with pytest.raises(ValueError, match="checkpoint_step 1, this one has 700"):
        runner.run(settings(tmp_path))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"env": "fakk"}, "unknown simulator 'fakk'; did you mean 'fake'"),
        ({"tasks": ("reach", "pusch")}, "unknown task 'pusch' in fake; did you mean 'push'?"),
        ({"tasks": ("zzz",)}, "unknown task 'zzz' in fake; it knows push, reach"),
        ({"execute": 5}, "execute is 5; the policy's chunks have 4 actions"),
        ({"max_steps": 0}, "max_steps is 0; expected a whole number, at least 1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, changes, line):
    with pytest.raises(ValueError, match=line):
        runner.run(settings(tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_the_first_episodes_of_each_task_are_filmed(tmp_path):
    runner.run(settings(tmp_path, videos=1, video_size=64))
    lines = episode_log.read_episodes(tmp_path / "episodes.jsonl")
    assert [line["video"] for line in lines] == ["videos/reach-v0-s10.mp4", None, "videos/push-v0-s10.mp4", None]
    assert all((tmp_path / line["video"]).stat().st_size > 500 for line in lines if line["video"])
