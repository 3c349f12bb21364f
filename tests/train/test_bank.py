"""A run with a bank: a step fills it, a step that is not finite does not, and a checkpoint carries it."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from drifting_vla_jax.data import pipeline
from drifting_vla_jax.objectives.drifting.memory_bank import MemoryBank
from drifting_vla_jax.train import checkpoint, sharding
from drifting_vla_jax.train.checkpoint import Checkpoints
from drifting_vla_jax.train.frozen_encoders import NO_FROZEN_INPUTS
from drifting_vla_jax.train.state import create_state, fake_batch
from drifting_vla_jax.train.step import compile_train_step
from tests.small import small_config
from tests.train.test_checkpoint import some_assets


@pytest.mark.slow
def test_a_bank_is_filled_guarded_and_saved(tmp_path):
    """Over eight devices, which share the batch and not the bank."""
    config = small_config()
    config.objective.drifting.memory_bank.size = 3
    mesh = sharding.make_mesh(config, jax.devices())
    step = compile_train_step(config, mesh)
    batch = pipeline.to_device(fake_batch(config, 8, prompts=8), sharding.batch_sharding(mesh))
    state, info = step(create_state(config, mesh), batch, NO_FROZEN_INPUTS)
    counts = np.bincount(np.asarray(batch.task), minlength=2)
    np.testing.assert_array_equal(state.objective_state.written, counts)
    assert info["finite"] and np.isfinite(state.objective_state.summary).all()

    before = jax.device_get(state)
    state, info = step(state, batch.replace(target=batch.target.at[3, 0, 0].set(jnp.nan)), NO_FROZEN_INPUTS)
    assert not info["finite"]
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), before)

    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state, {}, some_assets(config), None)
    checkpoints.wait()
    restored, _ = checkpoints.restore_state(1, config, mesh)
    checkpoints.close()
    assert isinstance(restored.objective_state, MemoryBank)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), before)


@pytest.mark.slow
def test_a_checkpoint_that_calls_it_a_bank_still_comes_back(tmp_path, monkeypatch, one_device):
    """As it was written before objectives had states of other kinds."""
    config = small_config()
    config.objective.drifting.memory_bank.size = 3
    rng = np.random.default_rng(0)
    state = create_state(config, one_device)
    bank = jax.tree.map(lambda x: rng.uniform(1, 100, x.shape).astype(x.dtype), state.objective_state)
    state = state.replace(
        objective_state=jax.device_put(bank, jax.tree.map(lambda x: x.sharding, state.objective_state))
    )
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "STATE", checkpoint.OLD_STATE)
        checkpoints = Checkpoints(tmp_path, keep=1)
        checkpoints.save(state, {}, some_assets(config), None)
        checkpoints.close()
    stored = ocp.StandardCheckpointer().restore(tmp_path / "checkpoints" / "0" / "opt_state")
    assert {"bank", "opt_state", "rng", "step"} == set(stored)
    restored, _ = Checkpoints(tmp_path).restore_state(0, config, one_device)
    assert isinstance(restored.objective_state, MemoryBank)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(restored), jax.device_get(state))
