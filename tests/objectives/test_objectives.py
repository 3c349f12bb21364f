"""Each objective trains a tiny generator to the right place and samples with the promised number of evaluations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from drifting_vla_jax.objectives.base import NoiseShape, Target, make_objective, masked_mean, sample_statistics
from drifting_vla_jax.objectives.drifting.objective import Drifting
from drifting_vla_jax.objectives.flow_matching import FlowMatching
from drifting_vla_jax.objectives.regression import Regression
from tests.small import small_config

SHAPE = NoiseShape(horizon=2, noise_dim=3)


def expert(target, mask=None):
    """Told its instruction, without neighbours."""
    return Target(target, jnp.ones_like(target) if mask is None else mask, jnp.ones(len(target), bool))


OBJECTIVES = (Drifting(samples=8, temperatures=(0.2, 0.5, 1.0)), FlowMatching(samples=4, steps=5), Regression())


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_learns_one_target(objective):
    """Linear in (noise, time), no observation: every objective must end at the only action there is."""
    target = jnp.array([[[0.5, -1.0, 2.0], [0.0, 1.0, -0.5]]])
    params = {"w": jnp.eye(3), "t": jnp.zeros((2, 3)), "b": jnp.zeros((2, 3)), "wt": jnp.zeros((3, 3))}

    def generate(p):
        def apply(noise, time):
            t = time[..., None, None]
            return noise @ p["w"] + t * (noise @ p["wt"]) + p["b"] + t * p["t"]

        return apply

    optimiser = optax.adam(optax.cosine_decay_schedule(0.05, 400))

    def step(carry, key):
        p, state = carry
        grads = jax.grad(lambda p: objective.loss(generate(p), expert(target), SHAPE, key, 0.0)[0].mean())(p)
        updates, state = optimiser.update(grads, state)
        return (optax.apply_updates(p, updates), state), None

    @jax.jit
    def learn(p):
        keys = jax.random.split(jax.random.key(0), 400)
        return jax.lax.scan(step, (p, optimiser.init(p)), keys)[0][0]

    params = learn(params)

    @jax.jit
    def centroid_error(p):
        samples = objective.sample(generate(p), jax.random.normal(jax.random.key(1), (1, 64, 2, 3)))
        return sample_statistics(samples, target, jnp.ones_like(target))["centroid_error"]

    assert centroid_error(params) < 0.25


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_sampling_costs_what_it_says(objective):
    calls = []

    def generate(noise, time):
        jax.debug.callback(lambda _: calls.append(1), noise[0, 0, 0, 0])
        return noise

    jax.block_until_ready(jax.jit(lambda x: objective.sample(generate, x))(jnp.ones((1, 1, 2, 3))))
    jax.effects_barrier()
    assert len(calls) == objective.evaluations_per_chunk


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_masked_entries_do_not_count(objective):
    """What the target says where the mask is 0 changes neither the loss nor its gradient."""
    mask = jnp.ones((2, 2, 3)).at[:, 1].set(0.0)

    @jax.jit
    @jax.value_and_grad
    def loss_and_grad(bias, target):
        def generate(noise, time):
            return jnp.tanh(noise) + bias

        return objective.loss(generate, expert(target, mask), SHAPE, jax.random.key(0), 0.0)[0].sum()

    target = jax.random.normal(jax.random.key(3), (2, 2, 3))
    bias = jnp.zeros((2, 3))
    loss, grad = loss_and_grad(bias, target)
    if isinstance(objective, FlowMatching):  # x_t shows the network the padded target, so only its loss must ignore it
        assert grad[1] == pytest.approx(0.0)
        return
    other_loss, other_grad = loss_and_grad(bias, target.at[:, 1].add(5.0))
    np.testing.assert_allclose(loss, other_loss, rtol=1e-6)
    np.testing.assert_allclose(grad, other_grad, atol=1e-6)


def test_masked_mean_by_hand():
    values, mask = jnp.array([[[1.0, 5.0], [3.0, 7.0]]]), jnp.array([[[1.0, 0.0], [1.0, 0.0]]])
    assert masked_mean(values, mask, (0, 1, 2)) == 2.0


def test_bad_choices_are_refused():
    config = small_config()
    config.objective.name = "diffusion"
    with pytest.raises(ValueError, match="unknown objective 'diffusion'; expected one of drifting"):
        make_objective(config)
    with pytest.raises(ValueError, match="at least 2"):
        Drifting(samples=1, temperatures=(0.2,))
    with pytest.raises(ValueError, match="noise_dim is 5, expected 3"):
        FlowMatching(2, 2).loss(None, expert(jnp.ones((1, 2, 3))), NoiseShape(2, 5), jax.random.key(0), 0.0)
