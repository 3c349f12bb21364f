"""Ancestral sampling of a denoising diffusion model (Ho et al., arXiv 2006.11239) on our network: a measuring rod for time.

    x_{t-1} = (x_t - beta_t / sqrt(1 - abar_t) * eps(x_t, t)) / sqrt(alpha_t) + sqrt(beta_t) z

Nobody trains it here; a step costs what it costs whatever the weights.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from drifting_vla_jax.objectives.base import ModelFn


def ddpm_sample(generate: ModelFn, noise: Float[Array, "b g h a"], steps: int) -> Float[Array, "b g h a"]:
    """``steps`` evaluations from noise to chunks, with the linear schedule of the paper."""
    beta = jnp.linspace(1e-4, 0.02, steps)
    bar = jnp.cumprod(1 - beta)
    key = jax.random.key(0)

    def step(x, t):
        eps = generate(x, jnp.full((noise.shape[0], 1), t / steps))
        mean = (x - beta[t] / jnp.sqrt(1 - bar[t]) * eps) / jnp.sqrt(1 - beta[t])
        fresh = jax.random.normal(jax.random.fold_in(key, t), x.shape)
        return mean + jnp.sqrt(beta[t]) * fresh * (t > 0), None

    return jax.lax.scan(step, noise, jnp.arange(steps - 1, -1, -1))[0]
