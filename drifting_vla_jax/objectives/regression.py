"""Plain regression to the expert chunk: what one forward pass gives without any generative model."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from drifting_vla_jax.core.sample_statistics import sample_statistics
from drifting_vla_jax.objectives.base import Objective, masked_mean


@dataclass(frozen=True)
class Regression(Objective):
    """Mean squared error; the noise input is held at zero."""

    def loss(self, generate, expert, key, progress, state):
        (b, h, _), mask, target = expert.chunk.shape, expert.mask, expert.chunk
        x = generate(jnp.zeros((b, 1, h, self.sizes.noise_dim)), jnp.zeros((b, 1)))
        loss = masked_mean(jnp.square(x[:, 0] - target), mask, (1, 2))
        return loss, sample_statistics(x, target, mask), state

    def sample(self, generate, noise):
        return generate(jnp.zeros_like(noise), jnp.zeros((noise.shape[0], 1)))
