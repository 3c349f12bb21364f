"""One step: a function of its state and batch, safe against what is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.train.frozen_encoders import NO_FROZEN_INPUTS
from drifting_vla_jax.train.state import abstract_state, fake_batch, init_params
from drifting_vla_jax.train.step import train_step
from drifting_vla_jax.train.validation import eval_step
from tests.small import small_config


@pytest.fixture(scope="module")
def run(step, host_state, place, one_device, batches):
    """A run of four steps: states before and after each, as numpy, and the metrics."""
    state, states, metrics = place(host_state, one_device), [host_state], []
    for batch in batches(one_device)[:4]:
        with jax.transfer_guard("disallow"):
            state, info = step(state, batch, NO_FROZEN_INPUTS)
        states.append(jax.device_get(state))
        metrics.append(jax.device_get(info))
    return states, metrics


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_step_is_a_function_of_state_and_batch(run, step, place, one_device, batches):
    states, metrics = run
    again, info = step(place(states[1], one_device), batches(one_device)[1], NO_FROZEN_INPUTS)
    assert_equal(jax.device_get(again), states[2])
    assert info["loss"] == metrics[1]["loss"]
    assert [int(s.step) for s in states] == [0, 1, 2, 3, 4]


def test_the_states_memory_is_taken_over(step, host_state, place, one_device, batches):
    state = place(host_state, one_device)
    step(state, batches(one_device)[0], NO_FROZEN_INPUTS)
    assert all(x.is_deleted() for x in jax.tree.leaves((state.params, state.ema_params, state.opt_state)))


def test_every_parameter_learns(run):
    """The gradient reaches all of them once the modulation has left zero (adaLN-Zero holds some back at first)."""
    moments = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(run[0][-1].opt_state):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if "/nu/" in name:
            moments[name] = leaf
    assert len(moments) == len(jax.tree.leaves(run[0][0].params))
    assert [name for name, nu in moments.items() if not np.any(nu)] == []


def test_averaged_weights_follow_fast_at_first(run):
    """decay = min(0.99, (1 + step) / (10 + step)): 1/10, then 2/11."""
    states = run[0]
    for t, decay in ((0, 1 / 10), (1, 2 / 11)):
        expected = jax.tree.map(lambda e, p, d=decay: d * e + (1 - d) * p, states[t].ema_params, states[t + 1].params)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), states[t + 1].ema_params, expected
        )


def test_what_is_logged(run):
    names = {"loss", "grad_norm", "lr", "finite", "centroid_error", "sample_spread", "drift_scale"}
    names |= {"lambda_V", "raw_drift_norm", "drift_sq/0.1", "drift_sq/0.2", "drift_sq/0.5", "collapsed_share"}
    for row in run[1]:
        assert set(row) == names and row["finite"] and all(np.isfinite(v) for v in row.values())
    assert [float(row["lr"]) for row in run[1][:3]] == pytest.approx([0, 5e-4, 1e-3])  # warm-up of two steps


@pytest.mark.parametrize("where", ["target", "state"])
def test_a_step_that_is_not_finite_changes_nothing_and_says_so(step, host_state, place, one_device, batches, where):
    batch = batches(one_device)[0]
    if where == "target":
        batch = batch.replace(target=batch.target.at[3, 0, 0].set(jnp.nan))
    else:
        o = batch.observation
        batch = batch.replace(observation=o.replace(state=o.state.at[3, 0].set(jnp.inf)))
    state, info = step(place(host_state, one_device), batch, NO_FROZEN_INPUTS)
    assert not info["finite"]
    assert_equal(jax.device_get(state), host_state)


def test_masked_targets_do_not_matter(run, step, host_state, place, one_device, batches):
    """What lies past an episode's end is padding: another value there gives the same step."""
    batch = batches(one_device)[0]
    batch = batch.replace(mask=batch.mask.at[:, 2:].set(0.0))
    other = batch.replace(target=batch.target.at[:, 2:].add(9.0))
    (a, info), (b, _) = (step(place(host_state, one_device), x, NO_FROZEN_INPUTS) for x in (batch, other))
    assert info["loss"] != run[1][0]["loss"]
    assert_equal(jax.device_get(a), jax.device_get(b))


@pytest.mark.parametrize("name", ["flow_matching", "regression"])
def test_every_objective_fits_the_same_step(name, one_device):
    config = small_config()
    config.objective.name = name
    state = abstract_state(config, one_device)
    batch = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, fake_batch(config, 8, prompts=8)))
    new, info = jax.eval_shape(lambda s, b: train_step(s, b, config=config), state, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), new) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert {"loss", "grad_norm", "lr", "finite"} <= set(info)


def test_validation_draws_g_chunks_per_observation(small):
    params = jax.eval_shape(lambda: init_params(small, jax.random.key(0)))
    batch = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, fake_batch(small, 8, prompts=8)))
    out = jax.eval_shape(
        lambda p, b: eval_step(p, b, jax.random.key_data(jax.random.key(0)), config=small), params, batch
    )
    assert out.samples.shape == (8, 4, 4, 10) and out.samples.dtype == jnp.float32
    assert out.drift.shape == out.samples.shape and out.drift_rms.shape == (3,)
