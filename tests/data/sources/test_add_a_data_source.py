"""The how-to page "Add a data source": its code, as a file outside the package, from recordings to an evaluated policy."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.envs.registry import make
from drifting_vla_jax.evaluate.checkpoint import batch_sizes, evaluate_configured
from drifting_vla_jax.policy.restore import restore
from drifting_vla_jax.train import loop
from tests.small import SIZE, small_config

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "how-to" / "add-a-data-source.md"


def record(path: Path, seed: int) -> None:
    """A straight way to the red ball, 12 steps, as the page's files have it."""
    env = make("dummy", cameras=("front",), image_size=SIZE, frame_skip=2)
    observation, instruction = env.reset("reach-red", 0, seed)
    goal = observation.state[:3] + np.random.default_rng(seed).uniform(0.05, 0.1, 3)
    images, poses = [], []
    for _ in range(12):
        images.append(observation.images["front"])
        poses.append([*observation.state[:3], 0, 0, 0, 1, 1])
        observation = env.step(np.float32([*goal, 0, 0, 0, 1, 1])).observation
    np.savez(path, front=images, pose=np.float32(poses), task="reach-red", instruction=instruction)


def build(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "drifting_vla_jax.data.build", "--source=my_lab.my_file:MySource", *arguments]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_the_source_of_the_page(tmp_path):
    (tmp_path / "my_lab").mkdir()
    code = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.S)[1]
    (tmp_path / "my_lab" / "my_file.py").write_text(code)
    (tmp_path / "recordings").mkdir()
    for seed in range(4):
        record(tmp_path / "recordings" / f"{seed}.npz", seed)

    assert "--hz: rows per second" in build(tmp_path, "--help").stdout
    missing = build(tmp_path, "--out=set")
    assert missing.returncode == 1 and "--source=my_lab.my_file:MySource needs --input=DIR" in missing.stderr
    done = build(tmp_path, "--input=recordings", "--val_fraction=0.25", "--out=set")
    assert done.returncode == 0 and done.stdout.endswith("4 files\n44 steps in set/demonstrations/1.0.0\n")
    again = build(tmp_path, "--input=recordings", "--val_fraction=0.25", "--out=set")
    assert again.returncode == 0 and again.stdout.startswith("4 files\n44 steps"), again.stderr
    other = build(tmp_path, "--input=recordings", "--val_fraction=0.25", "--hz=10", "--out=set")
    assert other.returncode == 1 and "made with other settings (hz 20.0 -> 10.0)" in other.stderr

    data = DataSet(tmp_path / "set", ("front",))
    assert (len(data.split("train")), len(data.split("val"))) == (33, 11)
    config = small_config()
    config.data.path, config.env.tasks, config.env.cameras = str(tmp_path / "set"), ("reach-red",), ("front",)
    config.train.steps = config.train.eval_every = config.train.save_every = 2
    config.train.warmup_steps = 1
    config.eval.episodes, config.eval.max_steps, config.eval.workers, config.eval.videos = 1, 10, 1, 0
    loop.train(config, tmp_path / "run", jax.devices()[:1])
    policy = restore(tmp_path / "run", batch_sizes=batch_sizes(config))
    results = evaluate_configured(policy, config, tmp_path / "eval")
    assert results["overall"]["n"] == 1 and results["overall"]["unscored"] == 0
