"""What is drawn from held-out episodes: the same every time, in the units it is said to be in, told apart by what it shows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.core.action_layout import END_EFFECTOR
from drifting_vla_jax.data.dataset import DataSet
from drifting_vla_jax.figures.inputs import FigureInputs
from drifting_vla_jax.models.layers import Attention
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.frozen_encoders import NO_FROZEN_INPUTS
from drifting_vla_jax.train.state import fake_batch
from drifting_vla_jax.train.validation import EvalOutputs, Validator, compile_eval_step, eval_step
from tests.small import CAMERAS, SIZE, random_params, small_config


@pytest.fixture(scope="module")
def drawn(small, one_device):
    """eval_step's answer for a batch and random parameters, and the batch."""
    batch = jax.tree.map(jnp.asarray, fake_batch(small, 8, prompts=8))
    key = jax.random.key_data(jax.random.key(0))
    return compile_eval_step(small, one_device)(random_params(small), batch, key, NO_FROZEN_INPUTS), batch


def test_what_the_network_looks_at_is_a_share(drawn, small):
    """Of every view's patches, the instruction's words and the state: together all of the attention."""
    shares = np.asarray(drawn[0].shares)
    patches = len(CAMERAS) * (SIZE // small.model.vision.patch) ** 2
    assert shares.shape == (8, patches + small.data.max_tokens + 1)
    np.testing.assert_allclose(shares.sum(1), 1.0, rtol=1e-5)
    assert np.ptp(shares[:, :patches]) > 0


def test_attention_shares_are_softmax_weights_by_hand():
    """Two queries of one head that agree in direction with one of three keys, the last of which is masked."""
    layer = Attention(heads=1, dtype=jnp.float32)
    x, context = jnp.ones((1, 2, 4)), jnp.array([[[1.0, 1, 1, 1], [-1, 1, -1, 1], [1, 1, 1, 1]]])
    identity = {"kernel": jnp.eye(4)}
    params = {name: identity for name in ("query", "key", "value", "out")}
    params |= {name: {"scale": jnp.ones(4)} for name in ("query_norm", "key_norm")}
    mask = jnp.array([[True, True, False]])
    _, inside = layer.apply({"params": params}, x, context, mask, mutable=["intermediates"])
    weight = np.exp(2.0) / (np.exp(2.0) + 1)  # q.k / sqrt(4): 2 and 0
    np.testing.assert_allclose(inside["intermediates"]["shares"][0][0], [weight, 1 - weight, 0], atol=1e-5)


def test_the_field_is_that_of_the_samples(drawn, small):
    found = drawn[0]
    assert found.samples.shape == found.drift.shape == (8, 4, 4, END_EFFECTOR.network_dim)
    assert found.drift_rms.shape == (len(small.objective.drifting.temperatures),)
    assert {"loss", "lambda_V", "drift_norm"} == set(found.figures)
    np.testing.assert_allclose(found.figures["lambda_V"], np.sqrt(np.mean(np.square(found.drift_rms))), rtol=1e-4)


@pytest.mark.parametrize(("name", "samples"), [("flow_matching", 4), ("regression", 8)])
def test_policies_that_learn_otherwise_have_a_field_too(name, samples):
    config = small_config()
    config.objective.name = name
    params = jax.eval_shape(lambda: random_params(config))
    batch = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, fake_batch(config, 8, prompts=8)))
    out = jax.eval_shape(
        lambda p, b: eval_step(p, b, jax.random.key_data(jax.random.key(0)), config=config), params, batch
    )
    assert out.drift.shape == (8, samples, 4, END_EFFECTOR.network_dim) and set(out.figures) == {
        "loss",
        "lambda_V",
        "drift_norm",
    }


@pytest.mark.slow
def test_stacked_layers_tell_the_same_attention(small):
    """With ``scan_layers`` and without: one row per layer either way."""
    config = small_config()
    config.model.fusion.depth = 3
    for scan in (False, True):
        config.model.scan_layers = scan
        params = jax.eval_shape(lambda: random_params(config))
        batch = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, fake_batch(config, 8, prompts=8)))
        key = jax.random.key_data(jax.random.key(0))
        out = jax.eval_shape(lambda p, b, key=key: eval_step(p, b, key, config=config), params, batch)
        assert out.shares.shape == (8, 2 * 4 + config.data.max_tokens + 1)


