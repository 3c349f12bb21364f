"""Each layer against its definition, in numbers small enough to check."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.models import layers
from drifting_vla_jax.models.dit import DiT, DiTBlock
from drifting_vla_jax.models.layers import (
    Attention,
    Dense,
    RMSNorm,
    attend,
    attention_cpu,
    attention_cudnn,
    no_custom_kernels,
    normalise,
    platform,
    rope,
    sinusoid,
    space_to_depth,
    stack,
)
from drifting_vla_jax.types import REMAT

F32 = jnp.float32


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def initialised(module, *args):
    """Fresh parameters and a compiled ``apply``."""
    return jax.jit(module.init)(jax.random.key(0), *args), jax.jit(module.apply)


def test_dense_is_linens_dense():
    x, params = draw(0, 2, 3, 4), {"params": {"kernel": draw(1, 4, 5), "bias": draw(2, 5)}}
    np.testing.assert_allclose(Dense(5, F32).apply(params, x), nn.Dense(5).apply(params, x), rtol=1e-5)


def test_an_adapter_starts_as_nothing_and_adds_a_product_of_its_rank():
    """lora_up is zero at first; then 2 x @ lora_down @ lora_up is added."""
    x, dense = draw(0, 2, 3, 4), Dense(5, F32, lora=2)
    variables, apply = initialised(dense, x)
    params = variables["params"]
    assert params["lora_down"].shape == (4, 2) and params["lora_up"].shape == (2, 5) and not params["lora_up"].any()
    plain = {"params": {"kernel": params["kernel"], "bias": params["bias"]}}
    np.testing.assert_array_equal(apply(variables, x), jax.jit(Dense(5, F32).apply)(plain, x))
    up = draw(1, 2, 5)
    added = apply({"params": {**params, "lora_up": up}}, x) - apply(variables, x)
    np.testing.assert_allclose(added, 2 * x @ params["lora_down"] @ up, rtol=1e-4, atol=1e-5)


def test_rms_norm_by_hand():
    """rms of (3, 4) is sqrt(12.5)."""
    x = jnp.array([[3.0, 4.0]])
    np.testing.assert_allclose(normalise(x), x / 12.5**0.5, rtol=1e-6)
    out = RMSNorm().apply({"params": {"scale": jnp.array([1.0, 2.0])}}, 10 * x)
    np.testing.assert_allclose(out, x / 12.5**0.5 * jnp.array([1.0, 2.0]), rtol=1e-6)


def test_rope_makes_the_product_depend_on_the_distance_alone():
    q, k = draw(0, 1, 1, 1, 8), draw(1, 1, 1, 1, 8)

    @jax.jit
    def product(i, j):
        return jnp.sum(rope(q, jnp.array([i])) * rope(k, jnp.array([j])))

    np.testing.assert_allclose(product(7.0, 4.0), product(103.0, 100.0), rtol=1e-4)
    assert abs(product(7.0, 4.0) - product(7.0, 5.0)) > 1e-3
    np.testing.assert_allclose(product(5.0, 5.0), jnp.sum(q * k), rtol=1e-5)


def test_queries_and_keys_are_normalised():
    """Making the query and key maps a thousand times larger changes nothing."""
    x = draw(0, 2, 5, 8)
    variables, apply = initialised(Attention(2, F32), x)
    larger = jax.tree_util.tree_map_with_path(
        lambda path, w: w * 1000 if path[-2].key in ("query", "key") else w, variables
    )
    np.testing.assert_allclose(apply(larger, x), apply(variables, x), rtol=1e-3, atol=1e-5)


def test_masked_context_is_not_seen():
    x, context, mask = draw(0, 1, 3, 8), draw(1, 1, 4, 8), jnp.array([[True, True, False, False]])
    variables, apply = initialised(Attention(2, F32), x, context, mask)
    out = apply(variables, x, context, mask)
    np.testing.assert_allclose(out, apply(variables, x, context.at[:, 2:].add(100.0), mask), rtol=1e-5)
    assert np.abs(out - apply(variables, x, context.at[:, 0].add(1.0), mask)).max() > 1e-3


class Layer(nn.Module):
    """The least that has a matrix and something to compute again."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x):
        return x + jnp.sin(Dense(x.shape[-1], self.dtype, name="dense")(x))


class Stacked(nn.Module):
    """Three layers."""

    scan: bool
    policy: str

    @nn.compact
    def __call__(self, x):
        return stack(Layer, 3, self.scan, self.policy, {"dtype": F32})(x)


def value_and_gradient(scan, policy, params, x):
    module = Stacked(scan, policy)
    return jax.jit(jax.value_and_grad(lambda params: jnp.sum(jnp.sin(module.apply({"params": params}, x)))))(params)


@pytest.mark.parametrize(("n", "m", "causal"), [(5, 7, False), (7, 7, False), (7, 7, True), (4, 6, False)])
def test_attention_of_odd_lengths_is_that_of_even_ones(n, m, causal):
    """What cuDNN is given in place of lengths that it cannot differentiate: the same result, the same gradients."""
    q, k, v = (jax.random.normal(jax.random.key(i), (2, length, 3, 4)) for i, length in enumerate((n, m, m)))

    def gradients(function):
        return jax.grad(lambda *qkv: jnp.sum(jnp.sin(function(*qkv))), (0, 1, 2))(q, k, v)

    def even(*qkv):
        return attention_cudnn(*qkv, causal, implementation="xla")

    def plain(*qkv):
        return attend(*qkv, causal=causal)

    np.testing.assert_allclose(even(q, k, v), plain(q, k, v), atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients(even), gradients(plain))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(("masked", "causal"), [(False, False), (True, False), (False, True)])
