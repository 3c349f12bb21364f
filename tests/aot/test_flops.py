"""Counts that a reader can do in the head: a product of 4 x 5 and 5 x 6 is 2 * 4 * 5 * 6 = 240 operations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from drifting_vla_jax.aot.flops import flops, residual_bytes

PRODUCT = 2 * 8 * 8 * 8  # of two 8 x 8 matrices
MATRIX = 8 * 8 * 4  # bytes of one


def shaped(*shape, dtype="float32"):
    return jax.ShapeDtypeStruct(shape, dtype)


SQUARE, STACK = shaped(8, 8), shaped(5, 8, 8)


def layers(weights, x, layer=lambda x, w: jnp.sin(x @ w)):
    """x -> sin(x @ w) for each weight, as one scan; then a sum."""
    return jnp.sum(jax.lax.scan(lambda x, w: (layer(x, w), None), x, weights)[0])


@pytest.mark.parametrize(
    ("equation", "shapes", "expected"),
    [
        ("ij,jk->ik", [(4, 5), (5, 6)], 240),
        ("bij,bjk->bik", [(3, 4, 5), (3, 5, 6)], 3 * 240),
        ("bij,jk->bik", [(3, 4, 5), (5, 6)], 3 * 240),
        ("i,i->", [(7,), (7,)], 14),
        ("bqhk,bshk->bhqs", [(2, 3, 4, 5), (2, 6, 4, 5)], 2 * 2 * 4 * 3 * 6 * 5),
    ],
)
def test_products(equation, shapes, expected):
    assert flops(lambda a, b: jnp.einsum(equation, a, b), *(shaped(*s) for s in shapes)) == expected


def test_elementwise_work_is_free():
    assert flops(lambda x: jnp.sum(jnp.exp(x) + x), SQUARE) == 0


@pytest.mark.parametrize(("stride", "side"), [(1, 12), (2, 6), (3, 4)])
def test_a_convolution_and_its_gradients(stride, side):
    """Each of side^2 * 5 results takes 3 * 3 * 4 products, for 2 images; either gradient costs as much."""

    def convolve(kernel, images):
        options = {"padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        return jax.lax.conv_general_dilated(images, kernel, (stride, stride), **options)

    kernel, images = shaped(3, 3, 4, 5), shaped(2, 12, 12, 4)
    forward = 2 * (2 * side**2 * 5) * (3 * 3 * 4)
    assert flops(convolve, kernel, images) == forward
    assert flops(jax.grad(lambda *a: jnp.sum(convolve(*a) ** 2), (0, 1)), kernel, images) == 3 * forward


def test_a_grouped_convolution():
    """In each of 4 channels 6 * 6 results of 3 * 3 products."""
    module = nn.Conv(4, (3, 3), feature_group_count=4, use_bias=False)
    images = shaped(1, 6, 6, 4)
    params = jax.eval_shape(module.init, jax.random.key(0), images)
    assert flops(module.apply, params, images) == 2 * 4 * 36 * 9


def test_a_loop_counts_as_often_as_it_runs():
    assert flops(layers, STACK, SQUARE) == 5 * PRODUCT

    def twice(weights, x):
        return jax.lax.scan(lambda total, _: (total + layers(weights, x), None), 0.0, length=2)[0]

    assert flops(twice, STACK, SQUARE) == 2 * 5 * PRODUCT
    assert flops(lambda x: jax.lax.fori_loop(0, 7, lambda _, y: y @ x, x), SQUARE) == 7 * PRODUCT


def test_a_loop_of_unknown_length_counts_once():
    """One product in its condition, one in its body."""
    assert flops(lambda x: jax.lax.while_loop(lambda y: jnp.sum(y @ y) < 1, lambda y: y @ x, x), SQUARE) == 2 * PRODUCT


def test_the_dearest_branch_counts():
    branches = [lambda x: x, lambda x: x @ x @ x, lambda x: x @ x]
    assert flops(lambda i, x: jax.lax.switch(i, branches, x), shaped(dtype="int32"), SQUARE) == 2 * PRODUCT


def test_functions_inside_functions_and_many_at_once():
    assert flops(jax.jit(lambda x: jax.jit(jnp.matmul)(x, x) @ x), SQUARE) == 2 * PRODUCT
    assert flops(jax.vmap(layers), shaped(3, 5, 8, 8), shaped(3, 8, 8)) == 3 * 5 * PRODUCT


def test_what_no_result_needs_is_not_counted():
    """The gradient of sum(x @ w) by x needs neither the sum nor the product: the sum of w's rows is a product with ones."""
    assert flops(lambda x: (x @ x, x + 1)[1], SQUARE) == 0
    assert flops(jax.grad(lambda x, w: jnp.sum(x @ w)), SQUARE, SQUARE) == PRODUCT


