"""A run with a bank: a step fills it, a step that is not finite does not, and a checkpoint carries it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.data import pipeline
from drifting_vla_jax.objectives.drifting.memory_bank import MemoryBank
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.checkpoint import Checkpoints
from drifting_vla_jax.train.frozen_encoders import NO_FROZEN_INPUTS
from drifting_vla_jax.train.state import create_state
from drifting_vla_jax.train.step import compile_train_step
from drifting_vla_jax.types import fake_batch
from tests.small import small_config
from tests.train.test_checkpoint import some_assets


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_a_bank_is_filled_guarded_and_saved(tmp_path, devices):
    config = small_config()
    config.objective.bank.size = 3
    mesh = sharding.make_mesh(config, jax.devices()[:devices])
    step = compile_train_step(config, mesh)
    batch = pipeline.to_device(fake_batch(config, 8, prompts=8), sharding.batch_sharding(mesh))
    state, info = step(create_state(config, mesh), batch, NO_FROZEN_INPUTS)
    counts = np.bincount(np.asarray(batch.task), minlength=2)
    np.testing.assert_array_equal(state.bank.written, counts)
    assert info["finite"] and np.isfinite(state.bank.summary).all()

    before = jax.device_get(state)
    state, info = step(state, batch.replace(target=batch.target.at[3, 0, 0].set(jnp.nan)), NO_FROZEN_INPUTS)
    assert not info["finite"]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), before)

    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state, {}, some_assets(config), None)
    checkpoints.wait()
    restored, _ = checkpoints.restore_state(1, config, mesh)
    checkpoints.close()
    assert isinstance(restored.bank, MemoryBank)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), before)
