"""Classifier-free guidance as drifting trains it (arXiv 2602.04770, appendix A.7): in training, not in sampling.

Unconditional data repel with a weight that grows with the strength alpha, so the network learns where
p(a | o, instruction)^alpha / p(a | o)^(alpha - 1) is large; alpha is an input of the network. Acting with a guided
policy therefore still costs ONE evaluation. An alpha of 1 is no guidance, and log(alpha), what the network is told, is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from drifting_vla_jax.core.ranges import Number, whole


@dataclass(frozen=True)
class Guidance:
    """``config.objective.drifting.guidance``: strengths to train for, and the one to act with.

    Attributes:
      negatives: unconditional chunks per observation: experts' chunks of other observations of the batch. 0: off.
      max_alpha, power: alpha is drawn from p(alpha) ~ alpha^-power on [1, max_alpha].
      drop_instruction: share of the observations that are not told their instruction.
      alpha: the strength to act with.
    """

    negatives: Annotated[int, whole(0, 65536)]
    max_alpha: Annotated[float, Number(1.0, 1e3)]
    power: Annotated[float, Number(0.0, 100.0)]
    drop_instruction: Annotated[float, Number(0.0, 1.0, "[)")]
    alpha: Annotated[float, Number(1.0, 1e3)]

    def draw_alpha(self, key: PRNGKeyArray, instructed: Bool[Array, " b"]) -> Float[Array, " b"]:
        """A strength per observation; 1 where there is no instruction to follow more closely."""
        u = jax.random.uniform(key, instructed.shape)
        if self.power == 1:
            alpha = self.max_alpha**u
        else:
            alpha = (1 + u * (self.max_alpha ** (1 - self.power) - 1)) ** (1 / (1 - self.power))
        return jnp.where(instructed, alpha, 1.0)

    def repel(
        self, chunk: Float[Array, "b h a"], mask: Float[Array, "b h a"], alpha: Float[Array, " b"], samples: int
    ) -> tuple[Float[Array, "b q h a"], Float[Array, "b q"]]:
        """Unconditional negatives and their weights, (alpha - 1) (g - 1) / q; one padded where its observation is not
        weighs nothing."""
        if self.negatives >= len(chunk):
            raise ValueError(
                f"config.objective.drifting.guidance.negatives is {self.negatives}; a batch of {len(chunk)} has "
                f"{len(chunk) - 1} other observations to take them from"
            )

        def others(x):
            return jnp.stack([jnp.roll(x, 1 + i, axis=0) for i in range(self.negatives)], axis=1)

        usable = jnp.all(others(mask) >= mask[:, None], axis=(2, 3))
        return others(chunk), usable * ((alpha - 1) * (samples - 1) / self.negatives)[:, None]

    def told(self, noise: Float[Array, "b g h z"]) -> Float[Array, "b 1"]:
        """What the network is told when it acts from this noise."""
        return jnp.full((noise.shape[0], 1), jnp.log(self.alpha) if self.negatives else 0.0)
