"""Drifting as a policy's objective: what drifts together, guidance, and extra positives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from drifting_vla_jax.core.action_layout import END_EFFECTOR
from drifting_vla_jax.core.sample_statistics import sample_statistics
from drifting_vla_jax.objectives.base import Target
from drifting_vla_jax.objectives.drifting import memory_bank as bank_lib
from drifting_vla_jax.objectives.drifting.grouping import GROUPINGS, group, ungroup
from drifting_vla_jax.objectives.drifting.loss import drifting_loss, raw_drift
from tests.objectives.build import build

H, A = 3, END_EFFECTOR.network_dim
TEMPERATURES = (0.2, 1.0)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def expert(b=2, mask=None, summary=None):
    chunk = normal(9, b, H, A)
    mask = jnp.ones_like(chunk) if mask is None else mask
    return Target(chunk, mask, jnp.ones(b, bool), jnp.zeros(b, int), summary)


def drifting(samples, temperatures, grouping="chunk", **settings):
    return build("drifting", samples=samples, temperatures=temperatures, grouping=grouping, **settings)


@pytest.mark.parametrize(("grouping", "sets", "width"), [("chunk", 2, 30), ("step", 6, 10), ("dim", 20, 3)])
def test_a_grouping_says_what_one_point_is(grouping, sets, width):
    x = jnp.arange(2 * 5 * H * A, dtype=jnp.float32).reshape(2, 5, H, A)
    points = group(x, grouping)[""]
    assert points.shape == (sets, 5, width)
    last = {"chunk": x[1, 3], "step": x[1, 3, H - 1], "dim": x[1, 3, :, A - 1]}[grouping]
    np.testing.assert_array_equal(points[-1, 3], last.ravel())


def test_blocks_are_position_rotation_gripper():
    assert {name: p.shape[-1] for name, p in group(normal(0, 1, 2, H, A), "block").items()} == {
        "position": 9,
        "rotation": 18,
        "gripper": 3,
    }


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_what_was_grouped_is_put_back(grouping):
    x = normal(0, 2, 5, H, A)
    np.testing.assert_array_equal(ungroup(group(x, grouping), grouping, H, A), x)


def run(objective, batch, x, state=()):
    """Loss, figures and the gradient at the samples, which a constant network returns whatever the noise."""

    @jax.jit
    def step(x):
        def total(x):
            loss, info, _ = objective.loss(lambda noise, time: x, batch, jax.random.key(0), 0.0, state)
            return loss.sum(), (loss, info)

        return jax.value_and_grad(total, has_aux=True)(x)

    (_, (loss, info)), grad = step(x)
    return loss, info, grad


def test_whole_chunks_are_the_plain_loss():
    x, batch = normal(0, 2, 4, H, A), expert()
    loss, info, _ = run(drifting(4, TEMPERATURES), batch, x)
    plain, figures = drifting_loss(x.reshape(2, 4, -1), batch.chunk.reshape(2, 1, -1), temperatures=TEMPERATURES)
    np.testing.assert_allclose(loss, plain, rtol=1e-5)
    np.testing.assert_allclose(info["drift_sq/0.2"], figures["drift_sq"][0], rtol=1e-5)


@pytest.mark.parametrize("grouping", ["chunk", pytest.param("block", marks=pytest.mark.slow)])
def test_the_sizes_that_are_logged_are_those_of_the_field_that_is_drawn(grouping):
    batch, x = expert(mask=jnp.ones((2, H, A)).at[0, -1].set(0.0)), normal(0, 2, 4, H, A)
    objective = drifting(4, TEMPERATURES, grouping)
    _, info, _ = run(objective, batch, x)
    moved, rms, _ = jax.jit(objective.field)(x, batch.chunk, batch.mask)
    np.testing.assert_allclose(info["lambda_V"], np.sqrt(np.mean(np.square(rms))), rtol=1e-4)
    np.testing.assert_allclose(info["raw_drift_norm"], info["lambda_V"] ** 2 * batch.mask.sum() / 2, rtol=1e-4)
    assert moved.shape == x.shape and np.all(moved[0, :, -1] == 0) and np.all(np.any(moved[1] != 0, axis=(0, 1)))
    if grouping == "chunk":
        mask = batch.mask.reshape(2, -1)
        fields, _ = raw_drift(x.reshape(2, 4, -1), batch.chunk.reshape(2, 1, -1), mask=mask, temperatures=TEMPERATURES)
        np.testing.assert_allclose(moved.reshape(2, 4, -1), fields.mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_padded_steps_are_not_there_whatever_drifts_together(grouping):
    """A chunk whose last step is padding trains like one that is a step shorter: no other group notices."""
    x, batch = normal(0, 2, 4, H, A), expert()
    padded = expert(mask=jnp.ones((2, H, A)).at[:, -1].set(0.0))
    short = batch.replace(chunk=batch.chunk[:, :-1], mask=batch.mask[:, :-1])
    loss, _, grad = run(drifting(4, TEMPERATURES, grouping), padded, x)
    short_loss, _, short_grad = run(drifting(4, TEMPERATURES, grouping), short, x[:, :, :-1])
    np.testing.assert_allclose(loss, short_loss, rtol=1e-5)
    np.testing.assert_allclose(grad[:, :, :-1], short_grad, rtol=1e-4, atol=1e-5)
    assert not grad[:, :, -1].any()


@pytest.mark.parametrize("samples", [4, 70])
def test_a_block_that_never_changes_in_the_data_is_left_out(samples):
    """A wrist that never turns: the other blocks drift as if it were turning, and it stays; few samples or many."""
    x, batch = normal(0, 2, samples, H, A), expert()
    still = expert(mask=jnp.ones((2, H, A)).at[..., 3:9].set(0.0))
    objective = drifting(samples, TEMPERATURES, "block")
    loss, info, grad = run(objective, still, x)
    assert np.isfinite(loss).all() and all(np.isfinite(value).all() for value in info.values())
    _, _, moving = run(objective, batch, x)
    assert not grad[..., 3:9].any() and np.any(grad[..., :3])
    ratio = batch.mask.sum() / still.mask.sum()  # a loss is per entry that counts
    for part in (slice(0, 3), slice(9, 10)):
        np.testing.assert_allclose(grad[..., part], moving[..., part] * ratio, rtol=1e-4, atol=1e-6)
    moved, rms, _ = jax.jit(objective.field)(x, still.chunk, still.mask)
    assert np.isfinite(moved).all() and np.isfinite(rms).all() and not moved[..., 3:9].any()


def test_blocks_do_not_see_each_other():
    """Moving the grippers' samples changes the whole-chunk drift of positions, but not that of separate blocks."""
    x, batch = normal(0, 2, 4, H, A), expert()
    moved = x.at[..., 9].add(normal(1, 2, 4, H))
    for grouping, same in (("chunk", False), ("block", True)):
        before, after = (run(drifting(4, TEMPERATURES, grouping), batch, at)[2][..., :3] for at in (x, moved))
        assert np.allclose(before, after, atol=1e-6) is same
    assert "drift_sq/gripper/0.2" in run(drifting(4, TEMPERATURES, "block"), batch, x)[1]


