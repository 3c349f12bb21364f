"""The worker's command in a process that cannot import the learner's packages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl.testing import flagsaver

from drifting_vla_jax.core import cli
from drifting_vla_jax.envs import registry
from drifting_vla_jax.rollout import worker as rollout_worker
from drifting_vla_jax.rollout.episode_log import read_episodes
from drifting_vla_jax.serve.server import PolicyServer
from drifting_vla_jax.wire import protocol

REPOSITORY = Path(__file__).parents[2]
FOREIGN = Path(__file__).parent / "foreign"


class OddPolicy:
    """Sends the hand to x = 1, which is right for odd seeds of the fake simulator."""

    batch_sizes = (1,)
    metadata = dict.fromkeys(protocol.METADATA_KEYS, 1) | {
        "cameras": ["top"],
        "image_size": 8,
        "state_dim": 2,
        "horizon": 4,
        "action_dim": 8,
        "prompts": [],
        "control_hz": 20.0,
    }

    def check(self, observation):
        protocol.check_observation(observation, self.metadata)

    def infer(self, observations):
        return np.tile(np.array([1, 0, 0, 0, 0, 0, 1, 1], np.float32), (len(observations), 4, 1))


def worker(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": f"{FOREIGN}{os.pathsep}{REPOSITORY}", **environment}
    command = [sys.executable, "-m", "drifting_vla_jax.rollout.worker", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def test_the_learners_packages_are_really_blocked():
    env = {**os.environ, "PYTHONPATH": f"{FOREIGN}{os.pathsep}{REPOSITORY}"}
    done = subprocess.run([sys.executable, "-c", "import jax"], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "jax is blocked in this process" in done.stderr


def test_help_explains_every_flag():
    done = worker("--help")
    assert done.returncode == 0
    for flag in ("server", "env", "tasks", "episodes", "seed", "out", "execute", "max_steps", "hold_steps", "videos"):
        assert f"--{flag}:" in done.stdout or f"--[no]{flag}:" in done.stdout
    assert "Exit code" in done.stdout and done.stderr == ""


@pytest.mark.slow
def test_episodes_run_without_the_learners_packages_and_resume(tmp_path):
    with PolicyServer(OddPolicy(), port=0, batch_deadline_ms=1, api_key="secret") as server:
        flags = [f"--server=ws://127.0.0.1:{server.port}", "--env=fake", "--tasks=reach", f"--out={tmp_path}"]
        flags += ["--episodes=4", "--seed=6", "--execute=3", "--max_steps=7", "--hold_steps=5", "--videos=1"]
        refused = worker(*flags)
        assert refused.returncode == 1 and "refuses the API key" in refused.stderr
        done = worker(*flags, DRIFTING_VLA_API_KEY="secret")
        assert done.returncode == 0, done.stderr
        lines = read_episodes(tmp_path / "episodes.jsonl")
        assert [(e["seed"], e["outcome"], e["steps"], len(e["infer_ms"])) for e in lines] == [
            (6, "time_limit", 7, 3),
            (7, "success", 5, 2),
            (8, "time_limit", 7, 3),
            (9, "success", 5, 2),
        ]
        assert [e["video"] for e in lines] == ["videos/reach-v0-s6.mp4", None, None, None]
        assert (tmp_path / "videos/reach-v0-s6.mp4").stat().st_size > 500
        answered = server.counts["answered"]
        assert answered == 10
        again = worker(*flags, DRIFTING_VLA_API_KEY="secret")
        assert again.returncode == 0 and server.counts["answered"] == answered
        assert read_episodes(tmp_path / "episodes.jsonl") == lines


@pytest.mark.slow
def test_the_way_of_executing_chunks_is_part_of_what_was_evaluated(tmp_path):
    """Asked at steps 0, 1, 3, 5: twice executed, one step ahead, one step late."""
    with PolicyServer(OddPolicy(), port=0, batch_deadline_ms=1) as server:
        flags = [f"--server=ws://127.0.0.1:{server.port}", "--env=fake", "--tasks=reach", f"--out={tmp_path}"]
        flags += ["--episodes=1", "--execute=2", "--max_steps=6", "--blend_steps=0", "--ensemble_decay=0.5"]
        done = worker(*flags, "--execution=async")
        assert done.returncode == 0, done.stderr
        (line,) = read_episodes(tmp_path / "episodes.jsonl")
        assert line["steps"] == 6 and len(line["infer_ms"]) == len(line["delay_steps"]) == 4
        settings = json.loads((tmp_path / "settings.json").read_text())
        assert (settings["execution"], settings["delay_steps"], settings["blend_steps"]) == ("async", 1, 0)
        assert "ensemble_decay" not in settings
        other = worker(*flags, "--execution=async", "--delay_steps=0")
        assert other.returncode == 2 and "delay_steps 1, this one has 0" in other.stderr


BASE = ("--server=ws://127.0.0.1:9", "--env=fake", "--tasks=reach", "--out=unused", "--server_wait=0")


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (BASE, 1, "no policy server answers at ws://127.0.0.1:9 "),
        ((*BASE, "--env=fakk"), 2, "unknown simulator 'fakk'"),
        ((*BASE, "--episods=3"), 2, "Unknown command line flag 'episods'. Did you mean: episodes"),
        (BASE[:1], 2, "--env is missing"),
    ],
)
def test_bad_input_is_one_line_and_a_code(tmp_path, monkeypatch, arguments, code, line):
    monkeypatch.chdir(tmp_path)
    done = worker(*arguments)
    assert done.returncode == code and line in done.stderr
    assert done.stderr.startswith("error: ") and len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--seed=-1"], "flag --seed=-1: "),
        (["--variations=a"], "--variations is 'a'"),
        (["--variations=9999999999"], "--variations is '9999999999'"),
        (["--variations=0,,1"], "--variations=0,,1 has an empty entry"),
        (["--hold_steps=0"], "flag --hold_steps=0: "),
        (["--ensemble_decay=nan"], "--ensemble_decay=nan: expected a finite number"),
        (["--out="], "--out is given, but empty"),
        (["--tasks=reach,a\x1b[2J"], "--tasks has the control character U+001B at character 1: 'a\\x1b[2J'"),
        (["--blend_steps=-1"], "flag --blend_steps=-1: "),
        (["extra"], "unexpected argument 'extra'"),
        (["--server=localhost:80"], "expected ws://HOST:PORT"),
    ],
)
def test_bad_flags_are_refused(monkeypatch, capsys, arguments, line):
    monkeypatch.setitem(registry.ENVIRONMENTS, "fake", registry.ENVIRONMENTS["dummy"])
    with flagsaver.flagsaver(), pytest.raises(SystemExit, match="2"):
        sys.exit(rollout_worker.main(cli.parse(["worker", *BASE, *arguments])))
    assert line in capsys.readouterr().err
