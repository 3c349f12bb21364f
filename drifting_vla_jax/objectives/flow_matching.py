"""Flow matching with straight paths (Lipman et al., arXiv 2210.02747): the baseline that takes several steps.

    x_t = (1 - t) noise + t action,   network predicts  action - noise,   sampling: k Euler steps from t = 0 to 1

The network is the same as for drifting; its noise input is the action chunk's own size, since x_t lives there.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp

from drifting_vla_jax.core.ranges import whole
from drifting_vla_jax.objectives.base import Objective, masked_mean


@dataclass(frozen=True)
class Settings:
    """``config.objective.flow_matching``.

    Attributes:
      samples: g, (noise, time) pairs per observation: as much work for the network as drifting does.
      steps: k, Euler steps of sampling, each one network evaluation.
    """

    samples: Annotated[int, whole(1, 65536)]
    steps: Annotated[int, whole(1, 10_000)]


@dataclass(frozen=True)
class FlowMatching(Objective):
    """Conditional flow matching."""

    settings: Settings
    Settings = Settings

    @property
    def samples(self) -> int:
        return self.settings.samples

    @property
    def evaluations_per_chunk(self) -> int:
        return self.settings.steps

    @property
    def adjustable_steps(self) -> bool:
        return True

    def check(self):
        noise, expected = self.sizes.noise_dim, self.layout.network_dim
        if noise != expected:
            yield (
                f"config.model.noise_dim is {noise}; flow matching integrates in action space, of layout {self.layout} "
                f"expected {expected}"
            )

    def with_steps(self, steps):
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, steps=steps))

    def loss(self, generate, expert, key, progress, state):
        target = expert.chunk
        b, h, a = target.shape
        key_noise, key_time = jax.random.split(key)
        eps = jax.random.normal(key_noise, (b, self.samples, h, a))
        t = jax.random.uniform(key_time, (b, self.samples))
        x_t = (1 - t[..., None, None]) * eps + t[..., None, None] * target[:, None]
        velocity = generate(x_t, t)
        square = jnp.square(velocity - (target[:, None] - eps))
        return masked_mean(square, expert.mask[:, None], (1, 2, 3)), {}, state

    def sample(self, generate, noise):
        steps = self.settings.steps

        def euler(x, k):
            t = jnp.full((noise.shape[0], 1), k / steps)
            return x + generate(x, t) / steps, None

        return jax.lax.scan(euler, noise, jnp.arange(steps))[0]
