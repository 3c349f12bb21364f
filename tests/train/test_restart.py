"""The training command as a process: told to stop it exits 0, killed at any moment it goes on where it was."""

import json
import os
import random
import signal
import subprocess
import sys
import time
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
    config.train.steps, config.train.eval_every, config.train.save_every = {steps}, 8, 4
    return config
"""

# The command line itself, in a process that sends itself a signal: once the metrics of a step are written, or as the first
# save or validation begins. What each step was given is written down beside the metrics.
COMMAND = """
import hashlib, os, sys
import jax, numpy as np
from drifting_vla_jax import main
from drifting_vla_jax.train import loop, validation
from drifting_vla_jax.train.monitoring import loggers

moment, number = sys.argv.pop(1), int(sys.argv.pop(1))
once = [number]
write, compiled = loggers.JsonlWriter.write, loop.compile_train_step

def write_and_signal(self, record):
    write(self, record)
    if str(record.step) == moment and "train/loss" in record.scalars:
        os.kill(os.getpid(), number)

def signalled(method):
    def run(self, *args):
        if once:
            os.kill(os.getpid(), once.pop())
        return method(self, *args)
    return run

def noting(config, mesh):
    step, folder = compiled(config, mesh), next(a for a in sys.argv if a.startswith("--workdir=")).split("=")[1]
    def run(state, batch, borrowed):
        digest = hashlib.sha256()
        with jax.transfer_guard("allow"):
            for leaf in jax.tree.leaves(batch):
                digest.update(np.asarray(leaf).tobytes())
            with open(folder + "/seen.txt", "a") as file:
                file.write(f"{int(state.step) + 1} {digest.hexdigest()[:16]}\\n")
        return step(state, batch, borrowed)
    return run

loggers.JsonlWriter.write, loop.compile_train_step = write_and_signal, noting
if moment == "save":
    loop.Checkpoints.save = signalled(loop.Checkpoints.save)
if moment == "validate":
    validation.Validator.validate = signalled(validation.Validator.validate)
try:
    main.start()
finally:
    assert not {"tensorflow", "torch"} & set(sys.modules)
"""


@pytest.fixture
def train(tmp_path, dataset_path):
    """train(workdir, moment, signal) -> the finished process of a start of ``--mode=train`` on one device."""
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1")
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY), "XLA_FLAGS": flags}

    def train(name, moment=0, number=0, steps=16, kill_when=None):
        config = tmp_path / f"config{steps}.py"
        config.write_text(CONFIG.format(path=str(dataset_path), steps=steps))
        arguments = [f"--config={config}", f"--workdir={tmp_path / name}"]
        command = [sys.executable, "-c", COMMAND, str(moment), str(int(number)), *arguments]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if kill_when is not None:
            while not kill_when() and process.poll() is None:
                time.sleep(0.01)
            process.kill()
        out, error = process.communicate()
        return subprocess.CompletedProcess(command, process.returncode, out, error)

    return train


def losses(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["train/loss"]) for line in lines if "train/loss" in line]


def restored(workdir, step=16):
    config = small_config()
    mesh = sharding.make_mesh(config, jax.devices()[:1])
    return jax.device_get(Checkpoints(workdir).restore_state(step, config, mesh))


def seen(workdir):
    """What each step was given, the last time it was done."""
    return dict(line.split() for line in (workdir / "seen.txt").read_text().splitlines())


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


@pytest.mark.slow
def test_killed_at_five_random_moments_it_is_still_the_uninterrupted_run(train, tmp_path):
    """Acceptance: parameters, average, optimiser and what every step saw are bit-identical after sixty steps."""
    steps, rng = 60, random.Random(0)
    whole = train("whole", steps=steps)
    assert whole.returncode == 0, whole.stderr
    (tmp_path / "run").mkdir()
    for part in range(5):
        target, wait = rng.randint(4 + 10 * part, 13 + 10 * part), rng.uniform(0, 0.3)

        def reached(target=target, wait=wait):
            file = tmp_path / "run" / "metrics.jsonl"
            if not file.is_file() or f'"step": {target},' not in file.read_text():
                return False
            time.sleep(wait)
            return True

        killed = train("run", steps=steps, kill_when=reached)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    finished = train("run", steps=steps)
    assert finished.returncode == 0, finished.stderr
    assert seen(tmp_path / "run") == seen(tmp_path / "whole") and len(seen(tmp_path / "run")) == steps
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, *(restored(tmp_path / name, steps) for name in ("run", "whole")))


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["5", "save", "validate"])
def test_sigterm_at_an_awkward_moment_exits_0_within_30_seconds(train, tmp_path, moment):
    began = time.monotonic()
    stopped = train("run", moment, signal.SIGTERM)
    assert stopped.returncode == 0, stopped.stderr
    assert time.monotonic() - began < 30 + 15  # with the start and its compilation
    done = Checkpoints(tmp_path / "run").latest()
    assert done == {"5": 6, "save": 5, "validate": 9}[moment]
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, done + 1))
