"""The training command as a process: told to stop it exits 0, killed at any moment it goes on where it was."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.checkpoint import Checkpoints
from tests.small import small_config

REPOSITORY = Path(__file__).parents[2]

CONFIG = """
from tests.small import small_config

def get_config():
    config = small_config()
    config.data.path = {path!r}
    config.train.steps, config.train.eval_every, config.train.save_every = 16, 8, 4
    return config
"""

# The command line itself, in a process that sends itself a signal once the metrics of a step are written.
COMMAND = """
import os, sys
from drifting_vla_jax import main
from drifting_vla_jax.train import metrics

step, number, write = int(sys.argv.pop(1)), int(sys.argv.pop(1)), metrics.JsonlSink.write

def write_and_signal(self, at, values):
    write(self, at, values)
    if at == step and "train/loss" in values:
        os.kill(os.getpid(), number)

metrics.JsonlSink.write = write_and_signal
try:
    main.start()
finally:
    assert not {"tensorflow", "torch"} & set(sys.modules)
"""


@pytest.fixture
def train(tmp_path, dataset_path):
    """train(workdir, step, signal) -> the finished process of a start of ``--mode=train`` on one device."""
    (tmp_path / "config.py").write_text(CONFIG.format(path=str(dataset_path)))
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "XLA_FLAGS": flags}

    def train(name, step=0, number=0):
        arguments = [f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / name}"]
        command = [sys.executable, "-c", COMMAND, str(step), str(int(number)), *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    return train


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]


def restored(workdir):
    config = small_config()
    mesh = sharding.make_mesh(config, jax.devices()[:1])
    return jax.device_get(Checkpoints(workdir).restore_state(16, config, mesh))


@pytest.mark.slow
def test_sigterm_then_kill_then_finish_is_the_uninterrupted_run(train, tmp_path):
    """Acceptance: parameters bit-identical, the exact data position, every step logged once."""
    whole = train("whole")
    assert whole.returncode == 0, whole.stderr
    stopped = train("run", 5, signal.SIGTERM)
    assert stopped.returncode == 0, stopped.stderr
    assert Checkpoints(tmp_path / "run").latest() == 6  # the step in flight is finished, then saved
    killed = train("run", 11, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert Checkpoints(tmp_path / "run").latest() in (6, 8)  # 8 was being written
    finished = train("run")
    assert finished.returncode == 0, finished.stderr
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 17))
    jax.tree.map(np.testing.assert_array_equal, restored(tmp_path / "run"), restored(tmp_path / "whole"))