@pytest.fixture
def held_out(config, one_device):
    """held_out(eval_step) over the small data set's two held-out episodes."""
    dataset = DataSet(config.data.path, config.env.cameras)
    actions = dataset.action_space(config)

    def held_out(eval_step):
        return Validator(dataset, actions, config, one_device, NO_FROZEN_INPUTS, None, eval_step)

    return held_out


def knowing(seen, spread=0.0):
    """An eval step whose samples are the expert's chunk, ``spread`` to either side of it."""

    def step(params, batch, rng, borrowed):
        seen.append(batch)
        signs = jnp.array([1.0, -1.0, 1.0, -1.0])[:, None, None]
        samples = batch.target[:, None] + spread * signs
        shares = jnp.tile(jnp.arange(8 + 32 + 1, dtype=jnp.float32), (len(batch.target), 1))
        return EvalOutputs(samples, jnp.zeros_like(samples), jnp.zeros(3), shares, {"loss": jnp.float32(2.0)})

    return step


def test_a_policy_that_knows_has_no_error(held_out):
    found = held_out(knowing([])).validate({})
    assert found["val/loss"] == 2.0 and found["val/centroid_error"] == 0 and found["val/gripper_accuracy"] == 1.0
    assert found["val/position_error_cm"] < 1e-3
    assert held_out(knowing([], spread=0.5)).validate({})["val/sample_spread"] == pytest.approx(0.5, rel=1e-3)


def test_a_snapshot_follows_one_episode_from_its_start_to_its_end(held_out, config, tmp_path):
    seen = []
    view = held_out(knowing(seen))
    snapshot = view.snapshot({}, 7)
    n = len(snapshot.episode_steps)
    assert n == config.data.batch_size and snapshot.episode_steps[0] == 0 and snapshot.episode_steps[-1] == 11
    assert np.all(np.diff(snapshot.episode_steps) > 0)
    assert snapshot.episode_task == config.env.tasks[0] and "red" in snapshot.instruction
    np.testing.assert_allclose(snapshot.episode_chunks, np.repeat(snapshot.episode_wanted[:, None], 4, 1), atol=1e-6)
    # The walk is straight: each chunk begins where the end effector is next.
    moved = snapshot.episode_position[1:] - snapshot.episode_position[:-1]
    ahead = np.diff(snapshot.episode_steps)[:, None]
    np.testing.assert_allclose(
        snapshot.episode_wanted[:-1, 0, :3] - snapshot.episode_position[:-1], moved / ahead, atol=1e-4
    )
    assert snapshot.frames.shape == (n, 2, SIZE, SIZE, 3) and np.ptp(snapshot.frames[0, 0]) > 0
    assert snapshot.episode_mask[0].all() and snapshot.episode_mask[-1].tolist() == [1, 0, 0, 0]
    # Tokens come view by view: four patches of the first, then four of the second.
    np.testing.assert_array_equal(snapshot.attention[0], [[[0, 1], [2, 3]], [[4, 5], [6, 7]]])
    snapshot.save(tmp_path / "7.npz")
    again = FigureInputs.load(tmp_path / "7.npz")
    np.testing.assert_array_equal(again.chunks, snapshot.chunks)
    view.snapshot({}, 8)
    for a, b in zip(jax.tree.leaves(seen[:2]), jax.tree.leaves(seen[2:]), strict=True):
        np.testing.assert_array_equal(a, b)  # the next one shows the same observations


@pytest.mark.slow
def test_eight_devices_draw_what_one_draws(small, drawn):
    mesh = sharding.make_mesh(small)
    batch = jax.tree.map(lambda x: jax.device_put(np.asarray(x), sharding.batch_sharding(mesh)), drawn[1])
    found = compile_eval_step(small, mesh)(
        random_params(small), batch, jax.random.key_data(jax.random.key(0)), NO_FROZEN_INPUTS
    )
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(drawn[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