def test_two_modes_survive_where_whole_chunks_drift():
    """Expert chunks are +1 or -1 in all entries, at random; each observation is the same. Steps alone would mix them."""
    objective, h = drifting(16, (0.05, 0.2), noise_dim=1), 4
    width, b = 32, 32

    def generate(p):
        return lambda noise, time: jnp.tanh(noise.reshape(*noise.shape[:2], -1) @ p["a"]) @ p["b"].reshape(width, h * A)

    params = {"a": 0.5 * normal(0, h, width), "b": 0.1 * normal(1, width, h, A)}
    optimiser = optax.adam(optax.cosine_decay_schedule(0.01, 600))

    def step(carry, key):
        p, state = carry
        sign = jnp.where(jax.random.bernoulli(jax.random.fold_in(key, 1), 0.5, (b, 1, 1)), 1.0, -1.0)
        ones = jnp.ones((b, h, A))
        batch = Target(sign * ones, ones, jnp.ones(b, bool), jnp.zeros(b, int))

        def loss(p):
            def reshaped(noise, time):
                return generate(p)(noise, time).reshape(*noise.shape[:2], h, A)

            return objective.loss(reshaped, batch, key, 0.0, ())[0].mean()

        updates, state = optimiser.update(jax.grad(loss)(p), state)
        return (optax.apply_updates(p, updates), state), None

    keys = jax.random.split(jax.random.key(0), 600)
    params = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), keys)[0][0])(params)
    samples = generate(params)(normal(3, 1, 400, h, 1), None)[0]
    toward = samples.mean(-1)
    assert 0.3 < (toward > 0).mean() < 0.7
    assert (np.abs(np.abs(toward) - 1) < 0.35).mean() > 0.7


