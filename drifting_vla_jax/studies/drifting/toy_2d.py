"""The two-dimensional toys of the paper: one flat set of samples drifts onto a distribution that can be looked at.

A network moves 128 fresh noise points a step from where they start toward 128 fresh data points, once with the paper's
temperatures and once with temperatures that start ten times as large. ``bimodal`` starts from
three places: between the modes, far from both, and collapsed on one of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from drifting_vla_jax.objectives.drifting.loss import drifting_loss
from drifting_vla_jax.studies.drifting.mlp_training import MLP
from drifting_vla_jax.studies.drifting.synthetic_chunks import energy_distance

POINTS = 128


def bimodal(key, n: int) -> Float[Array, "n 2"]:
    key_side, key_noise = jax.random.split(key)
    side = jnp.where(jax.random.bernoulli(key_side, 0.5, (n, 1)), 2.0, -2.0)
    return jnp.concatenate([side, jnp.zeros((n, 1))], axis=1) + 0.25 * jax.random.normal(key_noise, (n, 2))


def checkerboard(key, n: int) -> Float[Array, "n 2"]:
    """The eight dark squares of a board of 4 x 4, side 1."""
    key_square, key_place = jax.random.split(key)
    square = jax.random.randint(key_square, (n,), 0, 8)
    row = square // 2
    column = 2 * (square % 2) + row % 2
    return jnp.stack([column, row], axis=1) - 2 + jax.random.uniform(key_place, (n, 2))


def swiss_roll(key, n: int) -> Float[Array, "n 2"]:
    key_angle, key_noise = jax.random.split(key)
    angle = 1.5 * jnp.pi * (1 + 2 * jax.random.uniform(key_angle, (n,)))
    roll = angle[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1) / 7
    return roll + 0.05 * jax.random.normal(key_noise, (n, 2))


@dataclass(frozen=True)
class Toy:
    """A target, where the samples start (``center + spread * noise``), and how many times as hot."""

    name: str
    target: str
    center: tuple[float, float]
    spread: float
    anneal_from: float = 1.0

    def temperatures(self, progress) -> Float[Array, " t"]:
        """The paper's, times a factor that is 1 from 30% of the training on."""
        return self.anneal_from ** jnp.maximum(0.0, 1 - progress / 0.3) * jnp.array([0.02, 0.05, 0.2])


TOYS = (
    Toy("bimodal, from between", "bimodal", (0.0, 0.0), 0.25),
    Toy("bimodal, from far away", "bimodal", (0.0, 6.0), 0.25),
    Toy("bimodal, collapsed on one mode", "bimodal", (2.0, 0.0), 0.25),
    Toy("checkerboard", "checkerboard", (0.0, 0.0), 1.0),
    Toy("swiss roll", "swiss_roll", (0.0, 0.0), 1.0),
)
ANNEALED = tuple(replace(toy, anneal_from=10.0) for toy in TOYS)


@dataclass(frozen=True)
class Drifted:
    """What happened: the data, the samples before and after, the first drift (a displacement), the curve."""

    toy: Toy
    data: np.ndarray
    before: np.ndarray
    drift: np.ndarray
    after: np.ndarray
    step: np.ndarray
    energy_distance: np.ndarray


def run(toy: Toy, steps: int, seed: int = 0) -> Drifted:
    """Trains, looking at the energy distance forty times on the way."""
    target = globals()[toy.target]
    network, nothing = MLP(horizon=1, actions=2, width=128), jnp.zeros((1, 1))
    key_init, key_steps, key_test = jax.random.split(jax.random.key(seed), 3)
    params = network.init(key_init, nothing, jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 1)))
    last = max(params["params"])  # the output layer starts at zero: the samples start where the toy says
    params["params"][last] = jax.tree.map(jnp.zeros_like, params["params"][last])
    optimiser = optax.adam(optax.cosine_decay_schedule(2e-3, steps))

    def samples(params, key, n):
        noise = jax.random.normal(key, (1, n, 1, 2))
        start = jnp.array(toy.center) + toy.spread * noise[:, :, 0]
        return start + network.apply(params, nothing, noise, jnp.zeros((1, 1)))[:, :, 0]

    def loss(params, key, i):
        key_noise, key_data = jax.random.split(key)
        data = target(key_data, POINTS)[None]
        return drifting_loss(samples(params, key_noise, POINTS), data, temperatures=toy.temperatures(i / steps))[0][0]

    def distance(params):
        x, y = samples(params, key_test, 512), target(jax.random.fold_in(key_test, 1), 512)[None]
        return energy_distance(x[:, :, None], y[:, :, None])[0]

    def step(carry, i):
        params, state = carry
        updates, state = optimiser.update(jax.grad(loss)(params, jax.random.fold_in(key_steps, i), i), state)
        return (optax.apply_updates(params, updates), state), None

    every = max(1, steps // 40)

    def some_steps(carry, first):
        before = distance(carry[0])
        return jax.lax.scan(step, carry, first + jnp.arange(every))[0], before

    firsts = jnp.arange(0, steps, every)
    (trained, _), curve = jax.jit(lambda c: jax.lax.scan(some_steps, c, firsts))((params, optimiser.init(params)))
    before, data = samples(params, key_test, POINTS), target(key_test, POINTS)

    @jax.jit
    def pull(x):
        def total(x):
            loss, info = drifting_loss(x, data[None], temperatures=toy.temperatures(0.0))
            return loss.sum(), info["scale"] / 2**0.5

        return jax.grad(total, has_aux=True)(x)

    slope, unit = pull(before)
    return Drifted(
        toy=toy,
        data=np.asarray(data),
        before=np.asarray(before[0]),
        drift=np.asarray(-slope[0] * unit**2 * POINTS),  # the gradient is -2 V / (unit g d), V in units
        after=np.asarray(samples(trained, key_test, POINTS)[0]),
        step=np.asarray(jnp.append(firsts, steps)),
        energy_distance=np.asarray(jnp.append(curve, distance(trained))),
    )
