"""What is saved comes back bit by bit on any number of devices; what is damaged says so in one line."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from drifting_vla_jax.config.io import to_json
from drifting_vla_jax.data.normalization import ActionNormalizer
from drifting_vla_jax.policy.restore import restore
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.checkpoint import BEST_METRIC, Assets, CheckpointError, Checkpoints
from drifting_vla_jax.train.frozen_encoders import NO_FROZEN_INPUTS
from drifting_vla_jax.train.state import create_state
from drifting_vla_jax.train.step import compile_train_step
from drifting_vla_jax.train.validation import compile_eval_step
from tests.small import small_config

REPOSITORY = Path(__file__).parents[2]
POSITION = {"next_index": 17, "nested": {"rng": [1, 2]}}


def some_assets(config):
    space = ActionNormalizer("relative", np.zeros((4, 10)), np.ones((4, 10)), np.arange(4.0), np.ones(4))
    return Assets(
        config, space, ("reach red",), 20.0, ("x", "y", "z", "gripper"), {"vision": "scratch", "text": "scratch"}
    )


@pytest.fixture
def saved(tmp_path, small, host_state, place, one_device):
    """A folder with one checkpoint, step 3: of numbers that differ everywhere, and the state that was saved."""
    rng = np.random.default_rng(0)
    drawn = jax.tree.map(lambda x: rng.uniform(1, 100, x.shape).astype(x.dtype), host_state)
    host = drawn.replace(step=np.int32(3))
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(place(host, one_device), POSITION, some_assets(small), None)
    checkpoints.wait()
    checkpoints.close()
    return tmp_path, host


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def wide(config):
    """Two by four devices, parameters split."""
    config.mesh.fsdp, config.mesh.fsdp_min_size = 4, 256
    return sharding.make_mesh(config)


def test_one_devices_checkpoint_comes_back_on_one_and_on_eight(saved, small, one_device):
    folder, host = saved
    checkpoints = Checkpoints(folder)
    state, position = checkpoints.restore_state(3, small, one_device)
    assert_equal(jax.device_get(state), host)
    assert position == POSITION
    config = small_config()
    state, _ = checkpoints.restore_state(3, config, wide(config))
    kernel = state.params["fusion"]["block_0"]["mlp"]["up"]["kernel"]
    assert len(kernel.sharding.device_set) == 8 and not kernel.sharding.is_fully_replicated
    assert_equal(jax.device_get(state), host)


@pytest.mark.slow
def test_trained_on_eight_devices_it_evaluates_alike_on_one_and_on_two_by_four(tmp_path, small, batches, one_device):
    """Saved on (8, 1): the restored numbers are the saved ones, and the error on held-out chunks the same to 1e-6."""
    config, eight = small_config(), sharding.make_mesh(small)
    step, state = compile_train_step(config, eight), create_state(config, eight)
    for batch in batches(eight):
        state, _ = step(state, batch, NO_FROZEN_INPUTS)
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state, POSITION, some_assets(config), None)
    checkpoints.wait()

    def error(config, mesh, params):
        """Mean square distance of the samples from the expert."""
        batch = batches(mesh)[0]
        chunks = compile_eval_step(config, mesh)(
            params, batch, jax.random.key_data(jax.random.key(0)), NO_FROZEN_INPUTS
        )
        return np.mean(np.square(np.asarray(chunks.samples, np.float64) - np.asarray(batch.target)[:, None]))

    expected = error(config, eight, state.ema_params)
    for mesh in one_device, wide(config):
        restored, _ = checkpoints.restore_state(int(state.step), config, mesh)
        assert_equal(jax.device_get(restored), jax.device_get(state))
        np.testing.assert_allclose(error(config, mesh, restored.ema_params), expected, rtol=1e-6)


def test_the_acting_weights_and_assets_come_alone(saved, small, one_device):
    folder, host = saved
    for item in ("params", "opt_state"):
        shutil.rmtree(folder / "checkpoints" / "3" / item)
    checkpoints = Checkpoints(folder)
    assert_equal(jax.device_get(checkpoints.restore_ema(3, small, one_device)), host.ema_params)
    assets, expected = checkpoints.restore_assets(3), some_assets(small)
    assert to_json(assets.config) == to_json(small) and assets.config.env.cameras == small.env.cameras
    assert assets.actions.to_json() == expected.actions.to_json()
    assert (assets.prompts, assets.control_hz, assets.state_names) == (("reach red",), 20.0, ("x", "y", "z", "gripper"))


def tiny(small, host_state, step):
    return jax.tree.map(jax.numpy.asarray, host_state.replace(
        step=np.int32(step), params={"w": np.ones(2)}, ema_params={"w": np.ones(2)}, opt_state={}
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("errors", "kept", "best"),
    [
        ({1: 5.0, 2: 1.0, 3: 4.0, 4: 3.0, 5: 2.0}, [2, 4, 5], 2),
        ({1: 5.0, 2: None, 3: 4.0, 4: None, 5: None}, [3, 4, 5], 3),
        ({1: 5.0, 2: 4.0, 3: 3.0}, [2, 3], 3),
        ({1: None, 2: None, 3: None}, [2, 3], 3),
    ],
    ids=["best is old", "some are not validated", "best is newest", "none is validated"],
)
def test_the_newest_and_the_best_are_kept(tmp_path, small, host_state, errors, kept, best):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step, error in errors.items():
        metrics = None if error is None else {BEST_METRIC: error, "val/gripper_accuracy": 1.0}
        checkpoints.save(tiny(small, host_state, step), POSITION, some_assets(small), metrics)
    checkpoints.wait()
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == kept
    assert (checkpoints.latest(), checkpoints.best()) == (max(errors), best)
    again = Checkpoints(tmp_path)  # another process finds the same
    assert (again.latest(), again.best()) == (max(errors), best)


def test_a_missing_step_is_named_with_those_there_are(saved, small, one_device):
    checkpoints = Checkpoints(saved[0])
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7 in .*; there are: 3"):
        checkpoints.restore_ema(7, small, one_device)


@pytest.mark.parametrize("item", ["params", "opt_state", "data_state", "assets"])
def test_truncated_files_are_one_clear_line(saved, small, one_device, item):
    folder = saved[0] / "checkpoints" / "3"
    arrays = [p for p in (folder / item).glob("**/d/*") if p.is_file()]
    for path in arrays or [folder / item / "metadata"]:  # no arrays: JSON
        os.truncate(path, path.stat().st_size // 2)
    checkpoints = Checkpoints(saved[0])
    with pytest.raises(CheckpointError, match=r"checkpoint 3 in .* is damaged .*delete .*/3 to fall back") as error:
        checkpoints.restore_assets(3)
        checkpoints.restore_state(3, small, one_device)
    assert "\n" not in str(error.value)


def test_another_networks_checkpoint_is_refused(saved, one_device):
    config = small_config()
    config.model.width = 32
    with pytest.raises(CheckpointError, match=r"checkpoint 3 in .* is damaged or of another configuration"):
        Checkpoints(saved[0]).restore_ema(3, config, one_device)


def test_reading_leaves_what_another_process_is_writing(saved):
    """Evaluating a run that is still training must not clean up the checkpoint in the making."""
    writing = saved[0] / "checkpoints" / "4.orbax-checkpoint-tmp"
    writing.mkdir()
    policy = restore(saved[0])
    assert policy.metadata["checkpoint_step"] == 3 and writing.is_dir()
    training = Checkpoints(saved[0], keep=1)  # a training start clears it away, in the background
    assert training.latest() == 3
    deadline = time.monotonic() + 20
    while writing.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not writing.exists()


def test_a_disk_known_to_be_too_small_is_refused_before_writing(saved, small, place, one_device, monkeypatch):
    folder, host = saved
    checkpoints = Checkpoints(folder, keep=1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(CheckpointError, match=r"checkpoint 4 needs .* MB, 0 MB are free .*: step 3 is intact"):
        checkpoints.save(place(host.replace(step=np.int32(4)), one_device), POSITION, some_assets(small), None)
    assert checkpoints.latest() == 3


FULL_DISK = """
import resource, sys
from pathlib import Path
import jax, numpy as np
from tests.small import random_params, small_config
from tests.train.test_checkpoint import some_assets
from drifting_vla_jax.train.checkpoint import CheckpointError, Checkpoints
from drifting_vla_jax.train.state import TrainState

params = random_params(small_config())
state = TrainState(step=np.int32(1), rng=np.zeros(2, np.uint32), params=params, ema_params=params, opt_state={})
checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)
checkpoints.save(state, {}, some_assets(small_config()), None)
checkpoints.wait()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # no file may grow beyond this; Python ignores SIGXFSZ
try:
    checkpoints.save(state.replace(step=np.int32(2)), {}, some_assets(small_config()), None)
    checkpoints.wait()
except CheckpointError as error:
    print("refused:", error)
"""


@pytest.mark.slow
def test_a_write_that_fails_half_way_leaves_the_checkpoint_before(tmp_path, small, one_device):
    """The disk is full: files of another process, truly limited in size."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1 and lines[0].startswith("refused: checkpoint"), done.stdout
    assert "could not be written" in lines[0] and lines[0].endswith("step 1 is intact")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() == 1
    checkpoints.restore_ema(1, small, one_device)
