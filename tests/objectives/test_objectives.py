"""Each objective trains a tiny generator to the right place and samples with the promised number of evaluations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from drifting_vla_jax.config.checks import ConfigError
from drifting_vla_jax.config.io import validate
from drifting_vla_jax.core.sample_statistics import sample_statistics
from drifting_vla_jax.objectives.base import Objective, Target, masked_mean
from drifting_vla_jax.objectives.flow_matching import FlowMatching
from tests.objectives.build import build
from tests.small import small_config


def expert(target, mask=None):
    """Told its instruction, of task 0."""
    mask = jnp.ones_like(target) if mask is None else mask
    return Target(target, mask, jnp.ones(len(target), bool), jnp.zeros(len(target), int))


SIZES = {"noise_dim": 3, "horizon": 2}
OBJECTIVES = (
    build("drifting", samples=8, temperatures=(0.2, 0.5, 1.0), **SIZES),
    build("flow_matching", samples=4, steps=5, **SIZES),
    build("regression", **SIZES),
)


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
        grads = jax.grad(lambda p: objective.loss(generate(p), expert(target), key, 0.0, ())[0].mean())(p)
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

        return objective.loss(generate, expert(target, mask), jax.random.key(0), 0.0, ())[0].sum()

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


def test_the_number_of_steps_can_be_chosen_where_there_are_several():
    drifting, flow, regression = OBJECTIVES
    assert [each.adjustable_steps for each in OBJECTIVES] == [False, True, False]
    assert (flow.with_steps(2).evaluations_per_chunk, flow.evaluations_per_chunk) == (2, 5)
    for objective in (drifting, regression):
        with pytest.raises(ValueError, match="2 sampling steps are asked for, but .* answers in 1 network evaluation"):
            objective.with_steps(2)


class NoSection(Objective):
    Settings = FlowMatching.Settings


class Own(NoSection):
    section = "mine"


HERE = __name__


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "diffusion"}, "unknown objective 'diffusion'; expected one of drifting, flow_matching, regression"),
        ({"name": "nowhere.at_all:Mine"}, "there is no module 'nowhere'"),
        ({"name": "json:loads"}, "objective 'json:loads' is no class derived from .*Objective"),
        ({"name": f"{HERE}:NoSection"}, "NoSection' has Settings but no section; set the class attribute"),
        ({"name": f"{HERE}:Own"}, "config.objective.mine is missing; objective .* reads its settings there"),
        ({"drifting.samples": 1}, "config.objective.drifting.samples is 1; expected a whole number, at least 2"),
        ({"drifting.temperature_unit": "m"}, "temperature_unit is 'm'; expected mean_distance or nearest_positive"),
        ({"drifting.grouping": "finger"}, "grouping is 'finger'; expected chunk or step or dim or block"),
        ({"flow_matching.steps": 0}, "config.objective.flow_matching.steps is 0; expected a whole number, at least 1"),
        ({"drifting.guidance.negatives": 8}, "guidance.negatives 8 must be below config.data.batch_size 8"),
    ],
)
def test_bad_choices_are_refused(changes, message):
    config = small_config()
    validate(config)
    config.objective.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message):
        validate(config)


def test_flow_matching_needs_noise_as_wide_as_an_action():
    config = small_config()
    config.objective.name, config.model.noise_dim = "flow_matching", 5
    with pytest.raises(ConfigError, match="noise_dim is 5; flow matching .* of layout end_effector expected 10"):
        validate(config)
