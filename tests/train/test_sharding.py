"""However many devices share the work, the result is that of one; and nothing is placed by accident."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.borrowed import NOTHING
from drifting_vla_jax.train.state import abstract_state, create_state
from drifting_vla_jax.train.step import compile_train_step
from tests.small import small_config


def five_steps(step, state, batches):
    """Losses, gradient norms and the final state of a short run."""
    rows = []
    for batch in batches:
        state, info = step(state, batch, NOTHING)
        rows.append((float(info["loss"]), float(info["grad_norm"])))
    return np.array(rows), state


@pytest.fixture(scope="module")
def alone(step, host_state, place, one_device, batches):
    rows, state = five_steps(step, place(host_state, one_device), batches(one_device))
    return rows, jax.device_get(state)


def close_to(state, expected):
    """Parameters agree to what Adam makes of rounding: each of five updates is at most a learning rate of 1e-3."""
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


@pytest.mark.slow
def test_eight_devices_train_like_one(small, alone, host_state, place, batches):
    """Acceptance: the same loss to 1e-5 relative over five steps."""
    mesh = sharding.make_mesh(small)
    assert dict(mesh.shape) == {"data": 8, "fsdp": 1}
    rows, state = five_steps(compile_train_step(small, mesh), place(host_state, mesh), batches(mesh))
    np.testing.assert_allclose(rows[:, 0], alone[0][:, 0], rtol=1e-5)
    np.testing.assert_allclose(rows[:, 1], alone[0][:, 1], rtol=1e-3)
    close_to(state, alone[1])
    kernel = state.params["fusion"]["block_0"]["mlp"]["up"]["kernel"]
    assert kernel.sharding.is_fully_replicated


@pytest.mark.slow
def test_split_parameters_train_like_whole_ones(alone, host_state, batches):
    config = small_config()
    config.mesh.fsdp, config.mesh.fsdp_min_size = 4, 256
    mesh = sharding.make_mesh(config)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 4}
    state = create_state(config, mesh)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(host_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # born split, but of the same seed
    quarter = state.params["fusion"]["block_0"]["mlp"]["up"]["kernel"]
    assert quarter.addressable_shards[0].data.size * 4 == quarter.size
    rows, state = five_steps(compile_train_step(config, mesh), state, batches(mesh))
    np.testing.assert_allclose(rows[:, 0], alone[0][:, 0], rtol=1e-5)
    close_to(state, alone[1])
    kernel = state.params["fusion"]["block_0"]["mlp"]["up"]["kernel"]
    assert kernel.addressable_shards[0].data.size * 4 == kernel.size


def test_moments_and_average_lie_as_their_parameter():
    config = small_config()
    config.mesh.fsdp, config.mesh.fsdp_min_size = 4, 256
    state = abstract_state(config, sharding.make_mesh(config))
    specs = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        specs[jax.tree_util.keystr(path, simple=True, separator="/")] = leaf.sharding.spec
    params = {name.removeprefix("params/"): spec for name, spec in specs.items() if name.startswith("params/")}
    assert {P(), P("fsdp", None), P(None, "fsdp")} <= set(params.values())
    for prefix in ("ema_params/", "/mu/", "/nu/"):
        found = {name.split(prefix)[1]: spec for name, spec in specs.items() if prefix in name}
        assert found == params
    assert specs["step"] == specs["rng"] == P()


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("params/dit/block_0/mlp/up/kernel", (64, 128), P(None, "fsdp")),  # the larger axis
        ("params/text/embed/embedding", (257, 64), P(None, "fsdp")),  # 257 does not divide by 4
        ("params/dit/block_0/mlp/up/kernel", (63, 127), P()),  # nothing divides
        ("params/dit/block_0/mlp/up/kernel", (8, 8), P()),  # too small to be worth it
        ("params/vision/norm/scale", (4096,), P()),
        ("params/dit/blocks/mlp/up/kernel", (4096, 64, 128), P(None, None, "fsdp")),  # never along the layers
        ("opt_state/1/0/mu/dit/block_0/mlp/up/kernel", (64, 128), P(None, "fsdp")),
    ],
)
def test_rules(path, shape, spec):
    assert sharding.partition_spec(path, shape, fsdp=4, min_size=1000) == spec


def test_a_parameter_that_no_rule_reaches_is_named():
    tree = {"params": {"dit": {"gate_vector": jax.ShapeDtypeStruct((4,), jnp.float32)}}}
    config = small_config()
    with pytest.raises(ValueError, match=r"no sharding rule reaches parameter 'params/dit/gate_vector' \(4,\)"):
        sharding.state_sharding(tree, sharding.make_mesh(config), config)


@pytest.mark.parametrize(("data", "fsdp"), [(3, 2), (-1, 3), (4, 4), (-1, -1), (0, 8)])
def test_a_mesh_that_does_not_fit_is_refused(data, fsdp):
    config = small_config()
    config.mesh.data, config.mesh.fsdp = data, fsdp
    with pytest.raises(ValueError, match=rf"config.mesh \(data={data}, fsdp={fsdp}\) does not fit 8 devices"):
        sharding.make_mesh(config)


def test_a_batch_that_does_not_divide_is_refused():
    config = small_config()
    config.data.batch_size = 12
    with pytest.raises(ValueError, match="config.data.batch_size 12 does not divide over 8 devices"):
        sharding.make_mesh(config)


def test_one_axis_takes_what_the_other_leaves():
    config = small_config()
    config.mesh.data, config.mesh.fsdp = 2, -1
    assert dict(sharding.make_mesh(config).shape) == {"data": 2, "fsdp": 4}
    assert dict(sharding.make_mesh(config, jax.devices()[:4]).shape) == {"data": 2, "fsdp": 2}
