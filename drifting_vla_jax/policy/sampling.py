"""What a policy computes: observations and seeds in, one chunk for each out, whatever else is in the batch.

Several samples may be drawn for an observation, all in one call, and one of them acts:

    first         the first drawn
    nearest_mean  argmin_i |x_i - mean_j x_j|^2, in network units over the entries that vary in the data. Of samples that
                  agree it is a typical one; unlike their mean it is always a chunk that the network itself gave
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8, UInt32
from ml_collections import ConfigDict

from drifting_vla_jax.objectives.base import Objective
from drifting_vla_jax.train.step import sample_chunks
from drifting_vla_jax.types import SELECTION_RULES, ModelObservation, Text


def predict_actions(
    params: dict,
    images: UInt8[Array, "b v height width 3"],
    state: Float[Array, "b s"],
    text: Text,
    seeds: UInt32[Array, " b"],
    *,
    config: ConfigDict,
    objective: Objective | None = None,
    samples: int = 1,
    choose: str = "first",
    active: Bool[np.ndarray, "h a"] | None = None,
    views: Bool[np.ndarray, " n"] | None = None,
) -> Float[Array, "b h a"]:
    """A policy's call: one chunk per observation in network units, each from its own seed.

    Args:
      params: of the whole network.
      text: the instruction of each observation, encoded.
      objective: whose sampler it is; None: as configured.
      samples: drawn per observation; the first is the same however many follow.
      choose: which of them acts, see above.
      active: entries that vary in the data; None: all.
      views: which of the network's views ``images`` are; None: all. It does not look at the others.
    """
    shape = (samples, config.action.horizon, config.model.noise_dim)
    noise = jax.vmap(lambda seed: jax.random.normal(jax.random.key(seed), shape))(seeds)
    seen, b = None, images.shape[0]
    if views is not None:
        seen = jnp.tile(jnp.asarray(views), (b, 1))
        black = jnp.zeros((b, len(views), *images.shape[2:]), images.dtype)
        images = black.at[:, np.flatnonzero(views)].set(images)
    observation = ModelObservation(images=images, state=state, prompt=jnp.arange(b), text=text, seen=seen)
    return select_sample(sample_chunks(params, observation, noise, config, objective), choose, active)


def select_sample(
    chunks: Float[Array, "b g h a"], choose: str, active: Bool[np.ndarray, "h a"] | None = None
) -> Float[Array, "b h a"]:
    """One of the g samples of every observation.

    Raises:
      ValueError: unknown rule.
    """
    if choose not in SELECTION_RULES:
        raise ValueError(f"unknown choice {choose!r} among samples; expected {' or '.join(SELECTION_RULES)}")
    if choose == "first" or chunks.shape[1] == 1:
        return chunks[:, 0]
    deviation = jnp.square(chunks - jnp.mean(chunks, axis=1, keepdims=True))
    distance = jnp.sum(deviation if active is None else deviation * active, axis=(2, 3))
    nearest = jnp.argmin(distance, axis=1)
    return jnp.take_along_axis(chunks, nearest[:, None, None, None], axis=1)[:, 0]
