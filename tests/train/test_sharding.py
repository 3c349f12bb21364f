"""However many devices share the work, the result is that of one; and nothing is placed by accident."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from drifting_vla_jax.aot.flops import residual_bytes
from drifting_vla_jax.objectives.registry import make_objective
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.frozen_encoders import NO_FROZEN_INPUTS
from drifting_vla_jax.train.optimizer import make_optimizer
from drifting_vla_jax.train.state import abstract_state, create_state, fake_batch, init_params
from drifting_vla_jax.train.step import compile_train_step, objective_loss
from drifting_vla_jax.types import OPTIMIZERS, abstract
from tests.small import small_config

STEPS = 20


def run(step, state, batches):
    """Losses and gradient norms of a short run, and the state it ends with."""
    rows = []
    for i in range(STEPS):
        state, info = step(state, batches[i % len(batches)], NO_FROZEN_INPUTS)
        rows.append((float(info["loss"]), float(info["grad_norm"])))
    return np.array(rows), jax.device_get(state)


@pytest.fixture(scope="module")
def alone(step, host_state, place, one_device, batches):
    return run(step, place(host_state, one_device), batches(one_device))


def agrees(found, expected):
    """Losses to 1e-5 relative over all steps, parameters to 1e-4."""
    np.testing.assert_allclose(found[0][:, 0], expected[0][:, 0], rtol=1e-5)
    np.testing.assert_allclose(found[0][:, 1], expected[0][:, 1], rtol=1e-3)
    for a, b in zip(jax.tree.leaves(found[1].params), jax.tree.leaves(expected[1].params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(8, 1, 1), (1, 8, 1), (2, 4, 1), (2, 2, 2)])
def test_every_mesh_of_eight_trains_like_one_device(sizes, alone, host_state, batches):
    config = small_config()
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = sizes
    config.mesh.fsdp_min_size = 256
    mesh = sharding.make_mesh(config)
    assert tuple(mesh.shape.values()) == sizes
    state = create_state(config, mesh)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(host_state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)  # born split, but of the same seed
    kernel = state.params["fusion"]["block_0"]["mlp"]["up"]["kernel"]
    assert kernel.addressable_shards[0].data.size * sizes[1] * sizes[2] == kernel.size
    agrees(run(compile_train_step(config, mesh), state, batches(mesh)), alone)


def test_muon_on_split_matrices_is_that_of_whole_ones():
    config = small_config()
    config.train.optimizer, config.mesh.fsdp, config.mesh.tensor, config.mesh.fsdp_min_size = "muon", 4, 2, 1
    optimiser, mesh = make_optimizer(config), sharding.make_mesh(config)
    shapes = {"up": {"kernel": (16, 24)}, "out": {"kernel": (24, 16)}, "blocks": {"up": {"kernel": (3, 16, 24)}}}
    keys, is_shape = iter(jax.random.split(jax.random.key(0), 3)), lambda x: isinstance(x, tuple)
    whole = {"net": jax.tree.map(lambda shape: jax.random.normal(next(keys), shape), shapes, is_leaf=is_shape)}
    split = jax.device_put(whole, sharding.state_sharding(whole, mesh, config))
    assert split["net"]["up"]["kernel"].sharding.spec == P("fsdp", "tensor")

    @jax.jit
    def update(params):
        state = optimiser.init(params)
        for _ in range(2):  # the first has learning rate 0
            updates, state = optimiser.update(params, state, params)
        return updates

    for a, b in zip(jax.tree.leaves(update(split)), jax.tree.leaves(update(whole)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-8)
        assert np.abs(a).max() > 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_a_batch_in_parts_trains_like_a_whole_one(devices, alone, host_state, place, batches):
    """The drift is that of all samples of the batch, whatever is computed at a time."""
    config = small_config()
    config.train.micro_batches = 2
    mesh = sharding.make_mesh(config, jax.devices()[:devices])
    agrees(run(compile_train_step(config, mesh), place(host_state, mesh), batches(mesh)), alone)


def test_a_batch_in_parts_keeps_one_parts_activations(small):
    """Sixteen observations in four parts take little more memory than four."""

    def kept(size, parts):
        config = small_config()
        config.data.batch_size, config.train.micro_batches = size, parts
        batch = jax.tree.map(jnp.asarray, fake_batch(config, size, prompts=2))
        params = jax.eval_shape(lambda: init_params(config, jax.random.key(0)))
        objective = make_objective(config)
        return residual_bytes(
            lambda p, b: objective_loss(p, b, jax.random.key(0), config, objective)[0], params, abstract(batch)
        )

    assert kept(16, 4) < 0.1 * kept(16, 1)


COLLECTIVE = re.compile(r"= (\S+) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(")


def elements(shapes: str) -> list[int]:
    """Sizes of the arrays in "(f32[8,16]{1,0}, f32[4])"."""
    return [math.prod(int(n) for n in dims.split(",") if n) for dims in re.findall(r"\[([\d,]*)\]", shapes)]


@pytest.mark.slow
@pytest.mark.parametrize("scan", [False, True])
def test_split_parameters_are_gathered_a_layer_at_a_time_and_nothing_else_moves(scan):
    """The compiled step on (1, 8, 1): weights come together for a layer, gradients are summed; images and samples stay."""
    config = small_config()
    config.mesh.data, config.mesh.fsdp, config.mesh.fsdp_min_size = 1, 8, 256
    config.data.batch_size, config.model.scan_layers = 64, scan
    config.model.fusion.depth = config.model.dit.depth = 3
    mesh = sharding.make_mesh(config)
    state = abstract_state(config, mesh)
    batch = abstract(fake_batch(config, 64, prompts=8))  # eight instructions, which every device is told
    text = compile_train_step(config, mesh).lower(state, batch, NO_FROZEN_INPUTS).compile().as_text()
    found = [(kind, n) for shape, kind in COLLECTIVE.findall(text) for n in elements(shape)]
    assert {"all-gather", "all-reduce"} <= {kind for kind, _ in found}
    assert not [kind for kind, _ in found if kind in ("all-to-all", "collective-permute")]
    layer = max(
        leaf.size // (leaf.shape[0] if "blocks" in jax.tree_util.keystr(path) else 1)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.params)
    )
    images = batch.observation.images.size
    samples = 64 * config.objective.drifting.samples * config.action.horizon * 10
    assert max(n for kind, n in found if kind == "all-gather") <= layer < samples < images


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_moments_and_average_lie_as_their_parameter(optimizer):
    config = small_config()
    config.train.optimizer = optimizer
    config.mesh.fsdp, config.mesh.fsdp_min_size = 4, 256
    state = abstract_state(config, sharding.make_mesh(config))
    specs = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        specs[jax.tree_util.keystr(path, simple=True, separator="/")] = leaf.sharding.spec
    params = {name.removeprefix("params/"): spec for name, spec in specs.items() if name.startswith("params/")}
    assert {P(), P("fsdp", None), P(None, "fsdp")} <= set(params.values())
    for prefix in ("ema_params/", "/mu/", "/nu/"):
        found = {name.split(prefix)[1]: spec for name, spec in specs.items() if prefix in name}
        if optimizer == "muon" and prefix == "/nu/":  # of vectors alone
            assert found == {name: params[name] for name in found} and not any(n.endswith("/kernel") for n in found)
        else:
            assert found == params
    assert specs["step"] == specs["rng"] == P()


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ("params/dit/block_0/mlp/up/kernel", (64, 128), P("fsdp", None)),  # columns are for tensor
        ("params/text/embed/embedding", (257, 64), P(None, "fsdp")),  # 257 does not divide by 4
        ("params/dit/block_0/mlp/up/kernel", (63, 127), P()),  # nothing divides
        ("params/dit/block_0/mlp/up/kernel", (8, 8), P()),  # too small to be worth it
        ("params/vision/norm/scale", (4096,), P()),
        ("params/dit/blocks/mlp/up/kernel", (4096, 64, 128), P(None, "fsdp", None)),  # never along the layers
        ("opt_state/1/0/mu/dit/block_0/mlp/up/kernel", (64, 128), P("fsdp", None)),
        ("params/noise_projection/kernel", (64, 128), P(None, "fsdp")),  # the larger axis
    ],
)
def test_rules(path, shape, spec):
    assert sharding.partition_spec(path, shape, {"fsdp": 4, "tensor": 1}, min_size=1000) == spec


def test_a_parameter_that_no_rule_reaches_is_named():
    tree = {"params": {"dit": {"gate_vector": jax.ShapeDtypeStruct((4,), jnp.float32)}}}
    config = small_config()
    with pytest.raises(ValueError, match=r"no sharding rule reaches parameter 'params/dit/gate_vector' \(4,\)"):
        sharding.state_sharding(tree, sharding.make_mesh(config), config)


@pytest.mark.parametrize(("data", "fsdp"), [(3, 2), (-1, 3), (4, 4), (-1, -1), (0, 8)])
def test_a_mesh_that_does_not_fit_is_refused(data, fsdp):
    config = small_config()
    config.mesh.data, config.mesh.fsdp = data, fsdp
    with pytest.raises(ValueError, match=rf"config.mesh \(data={data}, fsdp={fsdp}, tensor=1\) does not fit 8 devices"):
        sharding.make_mesh(config)


def test_a_batch_that_does_not_divide_is_refused():
    config = small_config()
    config.data.batch_size = 12
    with pytest.raises(ValueError, match="config.data.batch_size 12 does not divide over 8 devices"):
        sharding.make_mesh(config)


def test_one_axis_takes_what_the_other_leaves():
    config = small_config()
    config.mesh.data, config.mesh.fsdp = 2, -1
    assert dict(sharding.make_mesh(config).shape) == {"data": 2, "fsdp": 4, "tensor": 1}
    assert dict(sharding.make_mesh(config, jax.devices()[:4]).shape) == {"data": 2, "fsdp": 2, "tensor": 1}
