"""What a training objective is: how samples are drawn while learning, and how many evaluations an answer costs.

The network is handed over as ``generate(noise[b g h z], time[b g or b 1]) -> chunk[b g h a]``: the observation is
encoded once and closed over. ``time`` is the one number a sample is told besides its noise: where on its path flow
matching is, how strongly drifting is to follow the instruction (``objectives/drifting/guidance.py``; 0: as it is).

    drifting       one evaluation   x = generate(noise, 0), trained to sit where the drifting field carries it
    flow_matching  k evaluations    generate is a velocity, integrated from noise to action in k Euler steps
    regression     one evaluation   generate(0, 0) is the action
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from ml_collections import ConfigDict

from drifting_vla_jax.objectives.drifting.memory_bank import ExtraPositives

COLLAPSED = 0.01  # network units: standard deviations of the data

ModelFn = Callable[[Float[Array, "b g h z"], Float[Array, "b #g"]], Float[Array, "b g h a"]]


@dataclass(frozen=True)
class NoiseShape:
    """The noise of one sample: h steps of ``noise_dim`` numbers."""

    horizon: int
    noise_dim: int


@struct.dataclass
class Target:
    """What the demonstrations say about b observations, in network units.

    Attributes:
      chunk: the actions.
      mask: 1 where they count, 0 on padded steps and constant dimensions.
      instructed: False where the network was not told the instruction.
      neighbours: more positives, of similar observations.
    """

    chunk: Float[Array, "b h a"]
    mask: Float[Array, "b h a"]
    instructed: Bool[Array, " b"]
    neighbours: ExtraPositives | None = None


@runtime_checkable
class Objective(Protocol):
    """One way to train the network and to draw a chunk from it."""

    evaluations_per_chunk: int

    def loss(
        self,
        generate: ModelFn,
        expert: Target,
        noise: NoiseShape,
        key: PRNGKeyArray,
        progress: Float[Array, ""],
    ) -> tuple[Float[Array, " b"], dict[str, Array]]:
        """The loss of every observation, and scalars worth watching; ``progress`` is the share of training done."""
        ...

    def sample(self, generate: ModelFn, noise: Float[Array, "b g h z"]) -> Float[Array, "b g h a"]:
        """g chunks per observation, a function of the noise alone."""
        ...


def masked_mean(values: Float[Array, "..."], mask: Float[Array, "..."], axes: tuple[int, ...]) -> Array:
    """Mean over ``axes`` of the entries that the mask (broadcast to the values) keeps; 0 where it keeps none."""
    mask = jnp.broadcast_to(mask, values.shape)
    return jnp.sum(values * mask, axis=axes) / jnp.maximum(jnp.sum(mask, axis=axes), 1.0)


def sample_statistics(
    samples: Float[Array, "b g h a"], target: Float[Array, "b h a"], mask: Float[Array, "b h a"]
) -> dict[str, Array]:
    """What says whether a generative policy learns, since its loss cannot. In network units, RMS over entries that count.

    centroid_error   from the samples' centre to the expert. Falls like a regression loss, to what the observation
                     leaves open: near 0 for one way of doing things, half the distance between two ways.
    sample_spread    from the samples to their centre. Starts near 1, falls with the centroid error and stays of its
                     size; far below it the samples agree on something wrong, far above it they have not settled.
    collapsed_share  of the observations: samples closer together than 1% of the data's standard deviation, whatever
                     the noise. 0 in a healthy run; 1 for regression.
    """
    centroid = jnp.mean(samples, axis=1)
    error = masked_mean(jnp.square(centroid - target), mask, (0, 1, 2))
    deviation = jnp.square(samples - centroid[:, None])
    spread = masked_mean(deviation, mask[:, None], (0, 1, 2, 3))
    collapsed = jnp.sqrt(masked_mean(deviation, mask[:, None], (1, 2, 3))) < COLLAPSED
    return {
        "centroid_error": jnp.sqrt(error),
        "sample_spread": jnp.sqrt(spread),
        "collapsed_share": jnp.mean(collapsed),
    }


def make_objective(config: ConfigDict) -> Objective:
    """Builds what ``io.objective`` names.

    Raises:
      ValueError: unknown name.
    """
    from drifting_vla_jax.objectives.drifting.objective import make_drifting
    from drifting_vla_jax.objectives.flow_matching import FlowMatching
    from drifting_vla_jax.objectives.regression import Regression

    o = config.objective
    makers = {
        "drifting": lambda: make_drifting(config),
        "flow_matching": lambda: FlowMatching(o.samples, o.flow_steps),
        "regression": Regression,
    }
    if o.name not in makers:
        raise ValueError(f"unknown objective {o.name!r}; expected one of {', '.join(sorted(makers))}")
    return makers[o.name]()
