"""What a training objective is: how samples are drawn while learning, and how many evaluations an answer costs.

The network is handed over as ``generate(noise[b g h z], time[b g or b 1]) -> chunk[b g h a]``: the observation is
encoded once and closed over. Chunks are in network units (normalised); ``mask`` marks the entries that count (padded
steps and constant dimensions do not).

    drifting       one evaluation   x = generate(noise, 0), trained to sit where the drifting field carries it
    flow_matching  k evaluations    generate is a velocity, integrated from noise to action in k Euler steps
    regression     one evaluation   generate(0, 0) is the action
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray
from ml_collections import ConfigDict

Generate = Callable[[Float[Array, "b g h z"], Float[Array, "b #g"]], Float[Array, "b g h a"]]


@dataclass(frozen=True)
class NoiseShape:
    """The noise of one sample: h steps of ``noise_dim`` numbers."""

    horizon: int
    noise_dim: int


@runtime_checkable
class Objective(Protocol):
    """One way to train the network and to draw a chunk from it."""

    evaluations_per_chunk: int

    def loss(
        self,
        generate: Generate,
        target: Float[Array, "b h a"],
        mask: Float[Array, "b h a"],
        noise: NoiseShape,
        key: PRNGKeyArray,
    ) -> tuple[Float[Array, " b"], dict[str, Array]]:
        """The loss of every observation, and scalars worth watching."""
        ...

    def sample(self, generate: Generate, noise: Float[Array, "b g h z"]) -> Float[Array, "b g h a"]:
        """g chunks per observation, a function of the noise alone."""
        ...


def masked_mean(values: Float[Array, "..."], mask: Float[Array, "..."], axes: tuple[int, ...]) -> Array:
    """Mean over ``axes`` of the entries that the mask (broadcast to the values) keeps; 0 where it keeps none."""
    mask = jnp.broadcast_to(mask, values.shape)
    return jnp.sum(values * mask, axis=axes) / jnp.maximum(jnp.sum(mask, axis=axes), 1.0)


def sample_statistics(
    samples: Float[Array, "b g h a"], target: Float[Array, "b h a"], mask: Float[Array, "b h a"]
) -> dict[str, Array]:
    """How far the samples' centre is from the expert (RMS), and how far they are from their centre (RMS)."""
    centroid = jnp.mean(samples, axis=1)
    error = masked_mean(jnp.square(centroid - target), mask, (0, 1, 2))
    spread = masked_mean(jnp.square(samples - centroid[:, None]), mask[:, None], (0, 1, 2, 3))
    return {"centroid_error": jnp.sqrt(error), "sample_spread": jnp.sqrt(spread)}


def make_objective(config: ConfigDict) -> Objective:
    """Builds what ``config.objective`` names.

    Raises:
      ValueError: unknown name.
    """
    from drifting_vla_jax.objectives.drifting_objective import Drifting
    from drifting_vla_jax.objectives.flow_matching import FlowMatching
    from drifting_vla_jax.objectives.regression import Regression

    o = config.objective
    makers = {
        "drifting": lambda: Drifting(o.samples, tuple(o.temperatures)),
        "flow_matching": lambda: FlowMatching(o.samples, o.flow_steps),
        "regression": Regression,
    }
    if o.name not in makers:
        raise ValueError(f"unknown objective {o.name!r}; expected one of {', '.join(sorted(makers))}")
    return makers[o.name]()
