"""A small network and the training of it with any objective of the project, as the study uses them.

The network is an MLP from (observation, noise, time) to a chunk; the objectives are the real ones, through the interface
that the policy's training uses. A whole training is one compiled scan.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from drifting_vla_jax.objectives.base import Objective, Target

BATCH = 64  # observations of a step


class MLP(nn.Module):
    """Three hidden layers on everything side by side: what is seen, the noise, the time."""

    horizon: int
    actions: int
    width: int

    @nn.compact
    def __call__(
        self, o: Float[Array, "b c"], noise: Float[Array, "b g h z"], time: Float[Array, "b #g"]
    ) -> Float[Array, "b g h a"]:
        b, g = noise.shape[:2]
        seen = jnp.broadcast_to(o[:, None], (b, g, o.shape[1]))
        told = jnp.broadcast_to(time[..., None], (b, g, 1))
        x = jnp.concatenate([seen, noise.reshape(b, g, -1), told], axis=-1)
        for _ in range(3):
            x = nn.silu(nn.Dense(self.width, kernel_init=nn.initializers.he_normal())(x))
        return nn.Dense(self.horizon * self.actions)(x).reshape(b, g, self.horizon, self.actions)


@dataclass(frozen=True)
class Recipe:
    """How long and how a network is trained: Adam, warm-up, cosine to a fiftieth of the rate, EMA."""

    steps: int
    batch: int = BATCH
    width: int = 160
    learning_rate: float = 1e-3
    warmup: int = 100
    ema: float = 0.995


@dataclass(frozen=True)
class TrainedMLP:
    """``sample(params, observations [b c], key, g, objective) -> chunks [b g h a]``, and what the training took."""

    sample: Callable
    params: dict
    seconds: float
    compile_s: float


def train(objective: Objective, data: Callable, recipe: Recipe, seed: int) -> TrainedMLP:
    """Trains on ``data(key, b) -> (observations [b c], chunks [b h a])``, one label per observation."""
    horizon, noise_dim = objective.sizes.horizon, objective.sizes.noise_dim
    network = MLP(horizon, objective.layout.network_dim, recipe.width)
    key_init, key_steps = jax.random.split(jax.random.key(seed))
    o, _ = data(key_init, 1)
    nothing = jnp.zeros((1, 1, horizon, noise_dim)), jnp.zeros((1, 1))
    params = jax.jit(network.init)(key_init, o, *nothing)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, recipe.learning_rate, recipe.warmup, recipe.steps, recipe.learning_rate / 50
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b2=0.95))

    def step(key_steps, carry, i):
        params, state, ema = carry
        key_data, key_loss = jax.random.split(jax.random.fold_in(key_steps, i))
        o, chunk = data(key_data, recipe.batch)
        expert = Target(chunk, jnp.ones_like(chunk), jnp.ones(len(chunk), bool), jnp.zeros(len(chunk), int))

        def loss(params):
            def generate(z, t):
                return network.apply(params, o, z, t)

            return jnp.mean(objective.loss(generate, expert, key_loss, i / recipe.steps, ())[0])

        updates, state = optimiser.update(jax.grad(loss)(params), state)
        params = optax.apply_updates(params, updates)
        decay = jnp.minimum(recipe.ema, (1 + i) / (10 + i))
        return (params, state, optax.incremental_update(params, ema, 1 - decay)), None

    def run(params, key_steps):
        carry = (params, optimiser.init(params), params)
        return jax.lax.scan(functools.partial(step, key_steps), carry, jnp.arange(recipe.steps))[0][2]

    start = time.perf_counter()
    program = jax.jit(run).lower(params, key_steps).compile()
    compiled = time.perf_counter()
    ema = jax.block_until_ready(program(params, key_steps))
    seconds = time.perf_counter() - compiled

    @functools.partial(jax.jit, static_argnums=(3, 4))
    def sample(params, o, key, g, objective):
        z = jax.random.normal(key, (len(o), g, horizon, noise_dim))
        return objective.sample(lambda z, t: network.apply(params, o, z, t), z)

    return TrainedMLP(sample, ema, seconds, compiled - start)