def test_attention_on_cpu_is_jaxs_own(masked, causal, dtype):
    """The same result and gradients; a row whose keys are all masked looks at all of them alike, as there."""
    q, k, v = (jax.random.normal(jax.random.key(i), (3, 7, 2, 4)).astype(dtype) for i in range(3))
    mask = jnp.arange(7) < jnp.array([7, 4, 0])[:, None] if masked else None
    mask = None if mask is None else mask[:, None, None]

    def value_and_gradients(function):
        return jax.value_and_grad(lambda *qkv: jnp.sum(jnp.sin(function(*qkv).astype(jnp.float32))), (0, 1, 2))(q, k, v)

    def own(*qkv):
        return jax.nn.dot_product_attention(*qkv, mask=mask, is_causal=causal, implementation="xla")

    def flat(*qkv):
        return attention_cpu(*qkv, mask, causal)

    assert flat(q, k, v).dtype == dtype
    tolerance = 1e-5 if dtype == jnp.float32 else 3e-2
    np.testing.assert_allclose(flat(q, k, v).astype(float), own(q, k, v).astype(float), atol=tolerance)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a.astype(float), b.astype(float), atol=3 * tolerance, rtol=tolerance),
        value_and_gradients(flat),
        value_and_gradients(own),
    )


def test_attention_is_told_what_it_is_compiled_for_by_the_mesh():
    device = jax.sharding.AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="gpu")
    mesh = jax.sharding.AbstractMesh((1, 1), ("data", "fsdp"), abstract_device=device)
    assert platform() == "cpu"
    with jax.sharding.use_abstract_mesh(mesh):
        assert platform() == "gpu"


def test_what_is_portable_has_nobodys_own_kernels(monkeypatch):
    """Traced for a GPU in half precision, which cuDNN would take."""
    asked = []
    monkeypatch.setattr(layers, "platform", lambda: "gpu")
    monkeypatch.setattr(layers, "attention_cudnn", lambda q, k, v, causal, name: asked.append(name) or q)
    q, k, v = (draw(i, 1, 4, 2, 8).astype(jnp.bfloat16) for i in range(3))
    with no_custom_kernels():
        attend(q, k, v)
    assert asked == []
    attend(q, k, v)
    assert asked == ["cudnn"]


def test_scanned_layers_are_the_layers_one_after_the_other():
    x = draw(0, 2, 5, 8)
    variables, apply = initialised(Stacked(True, "none"), x)
    stacked = variables["params"]["blocks"]
    assert stacked["dense"]["kernel"].shape == (3, 8, 8)
    apart = {f"block_{i}": jax.tree.map(lambda w, i=i: w[i], stacked) for i in range(3)}
    assert jax.tree.structure(apart) == jax.tree.structure(
        jax.eval_shape(Stacked(False, "none").init, jax.random.key(0), x)["params"]
    )
    one_by_one = jax.jit(Stacked(False, "none").apply)({"params": apart}, x)
    np.testing.assert_allclose(apply(variables, x), one_by_one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scan", [True, False])
def test_what_is_computed_again_changes_no_gradient(scan):
    x = draw(0, 2, 5, 8)
    params = jax.jit(Stacked(scan, "none").init)(jax.random.key(0), x)["params"]
    expected = value_and_gradient(scan, "none", params, x)
    for policy in REMAT:
        found = value_and_gradient(scan, policy, params, x)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


def test_a_block_is_the_identity_at_initialisation():
    """adaLN-Zero: the gates are zero, whatever the condition says."""
    x, condition = draw(0, 2, 3, 4, 8), draw(1, 2, 1, 8)
    variables, apply = initialised(DiTBlock(2, 3.0, F32), x, condition)
    assert not np.any(variables["params"]["modulation"]["dense"]["kernel"])
    np.testing.assert_array_equal(apply(variables, x, condition), x)
    variables["params"]["modulation"] = jax.tree.map(lambda w: w + 0.1, variables["params"]["modulation"])
    assert np.abs(apply(variables, x, condition) - x).max() > 0.01


def test_one_condition_per_observation_is_the_same_as_one_per_sample():
    x, condition = draw(0, 2, 3, 4, 8), draw(1, 2, 1, 8)
    variables, apply = initialised(DiT(1, 2, 3.0, False, "none", F32), x, condition)
    variables = jax.tree.map(lambda w: w + 0.1 * draw(2, *w.shape), variables)
    np.testing.assert_allclose(
        apply(variables, x, condition), apply(variables, x, jnp.repeat(condition, 3, axis=1)), rtol=1e-5, atol=1e-5
    )


def test_sinusoid_of_zero():
    assert sinusoid(jnp.zeros(()), 6).tolist() == [0, 0, 0, 1, 1, 1]


def test_space_to_depth_keeps_each_square_together():
    image = jnp.arange(16.0).reshape(1, 4, 4, 1)
    assert space_to_depth(image, 2)[0].tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7]], [[8, 9, 12, 13], [10, 11, 14, 15]]]
