"""Recordings against a simulator that follows a script: what is done, what is counted, what is printed."""

import numpy as np
import pytest

from drifting_vla_jax.envs import base as envs
from drifting_vla_jax.envs import registry
from drifting_vla_jax.envs.info import EnvInfo
from drifting_vla_jax.envs.rlbench import demos as rlbench_demos
from drifting_vla_jax.rollout import demo_replay, episode_log, runner
from drifting_vla_jax.rollout.worker import main
from tests.rollout.asked import worker_settings

LENGTH = 6
MADE: list = []


class Table:
    """Solved where the target's x is 4 or more; stored episode 1's targets cannot be reached from x 3 on."""

    info = EnvInfo("table", tasks=("reach",), cameras=("front",), simulator_hz=20.0, stored=rlbench_demos)
    control_hz = 20.0

    def __init__(self, cameras, image_size, frame_skip, demos=""):
        MADE.append(self)
        self.actions = []

    def check_task(self, task):
        envs.check_task_name(task, self.info.tasks, "table")

    def reset(self, task, variation, seed):
        assert variation == 10 + seed
        self.seed = seed
        return envs.EnvObservation({}, np.zeros(2, np.float32)), "reach it"

    def step(self, action, render=True):
        self.actions.append(action)
        if self.seed == 1 and action[0] >= 3:
            raise envs.PathError("a wall")
        info = {"events": ("clipped", "still") if action[0] == 2 else ()}
        return envs.Step(envs.EnvObservation({}, np.zeros(2, np.float32)), bool(action[0] >= 4), False, info)

    def close(self):
        pass


@pytest.fixture(autouse=True)
def world(monkeypatch):
    def load(root, task, number):
        poses = np.zeros((LENGTH, 7))
        poses[:, 0], poses[:, 6] = np.arange(LENGTH), 1.0
        return rlbench_demos.StoredEpisode(root, 10 + number, (), (), None, poses, np.ones(LENGTH))

    monkeypatch.setitem(registry.ENVIRONMENTS, "table", f"{__name__}:Table")
    monkeypatch.setattr(rlbench_demos, "load", load)
    monkeypatch.setattr(rlbench_demos, "variation", lambda root, task, number: 10 + number)
    MADE.clear()


def settings(out, **changes) -> runner.WorkerSettings:
    base = {"server": "", "env": "table", "tasks": ("reach",), "episodes": 2, "seed": 0, "out": out, "execute": 8}
    base |= {"max_steps": 3, "hold_steps": 3, "demos": "stored"}
    return worker_settings(**base | changes)


def test_recorded_poses_are_repeated_and_the_last_one_is_held(tmp_path):
    assert runner.run(settings(tmp_path), demo_replay.Replayer) == 0
    assert [action[0] for action in MADE[0].actions[:7]] == [1, 2, 3, 4, 5, 5, 1]  # held for three: over; the next one
    lines = episode_log.read_episodes(tmp_path / "episodes.jsonl")
    assert [(e["seed"], e["variation"], e["outcome"], e["steps"]) for e in lines] == [
        (0, 10, "success", 6),
        (1, 11, "path", 2),
    ]
    assert lines[0]["events"] == {"clipped": 1, "still": 1}
    assert demo_replay.summary(settings(tmp_path)).splitlines() == [
        "replay of stored, success held for 3 control steps",
        "  reach                          1/2  1 path  (of 8 actions: 2 clipped, 2 still)",
    ]


def test_a_replay_wants_recordings(tmp_path, capsys):
    with pytest.raises(ValueError, match="a replay needs stored episodes: --demos=SPLIT"):
        runner.run(settings(tmp_path, demos=""), demo_replay.Replayer)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--replay"], "--demos is missing"),
        (["--demos=x", "--variations=1", "--server=ws://x:1"], "--variations and --demos exclude each other"),
    ],
)
def test_flags_that_exclude_each_other(tmp_path, capsys, arguments, said):
    from absl import flags
    from absl.testing import flagsaver

    with flagsaver.flagsaver():
        command = ["worker", "--env=table", "--tasks=reach", f"--out={tmp_path}", *arguments]
        assert main(flags.FLAGS(command)) == 2
    assert said in capsys.readouterr().err
