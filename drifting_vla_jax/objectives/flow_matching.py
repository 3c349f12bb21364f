"""Flow matching with straight paths (Lipman et al., arXiv 2210.02747): the many-step measuring rod.

    x_t = (1 - t) noise + t action,   network predicts  action - noise,   sampling: k Euler steps from t = 0 to 1

The network is the same as for drifting; its noise input is the action chunk's own size, since x_t lives there.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from drifting_vla_jax.objectives.base import masked_mean


@dataclass(frozen=True)
class FlowMatching:
    """Conditional flow matching (see ``base.py`` for the interface).

    Attributes:
      samples: g, (noise, time) pairs per observation: as much head work as drifting does.
      steps: k, Euler steps, each one network evaluation.
    """

    samples: int
    steps: int

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"objective.flow_steps is {self.steps}; expected at least 1")

    @property
    def evaluations_per_chunk(self) -> int:
        return self.steps

    def loss(self, generate, expert, noise, key, progress):
        target = expert.chunk
        b, h, a = target.shape
        if noise.noise_dim != a:
            raise ValueError(
                f"flow_matching integrates in action space: model.noise_dim is {noise.noise_dim}, expected {a}"
            )
        key_noise, key_time = jax.random.split(key)
        eps = jax.random.normal(key_noise, (b, self.samples, h, a))
        t = jax.random.uniform(key_time, (b, self.samples))
        x_t = (1 - t[..., None, None]) * eps + t[..., None, None] * target[:, None]
        velocity = generate(x_t, t)
        square = jnp.square(velocity - (target[:, None] - eps))
        return masked_mean(square, expert.mask[:, None], (1, 2, 3)), {}

    def sample(self, generate, noise):
        def euler(x, k):
            t = jnp.full((noise.shape[0], 1), k / self.steps)
            return x + generate(x, t) / self.steps, None

        return jax.lax.scan(euler, noise, jnp.arange(self.steps))[0]