@pytest.mark.slow
def test_guidance_tells_the_network_its_strength_and_repels_from_other_data():
    told = []

    def generate(noise, time):
        told.append(time)
        return normal(0, 3, 4, H, A)

    guided = drifting(4, TEMPERATURES, guidance__negatives=2, guidance__alpha=3.0)
    batch = expert(3)
    batch = batch.replace(instructed=jnp.array([True, True, False]))
    key = jax.random.key(0)
    loss, _, _ = guided.loss(generate, batch, key, 0.0, ())
    alpha = jnp.exp(told[0][:, 0])
    assert (alpha >= 1).all() and (alpha <= 4).all() and alpha[2] == 1 and alpha[0] != alpha[1]
    np.testing.assert_allclose(guided.sample(lambda noise, time: time, jnp.zeros((2, 1, H, 4))), np.log(3), rtol=1e-6)

    others = jnp.stack([jnp.roll(batch.chunk, 1, 0), jnp.roll(batch.chunk, 2, 0)], 1).reshape(3, 2, -1)
    weight = jnp.broadcast_to(((alpha - 1) * 3 / 2)[:, None], (3, 2))
    flat = (normal(0, 3, 4, H, A).reshape(3, 4, -1), batch.chunk.reshape(3, 1, -1), others)
    expected, _ = drifting_loss(*flat, weight_neg=weight, temperatures=TEMPERATURES)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_strengths_follow_their_law():
    """p(alpha) ~ alpha^-3 on [1, 4]: P(alpha < 2) = (1 - 2^-2) / (1 - 4^-2) = 0.8."""
    guidance = drifting(4, TEMPERATURES, guidance__negatives=1).settings.guidance
    alpha = guidance.draw_alpha(jax.random.key(0), jnp.ones(20000, bool))
    assert (alpha < 2).mean() == pytest.approx(0.8, abs=0.01)
    uniform_in_log = dataclasses.replace(guidance, power=1.0).draw_alpha(jax.random.key(0), jnp.ones(20000, bool))
    assert (uniform_in_log < 2).mean() == pytest.approx(0.5, abs=0.01)


def test_a_bank_keeps_the_latest_of_each_task():
    bank = bank_lib.empty(tasks=2, size=2, d=1, h=1, a=1)

    def write(bank, tasks, values):
        values = jnp.array(values, jnp.float32)
        chunk = values[:, None, None]
        return bank_lib.add(bank, jnp.array(tasks), values[:, None], chunk, jnp.ones_like(chunk))

    bank = write(bank, [0, 1, 0], [1, 2, 3])
    np.testing.assert_array_equal(bank.chunk[:, :, 0, 0], [[1, 3], [2, 0]])
    bank = write(bank, [0, 0, 0, 1], [4, 5, 6, 7])  # more than the ring holds: the latest two stay
    np.testing.assert_array_equal(np.sort(bank.chunk[:, :, 0, 0]), [[5, 6], [2, 7]])
    np.testing.assert_array_equal(bank.written, [5, 2])


