"""Drifting as a way to train a policy: g fresh samples per observation, one expert chunk, one evaluation to act.

The field itself is in ``drifting.py``. The noise is drawn anew at every step: particles that are kept would fly apart,
since each is pushed from the others and every field is scaled to unit size.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from drifting_vla_jax.objectives.drifting import drifting_loss
from drifting_vla_jax.objectives.objective import sample_statistics


@dataclass(frozen=True)
class Drifting:
    """Per-observation drifting (see ``objective.py`` for the interface).

    Attributes:
      samples: g, chunks drawn per observation; at least 2, or nothing repels.
      temperatures: tau of each field, in mean distances.
    """

    samples: int
    temperatures: tuple[float, ...]
    evaluations_per_chunk: int = 1

    def __post_init__(self):
        if self.samples < 2:
            raise ValueError(f"objective.samples is {self.samples}; drifting needs at least 2 per observation")

    def loss(self, generate, target, mask, noise, key):
        b = target.shape[0]
        eps = jax.random.normal(key, (b, self.samples, noise.horizon, noise.noise_dim))
        x = generate(eps, jnp.zeros((b, 1)))
        flat = (x * mask[:, None]).reshape(b, self.samples, -1)
        loss, info = drifting_loss(flat, (target * mask).reshape(b, 1, -1), temperatures=self.temperatures)
        named = {f"drift_sq/{t:g}": info["drift_sq"][i] for i, t in enumerate(self.temperatures)}
        return loss, {"drift_scale": info["scale"], **named, **sample_statistics(x, target, mask)}

    def sample(self, generate, noise):
        return generate(noise, jnp.zeros((noise.shape[0], 1)))
