"""The drifting loss against the official implementation's numbers, and against what the paper says it must be."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from drifting_vla_jax.objectives.drifting import affinities, distances, drift, drifting_loss

GOLDEN = np.load(Path(__file__).parents[1] / "data" / "drifting_loss.npz")
CASES = sorted({key.split("/")[0] for key in GOLDEN.files})


@pytest.mark.parametrize("case", CASES)
def test_equals_the_official_implementation(case):
    """Loss, gradient and diagnostics of lambertae/drifting, drift_loss.py, recorded in fp32."""
    z = {key.split("/")[1]: GOLDEN[key] for key in GOLDEN.files if key.startswith(case + "/")}
    z = {key: jnp.asarray(value) for key, value in z.items()}
    options = {name: z[name] for name in ("weight_gen", "weight_pos", "weight_neg") if name in z}
    options["temperatures"] = tuple(z["temperatures"].tolist())

    def total(gen):
        loss, info = drifting_loss(gen, z["pos"], z["neg"] if "neg" in z else None, **options)
        return loss.sum(), (loss, info)

    (_, (loss, info)), grad = jax.jit(jax.value_and_grad(total, has_aux=True))(z["gen"])
    np.testing.assert_allclose(loss, z["loss"], rtol=1e-4)
    np.testing.assert_allclose(grad, z["grad"], rtol=0, atol=1e-3 * np.abs(z["grad"]).max())
    np.testing.assert_allclose(info["scale"], z["scale"], rtol=1e-4)
    np.testing.assert_allclose(info["drift_sq"], z["drift_sq"], rtol=1e-4)


@jax.jit
def _field(x, y_neg, y_pos):
    """V of Algorithm 2 with all of y_neg as negatives, no self mask, temperature 1."""
    a = affinities(distances(x, jnp.concatenate([y_neg, y_pos], 1)), 1.0)
    n = y_neg.shape[1]
    return drift(x, y_neg, y_pos, a[..., :n], a[..., n:])


def _points(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def test_swapping_positives_and_negatives_turns_the_field_round():
    x, a, b = _points(0, 2, 5, 3), _points(1, 2, 4, 3), _points(2, 2, 4, 3) + 1
    np.testing.assert_allclose(_field(x, a, b), -_field(x, b, a), atol=1e-6)


def test_no_field_where_positives_are_the_negatives():
    x, a = _points(0, 2, 5, 3), _points(1, 2, 4, 3)
    np.testing.assert_allclose(_field(x, a, a), 0.0, atol=1e-6)


def test_hand_computed_field_of_one_sample_between_two_points():
    """x = 0 in the middle of y- = -1 and y+ = 1: softmax over y gives 1/2 each, over x gives 1, so A = sqrt(1/2).

    W+ = W- = 1/2, V = 1/2 * 1 - 1/2 * (-1) = 1.
    """
    x, negative, positive = (jnp.full((1, 1, 1), value) for value in (0.0, -1.0, 1.0))
    np.testing.assert_allclose(_field(x, negative, positive), 1.0, rtol=1e-6)


def test_no_gradient_reaches_positives_and_fp32_comes_out_of_bf16():
    gen, pos = _points(0, 2, 4, 6), _points(1, 2, 1, 6)
    assert not jax.jit(jax.grad(lambda p: drifting_loss(gen, p)[0].sum()))(pos).any()
    loss, info = jax.eval_shape(drifting_loss, gen.astype(jnp.bfloat16), pos.astype(jnp.bfloat16))
    assert loss.dtype == info["drift_sq"].dtype == jnp.float32


def test_samples_move_toward_a_lone_positive_and_stay_apart():
    """A gradient step on the samples brings their centre closer to the expert."""
    gen, pos = _points(0, 1, 8, 4), _points(1, 1, 1, 4) + 3
    grad = jax.jit(jax.grad(lambda g: drifting_loss(g, pos, temperatures=(0.5,))[0].sum()))(gen)
    moved = gen - 0.5 * grad
    assert jnp.linalg.norm(moved.mean(1) - pos[:, 0]) < jnp.linalg.norm(gen.mean(1) - pos[:, 0])


def test_finite_where_all_points_coincide():
    gen = jnp.ones((1, 3, 4))
    loss, grad = jax.jit(jax.value_and_grad(lambda g: drifting_loss(g, gen[:, :1])[0].sum()))(gen)
    assert np.isfinite(loss) and np.isfinite(grad).all()


def test_wrong_width_is_refused_by_name():
    with pytest.raises(ValueError, match=r"pos has shape .* expected \[2, n, 6\]"):
        drifting_loss.__wrapped__(_points(0, 2, 4, 6), _points(1, 2, 1, 5))