def test_neighbours_weigh_by_distance_and_empty_or_padded_places_nothing():
    bank = bank_lib.empty(tasks=1, size=4, d=2, h=2, a=1)
    chunk, mask = normal(0, 3, 2, 1), jnp.ones((3, 2, 1)).at[2, 1].set(0.0)
    summary = jnp.array([[0.0, 0], [3, 4], [0, 0]])
    bank = bank_lib.add(bank, jnp.zeros(3, int), summary, chunk, mask)
    near = bank_lib.neighbours(bank, jnp.zeros(1, int), jnp.zeros((1, 2)), jnp.ones((1, 2, 1)), bandwidth=1.0)
    mean = 5 / 3
    np.testing.assert_allclose(near.weight[0], [1, np.exp(-0.5 * (5 / mean) ** 2), 0, 0], rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(near.chunk[0, :3], chunk)
    short = bank_lib.neighbours(bank, jnp.zeros(1, int), jnp.zeros((1, 2)), jnp.ones((1, 2, 1)).at[0, 1].set(0), 1.0)
    assert short.weight[0, 2] == pytest.approx(1.0)  # where the observation is padded too, it serves


def test_a_bank_gives_extra_positives_and_takes_up_the_batch():
    """Its entries are weighed and drawn toward; of an empty one, or of entries far from the observation, nothing is seen."""
    x, batch = normal(0, 2, 4, H, A), expert(summary=jnp.zeros((2, 2)))
    objective = drifting(4, TEMPERATURES, memory_bank__size=5)
    assert objective.needs_summary and not drifting(4, TEMPERATURES).needs_summary
    empty = objective.init_state()
    assert empty.chunk.shape == (1, 5, H, A) and empty.summary.shape == (1, 5, 2)
    ones = jnp.ones((3, H, A))
    filled = bank_lib.add(empty, jnp.zeros(3, int), jnp.zeros((3, 2)), normal(5, 3, H, A), ones)
    alone, _, _ = run(drifting(4, TEMPERATURES), batch, x)
    assert not np.allclose(alone, run(objective, batch, x, filled)[0])
    far = empty.replace(chunk=empty.chunk + 1e3)
    np.testing.assert_allclose(run(objective, batch, x, far)[0], alone, rtol=1e-2)

    _, _, after = jax.jit(lambda s: objective.loss(lambda *_: x, batch, jax.random.key(0), 0.0, s))(filled)
    assert after.written[0] == 5
    np.testing.assert_array_equal(after.chunk[0, 3:], batch.chunk)


def test_statistics_by_hand():
    """Two observations of one entry: samples 0 and 2 round an expert at 1; samples 3 and 3 beside an expert at 4."""
    samples = jnp.array([[[[0.0]], [[2.0]]], [[[3.0]], [[3.0]]]])
    target = jnp.array([[[1.0]], [[4.0]]])
    found = sample_statistics(samples, target, jnp.ones_like(target))
    assert found["centroid_error"] == pytest.approx(0.5**0.5)
    assert found["sample_spread"] == pytest.approx(0.5**0.5)
    assert found["collapsed_share"] == 0.5


def test_temperatures_come_down_in_equal_ratios():
    """Eight times as large at the start, three halvings until half of the training is done, then no more."""
    x, batch = normal(0, 2, 4, H, A), expert()

    def drift(objective, progress):
        return objective.loss(lambda noise, time: x, batch, jax.random.key(0), progress, ())[1]["drift_sq/0.2"]

    annealed = drifting(4, (0.2,), temperature_anneal__initial_scale=8.0, temperature_anneal__fraction=0.5)
    for progress, temperature in ((0.0, 1.6), (1 / 6, 0.8), (1 / 3, 0.4), (0.5, 0.2), (0.9, 0.2)):
        _, figures = drifting_loss(x.reshape(2, 4, -1), batch.chunk.reshape(2, 1, -1), temperatures=(temperature,))
        np.testing.assert_allclose(drift(annealed, progress), figures["drift_sq"][0], rtol=1e-4)


def test_more_negatives_than_there_are_other_observations_are_refused():
    guidance = drifting(4, TEMPERATURES, guidance__negatives=2).settings.guidance
    with pytest.raises(ValueError, match="a batch of 2 has 1 other observations"):
        guidance.repel(jnp.ones((2, 1, 1)), jnp.ones((2, 1, 1)), jnp.ones(2), 4)