def test_the_work_of_all_devices_counts():
    mesh = jax.make_mesh((4, 2), ("data", "other"), axis_types=(AxisType.Auto,) * 2)
    local = jax.shard_map(lambda x, w: x @ w, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"))
    assert flops(local, shaped(16, 8), SQUARE) == 8 * (2 * 4 * 8 * 8)  # eight devices, each with four rows


def test_a_gradient_costs_three_times_as_much_and_four_times_if_layers_are_computed_again():
    gradient = jax.value_and_grad(layers, (0, 1))
    assert flops(gradient, STACK, SQUARE) == 3 * 5 * PRODUCT

    def again(weights, x):
        return layers(weights, x, jax.checkpoint(lambda x, w: jnp.sin(x @ w), prevent_cse=False))

    assert flops(jax.value_and_grad(again, (0, 1)), STACK, SQUARE) == 4 * 5 * PRODUCT


def test_fused_attention_counts_as_that_of_xla(monkeypatch):
    """Traced as on a GPU; going back it computes the scores a second time: 2 + 5 products in place of 2 + 4."""
    module = "jax._src.cudnn.fused_attention_stablehlo"
    monkeypatch.setattr(f"{module}.check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(f"{module}.check_compute_capability", lambda _: True)

    def attend(implementation):
        return lambda q, k, v: jax.nn.dot_product_attention(q, k, v, implementation=implementation)

    def gradient(implementation):
        return jax.grad(lambda *qkv: jnp.sum(attend(implementation)(*qkv).astype(jnp.float32) ** 2), (0, 1, 2))

    q, k = shaped(2, 4, 3, 16, dtype="bfloat16"), shaped(2, 6, 3, 16, dtype="bfloat16")
    one = 2 * 2 * 3 * 4 * 6 * 16
    assert flops(attend("cudnn"), q, k, k) == flops(attend("xla"), q, k, k) == 2 * one
    assert (flops(gradient("cudnn"), q, k, k), flops(gradient("xla"), q, k, k)) == (7 * one, 6 * one)


def test_xla_counts_the_same_where_there_is_no_loop():
    """Within 3 %: XLA counts the activations too."""

    def loss(weights, x):
        for w in weights:
            x = jax.nn.gelu(x @ w)
        return jnp.mean(x**2)

    args = [shaped(512, 512)] * 3, shaped(256, 512)
    gradient = jax.grad(loss)
    xla = jax.jit(gradient).lower(*args).cost_analysis()["flops"]
    assert flops(gradient, *args) == pytest.approx(xla, rel=0.03)
    assert (
        flops(gradient, *args) == (3 + 3 + 2) * 2 * 256 * 512 * 512
    )  # forward; by weights; by all inputs but the first


def mlp(params, x):
    """[10, 8] -> sine of [10, 16] -> sine of [10, 6] -> sum."""
    return jnp.sum(jnp.sin(jnp.sin(x @ params["up"]) @ params["down"]))


MLP, INPUT = {"up": shaped(8, 16), "down": shaped(16, 6)}, shaped(10, 8)


def test_an_mlp_keeps_what_its_derivatives_need():
    """Of 10 * 16 hidden numbers the sine (for ``down``) and the cosine (for ``up``), of 10 * 6 results the cosine."""
    assert residual_bytes(mlp, MLP, INPUT) == 4 * (2 * 160 + 60)


def test_inputs_are_there_anyway_and_jit_changes_nothing():
    assert residual_bytes(lambda w, x: jnp.sum(x @ w), MLP["up"], INPUT) == 0
    assert residual_bytes(jax.jit(mlp), MLP, INPUT) == residual_bytes(mlp, MLP, INPUT)


def test_a_copy_of_the_weights_in_half_precision_is_kept():
    """``up`` needs what ``down`` was multiplied as: 16 * 6 numbers of two bytes; ``down`` needs 10 * 16 hidden ones."""

    def half(params, x):
        up, down, x = (y.astype(jnp.bfloat16) for y in (params["up"], params["down"], x))
        return jnp.sum((x @ up @ down).astype(jnp.float32))

    assert residual_bytes(half, MLP, INPUT) == 2 * (16 * 6 + 10 * 16 + 10 * 8)  # and x in half precision


def test_checkpointing_keeps_inputs_alone():
    assert residual_bytes(jax.checkpoint(mlp), MLP, INPUT) == 0
    plain = residual_bytes(layers, STACK, SQUARE)
    assert plain == 5 * 2 * MATRIX  # each layer's input and cosine

    def again(weights, x):
        return layers(weights, x, jax.checkpoint(lambda x, w: jnp.sin(x @ w), prevent_cse=False))

    assert residual_bytes(again, STACK, SQUARE) == 5 * MATRIX  # each layer's input


def test_what_is_not_differentiated_keeps_nothing():
    """A frozen encoder in front: its five layers are run, not remembered."""
    trained = {"head": SQUARE}

    def loss(params, frozen, x):
        features = jax.lax.scan(lambda x, w: (jnp.sin(x @ w), None), x, frozen)[0]
        return jnp.sum(features @ params["head"])

    assert residual_bytes(loss, trained, STACK, SQUARE) == MATRIX  # what the encoder made
    assert flops(jax.value_and_grad(loss), trained, STACK, SQUARE) == (5 + 2) * PRODUCT


def test_nothing_is_allocated():
    """A product of matrices of a terabyte each."""
    huge = shaped(500_000, 500_000)
    assert flops(jnp.matmul, huge, huge) == 2 * 500_000**3
    assert residual_bytes(lambda w, x: jnp.sum(jnp.sin(x @ w)), huge, huge) == 4 * 500_000**2
