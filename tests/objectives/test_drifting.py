"""The drifting loss against the official numbers, against an oracle in float64, and against what the paper says it is."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from drifting_vla_jax.objectives.drifting.affinity import Points
from drifting_vla_jax.objectives.drifting.blockwise import drift_by_strips
from drifting_vla_jax.objectives.drifting.loss import (
    PRODUCTS_LIMIT,
    drift_by_products,
    drifting_field,
    drifting_loss,
    raw_drift,
)
from tests.objectives.oracle import drift_and_loss

GOLDEN = np.load(Path(__file__).parents[1] / "fixtures" / "drifting_loss.npz")
CASES = sorted({key.split("/")[0] for key in GOLDEN.files})


@functools.partial(jax.jit, static_argnames=("temperatures", "in_reach"))
def loss_and_grad(gen, pos, neg=None, temperatures=(0.02, 0.05, 0.2), in_reach=False, **options):
    def total(gen):
        loss, info = drifting_loss(gen, pos, neg, temperatures=temperatures, in_reach=in_reach, **options)
        return loss.sum(), (loss, info)

    (_, (loss, info)), grad = jax.value_and_grad(total, has_aux=True)(gen)
    return loss, grad, info


@pytest.mark.parametrize("case", CASES)
def test_equals_the_official_implementation(case):
    """Loss, gradient and diagnostics of lambertae/drifting, drift_loss.py, recorded in fp32."""
    z = {key.split("/")[1]: GOLDEN[key] for key in GOLDEN.files if key.startswith(case + "/")}
    z = {key: jnp.asarray(value) for key, value in z.items()}
    options = {name: z[name] for name in ("weight_gen", "weight_pos", "weight_neg") if name in z}
    loss, grad, info = loss_and_grad(
        z["gen"], z["pos"], z.get("neg"), temperatures=tuple(z["temperatures"].tolist()), **options
    )
    np.testing.assert_allclose(loss, z["loss"], rtol=1e-4)
    np.testing.assert_allclose(grad, z["grad"], rtol=0, atol=1e-3 * np.abs(z["grad"]).max())
    np.testing.assert_allclose(info["scale"], z["scale"], rtol=1e-4)
    np.testing.assert_allclose(info["drift_sq"], z["drift_sq"], rtol=1e-4)


def random_case(seed):
    """Sizes, offsets, weights and temperatures drawn at random; a few shapes, so that little is compiled."""
    rng = np.random.default_rng(seed)
    b, g, p, q, d = ((3, 4, 1, 0, 6), (2, 8, 1, 0, 40), (1, 5, 3, 2, 2), (2, 2, 2, 4, 16), (1, 40, 50, 0, 3))[seed % 5]
    spread, offset = 10 ** rng.uniform(-2, 1), rng.normal(size=d) * 10 ** rng.uniform(-1, 1)

    def points(n):
        return (spread * rng.normal(size=(b, n, d)) + offset).astype(np.float32)

    def weights(n):
        return rng.uniform(0, 3, (b, n)).astype(np.float32)

    case = {"gen": points(g), "pos": points(p) + np.float32(spread * rng.normal()), "neg": points(q)}
    if seed % 3 == 0:
        case |= {"weight_gen": weights(g), "weight_pos": weights(p), "weight_neg": weights(q)}
    return case | {"temperatures": ((0.02, 0.05, 0.2), (0.2, 0.5, 1.0), (0.5,))[seed % 3]}


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_equals_the_oracle(first):
    """200 random cases, both ways of working it out, against float64."""
    for seed in range(first, first + 20):
        case = random_case(seed)
        loss, grad, info = loss_and_grad(**case)
        expected_loss, expected_grad, scale, drift_sq = drift_and_loss(**case)
        np.testing.assert_allclose(loss, expected_loss, rtol=2e-5, err_msg=f"seed {seed}")
        np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=1e-3 * np.abs(expected_grad).max())
        np.testing.assert_allclose(info["scale"], scale, rtol=1e-5)
        np.testing.assert_allclose(info["drift_sq"], drift_sq, rtol=1e-4)


def _points(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


@jax.jit
def field(x, y_pos, y_neg):
    return drifting_field(x, y_pos, y_neg, 1.0)


def test_the_field_is_algorithm_2():
    """Worked through by hand for three points, two positives, the points as negatives, tau 1 and tau 0.2."""
    x, y_pos = jnp.array([[[0.0, 0], [1, 0], [0, 2]]]), jnp.array([[[1.0, 1], [-1, 0.5]]])
    v = drifting_field(x, y_pos, x, 1.0, mask_self=True)
    np.testing.assert_allclose(v[0], [[-0.452481, 0.007123], [0.179269, 0.112631], [-0.084257, 0.195682]], atol=2e-3)
    v = drifting_field(x, y_pos, x, 0.2, mask_self=True)
    np.testing.assert_allclose(v[0], [[-0.890166, 0.231322], [0.450293, 0.435473], [0.003260, 0.007153]], atol=4e-3)


@pytest.mark.parametrize("n", [6, 70])  # by products, and in strips
def test_the_raw_drift_is_algorithm_2_in_mean_distances(n):
    gen, pos = _points(0, 1, n, 3), _points(1, 1, 2, 3) + 1.0
    taus = (0.2, 0.5)
    fields, rms = jax.jit(lambda gen: raw_drift(gen, pos, temperatures=taus))(gen)
    scale = float(loss_and_grad(gen, pos)[2]["scale"])
    for i, tau in enumerate(taus):
        expected = drifting_field(gen, pos, gen, tau * scale, mask_self=True)
        np.testing.assert_allclose(fields[i], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_allclose(rms[i], np.sqrt(np.mean(np.square(expected))), rtol=1e-3)


def test_no_raw_drift_where_samples_have_settled():
    """Unlike the field of the loss, which always has unit size."""
    pos = _points(0, 4, 1, 5)
    drift = jax.jit(lambda gen: raw_drift(gen, pos, temperatures=(0.2,)))
    near, far = (drift(pos + d * _points(1, 4, 8, 5)) for d in (1e-4, 1.0))
    assert np.abs(near[0]).max() < 1e-3 and near[1][0] < 1e-3 < 0.05 < far[1][0]


def test_hand_computed_field_of_one_sample_between_two_points():
    """x = 0 in the middle of y- = -1 and y+ = 1: softmax over y gives 1/2 each, over x gives 1, so A = sqrt(1/2).

    W+ = W- = 1/2, V = 1/2 * 1 - 1/2 * (-1) = 1.
    """
    x, negative, positive = (jnp.full((1, 1, 1), value) for value in (0.0, -1.0, 1.0))
    np.testing.assert_allclose(field(x, positive, negative), 1.0, rtol=1e-6)


def test_swapping_positives_and_negatives_turns_the_field_round():
    x, a, b = _points(0, 2, 5, 3), _points(1, 2, 4, 3), _points(2, 2, 6, 3) + 1
    np.testing.assert_allclose(field(x, a, b), -field(x, b, a), atol=1e-6)


def test_no_field_where_positives_are_the_negatives():
    x, a = _points(0, 2, 5, 3), _points(1, 2, 4, 3)
    np.testing.assert_allclose(field(x, a, a), 0.0, atol=1e-6)
    np.testing.assert_allclose(field(x, x, x), 0.0, atol=1e-6)  # the samples are the data: nothing moves


def test_one_positive_pulls_toward_itself_and_off_the_mean_of_the_others():
    """Closed form for p = 1: V_i = S+ S- (y - m_i), m_i the affinity-weighted mean of the negatives."""
    x, y = _points(0, 1, 6, 4), _points(1, 1, 1, 4)
    v = drifting_field(x, y, x, 0.7, mask_self=True)[0]
    d = np.linalg.norm(x[0][:, None] - np.concatenate([x[0], y[0]])[None], axis=-1)
    kernel = np.exp(-(d + 1e9 * np.eye(6, 7)) / 0.7)
    a = np.sqrt(kernel / kernel.sum(1, keepdims=True) * kernel / kernel.sum(0))
    negatives, positive = a[:, :6], a[:, 6]
    mean = negatives @ np.asarray(x[0]) / negatives.sum(1, keepdims=True)
    expected = (positive * negatives.sum(1))[:, None] * (np.asarray(y[0]) - mean)
    np.testing.assert_allclose(v, expected, atol=2e-3)  # the official floor under A


def random_rotation(d):
    return np.linalg.qr(np.random.default_rng(5).standard_normal((d, d)))[0].astype(np.float32)


@pytest.mark.parametrize(
    ("move", "turn"),
    [
        (lambda a: a + 7.0, lambda v: v),
        (lambda a: a @ random_rotation(6), lambda v: v @ random_rotation(6)),
        (lambda a: 30.0 * a, lambda v: v / 30.0),
    ],
    ids=["translation", "rotation", "scaling"],
)
def test_the_drift_moves_with_the_space_of_actions(move, turn):
    """The loss and its drift do not know where the origin is, which way is up, or in which units actions are."""
    gen, pos = _points(0, 3, 8, 6), _points(1, 3, 2, 6)
    loss, grad, _ = loss_and_grad(gen, pos)
    moved_loss, moved_grad, _ = loss_and_grad(move(gen), move(pos))
    np.testing.assert_allclose(moved_loss, loss, rtol=1e-4)
    np.testing.assert_allclose(moved_grad, turn(grad), atol=2e-4 * np.abs(moved_grad).max())


def test_the_order_of_points_and_of_observations_means_nothing():
    gen, pos = _points(0, 3, 8, 6), _points(1, 3, 4, 6)
    order, rows = np.array([3, 1, 7, 0, 2, 6, 5, 4]), np.array([2, 0, 1])
    loss, grad, _ = loss_and_grad(gen, pos)
    shuffled_loss, shuffled_grad, _ = loss_and_grad(gen[rows][:, order], pos[rows][:, ::-1])
    np.testing.assert_allclose(shuffled_loss, loss[rows], rtol=1e-5)
    np.testing.assert_allclose(shuffled_grad, grad[rows][:, order], atol=1e-5 * np.abs(grad).max())


def test_no_gradient_reaches_positives_negatives_or_the_field():
    """The gradient is that of the squared distance to a fixed goal, -2 V / (unit g d), where the loss is the mean of V^2."""
    gen, pos, neg = _points(0, 2, 4, 6), _points(1, 2, 1, 6), _points(2, 2, 3, 6)
    by_pos, by_neg = jax.jit(jax.grad(lambda p, n: drifting_loss(gen, p, n)[0].sum(), argnums=(0, 1)))(pos, neg)
    assert not by_pos.any() and not by_neg.any()
    loss, grad, info = loss_and_grad(gen, pos, neg)
    unit = float(info["scale"]) / 6**0.5
    np.testing.assert_allclose(jnp.sum(grad**2, (1, 2)) * unit**2 * 4 * 6 / 4, loss, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_field_is_float32_whatever_comes_in(dtype):
    gen, pos = _points(0, 2, 4, 6).astype(dtype), _points(1, 2, 1, 6).astype(dtype)
    loss, _, info = loss_and_grad(gen, pos)
    assert loss.dtype == info["drift_sq"].dtype == info["scale"].dtype == jnp.float32
    exact, _, _ = loss_and_grad(gen.astype(jnp.float32), pos.astype(jnp.float32))
    np.testing.assert_array_equal(loss, exact)
    assert drifting_field(gen, pos, gen, 1.0).dtype == jnp.float32


@pytest.mark.parametrize("samples", [3, 2 * PRODUCTS_LIMIT])
def test_finite_where_all_points_coincide(samples):
    gen = jnp.ones((1, samples, 4))
    loss, grad, _ = loss_and_grad(gen, gen[:, :1])
    assert np.isfinite(loss).all() and np.isfinite(grad).all()


def test_one_sample_alone_is_pulled_with_constant_force():
    """Golden case of the official floor: g = p = 1 gives loss 9 for three temperatures, whatever the distance."""
    for distance in (0.1, 5.0):
        loss, _, _ = loss_and_grad(jnp.zeros((1, 1, 2)), jnp.full((1, 1, 2), distance))
        np.testing.assert_allclose(loss, 9.0, rtol=1e-4)


def test_masked_coordinates_neither_measure_nor_move():
    """What a mask leaves out may be anything; the rest behaves as if it had never been there."""
    gen, pos = _points(0, 2, 4, 6), _points(1, 2, 1, 6)
    mask = jnp.array([[1.0, 1, 1, 0, 0, 0]] * 2)
    loss, grad, info = loss_and_grad(gen, pos, mask=mask)
    short_loss, short_grad, short_info = loss_and_grad(gen[..., :3], pos[..., :3])
    np.testing.assert_allclose(loss, short_loss, rtol=1e-5)
    np.testing.assert_allclose(grad[..., :3], short_grad, rtol=1e-4, atol=1e-6)
    assert not grad[..., 3:].any()
    np.testing.assert_allclose(info["drift_sq"], short_info["drift_sq"], rtol=1e-5)


def test_an_observation_that_is_masked_whole_is_not_there():
    gen, pos = _points(0, 3, 4, 6), _points(1, 3, 1, 6)
    mask = jnp.ones((3, 6)).at[1].set(0.0)
    loss, grad, info = loss_and_grad(gen, pos, mask=mask)
    rest, rest_grad, rest_info = loss_and_grad(gen[::2], pos[::2])
    np.testing.assert_allclose(loss, [rest[0], 0.0, rest[1]], rtol=1e-5)
    np.testing.assert_allclose(grad[::2], rest_grad, rtol=1e-4, atol=1e-6)
    assert not grad[1].any()
    np.testing.assert_allclose(info["scale"], rest_info["scale"], rtol=1e-6)


def test_in_reach_each_observation_has_its_own_unit_of_temperature():
    """Two observations with the same samples, the expert near or far; alone, each is a plain loss at a tau of its own."""
    gen = jnp.concatenate([_points(0, 1, 8, 6)] * 2)
    pos = jnp.stack([gen[0, :1] + 0.1, gen[0, :1] + 4.0])
    _, _, both = loss_and_grad(gen, pos, temperatures=(0.5,), in_reach=True)
    for i in range(2):
        _, alone, info = loss_and_grad(gen[i : i + 1], pos[i : i + 1], temperatures=(0.5,), in_reach=True)
        nearest = np.linalg.norm(gen[i] - pos[i], axis=-1).min()
        _, plain, _ = loss_and_grad(
            gen[i : i + 1], pos[i : i + 1], temperatures=(float(0.5 * nearest / info["scale"]),), in_reach=False
        )
        np.testing.assert_allclose(alone, plain, rtol=1e-3, atol=1e-4 * np.abs(plain).max())
    assert np.isfinite(both["drift_sq"]).all()


def some_points(b, g, p, d, reach):
    y = _points(3, b, g + p, d)
    weight = 0.5 + jnp.abs(_points(4, b, g + p))
    return Points(y[:, :g], y[:, g:], weight, g, reach, jnp.float32(b * g * d), jnp.float32(d))


@pytest.mark.parametrize("reach", [False, True])
@pytest.mark.parametrize(("b", "g", "p", "strip"), [(1, 33, 20, 200), (2, 16, 9, 10**6), (3, 10, 7, 1)])
def test_strips_are_the_dense_form(b, g, p, strip, reach):
    """Whatever the height of a strip: the last one part empty, one strip for all, one sample a strip."""
    points, temperatures = some_points(b, g, p, 5, reach), jnp.array([0.05, 0.5])
    whole = jax.jit(lambda x: drift_by_products(points._replace(x=x), temperatures))(points.x)
    strips = jax.jit(lambda x: drift_by_strips(points._replace(x=x), temperatures, strip))(points.x)
    np.testing.assert_allclose(strips.total, whole.total, rtol=1e-5, atol=1e-5 * np.abs(whole.total).max())
    for name in ("scale", "drift_sq"):
        np.testing.assert_allclose(strips.info[name], whole.info[name], rtol=1e-5)


def test_no_matrix_of_all_pairs_is_made_for_large_sets():
    n, d = 8192, 8
    shape = jax.ShapeDtypeStruct((1, n, d), jnp.float32)
    compiled = jax.jit(lambda x, y: drifting_loss(x, y)[0]).lower(shape, shape).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < n * n  # a byte a pair; one float matrix of all has eight


def test_eight_devices_agree_with_one_and_exchange_only_numbers():
    gen, pos = _points(0, 64, 8, 24), _points(1, 64, 1, 24)
    loss, grad, info = loss_and_grad(gen, pos)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))

    def total(gen, pos):
        loss, info = drifting_loss(gen, pos)
        return loss.sum(), (loss, info)

    step = jax.jit(jax.value_and_grad(total, has_aux=True), in_shardings=(split, split))
    compiled = step.lower(gen, pos).compile()
    (_, (wide_loss, wide_info)), wide_grad = compiled(*jax.device_put((gen, pos), split))
    np.testing.assert_allclose(wide_loss.mean(), loss.mean(), rtol=1e-6)
    np.testing.assert_allclose(wide_info["scale"], info["scale"], rtol=1e-6)
    np.testing.assert_allclose(wide_loss, loss, rtol=2e-5)  # a rounding of the ruler is 1 / tau times as large here
    np.testing.assert_allclose(wide_grad, grad, rtol=1e-4, atol=1e-5 * np.abs(grad).max())
    np.testing.assert_allclose(wide_info["drift_sq"], info["drift_sq"], rtol=1e-5)
    text = compiled.as_text()
    assert "all-reduce" in text and not any(op in text for op in ("all-gather", "all-to-all", "collective-permute"))


def test_wrong_width_is_refused_by_name():
    with pytest.raises(ValueError, match=r"pos has shape .* expected \[2, n, 6\]"):
        drifting_loss.__wrapped__(_points(0, 2, 4, 6), _points(1, 2, 1, 5))


def test_what_fills_up_the_last_strip_is_nowhere_near():
    """Samples on a circle far from its centre, where the strip's filling lies: no field may notice it."""
    angle = np.linspace(0, 2 * np.pi, 70, endpoint=False)[:, None]
    ring = np.concatenate([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)[None]
    gen, pos = ring[:, :33], ring[:, 33:]
    loss, info = jax.jit(lambda gen, pos: drifting_loss(gen, pos, temperatures=(0.001, 0.01)))(gen, pos)
    assert np.isfinite(loss).all() and np.isfinite(info["drift_sq"]).all()
    x, others = jnp.asarray(gen), jnp.asarray(pos)
    size = jnp.asarray(66.0)
    points = Points(x, others, jnp.ones((1, 70)), 33, False, size, jnp.asarray(2.0))
    strips, whole = (
        drift_by_strips(points, jnp.array([0.001, 0.01]), 700),
        drift_by_products(points, jnp.array([0.001, 0.01])),
    )
    np.testing.assert_allclose(strips.total, whole.total, atol=1e-3 * np.abs(whole.total).max())
