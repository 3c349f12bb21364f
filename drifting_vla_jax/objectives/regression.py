"""Plain regression to the expert chunk: what one forward pass gives without any generative model."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from drifting_vla_jax.objectives.base import masked_mean, sample_statistics


@dataclass(frozen=True)
class Regression:
    """Mean squared error (see ``base.py`` for the interface); the noise input is held at zero."""

    evaluations_per_chunk: int = 1

    def loss(self, generate, expert, noise, key, progress):
        b, mask, target = len(expert.chunk), expert.mask, expert.chunk
        x = generate(jnp.zeros((b, 1, noise.horizon, noise.noise_dim)), jnp.zeros((b, 1)))
        loss = masked_mean(jnp.square(x[:, 0] - target), mask, (1, 2))
        return loss, sample_statistics(x, target, mask)

    def sample(self, generate, noise):
        return generate(jnp.zeros_like(noise), jnp.zeros((noise.shape[0], 1)))
