"""The train state: one pytree, created already split over the mesh."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh
from jaxtyping import Array, Int, UInt32
from ml_collections import ConfigDict

from drifting_vla_jax.core.action_layout import layout_of
from drifting_vla_jax.models.encoders.registry import is_frozen
from drifting_vla_jax.models.pretrained.load import Encoder
from drifting_vla_jax.models.vla import DriftingVLA
from drifting_vla_jax.objectives.base import State
from drifting_vla_jax.objectives.registry import make_objective
from drifting_vla_jax.train import sharding
from drifting_vla_jax.train.optimizer import make_optimizer
from drifting_vla_jax.train.partition import is_frozen_pretrained, split, split_learned
from drifting_vla_jax.types import Batch, ModelObservation, augments, is_mixture, views


@struct.dataclass
class TrainState:
    """Everything a training step changes.

    Attributes:
      step: optimiser steps done.
      rng: root key data; step k uses fold_in(rng, k), so nothing else need be remembered.
      params, ema_params: of the network, without what is borrowed (``partition``); the EMA acts.
      opt_state: of ``make_optimizer``, for what is learned.
      objective_state: what the objective remembers from step to step; () if nothing.
    """

    step: Int[Array, ""]
    rng: UInt32[Array, " k"]
    params: dict
    ema_params: dict
    opt_state: optax.OptState
    objective_state: State = ()


def init_params(config: ConfigDict, key) -> dict:
    """Fresh parameters of the whole network, encoders included: nested dicts of float32."""
    observation = jax.tree.map(jnp.asarray, fake_batch(config, batch_size=1, prompts=1).observation)
    observation = observation.replace(tokens=jnp.zeros((1, config.data.max_tokens), jnp.int32))
    noise = jnp.zeros((1, 1, config.action.horizon, config.model.noise_dim))
    return DriftingVLA(config).init(key, observation, noise, jnp.zeros((1, 1)))["params"]


def init_state(config: ConfigDict) -> TrainState:
    """A fresh state, a function of ``config.seed`` alone."""
    key_params, key_steps = jax.random.split(jax.random.key(config.seed))
    params, _ = split(init_params(config, key_params), lambda path: not is_frozen_pretrained(path, config))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        rng=jax.random.key_data(key_steps),
        params=params,
        ema_params=jax.tree.map(jnp.copy, params),
        opt_state=make_optimizer(config).init(split_learned(params, config)[0]),
        objective_state=make_objective(config).init_state(),
    )


def abstract_state(config: ConfigDict, mesh: Mesh) -> TrainState:
    """Shapes, dtypes and shardings of the state on this mesh: the target of a restore."""
    shapes = jax.eval_shape(lambda: init_state(config))
    shardings = sharding.state_sharding(shapes, mesh, config)
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)


def create_state(config: ConfigDict, mesh: Mesh, encoders: Mapping[str, Encoder] | None = None) -> TrainState:
    """A fresh state, born split: no device ever holds more than its share.

    Args:
      encoders: the pretrained ones; those that are trained further start from their weights.
    """
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(config, mesh))
    state = jax.jit(lambda: init_state(config), out_shardings=shardings)()
    known = flatten_dict({part: encoder.tree() for part, encoder in (encoders or {}).items()}, sep="/")

    def start(params, shardings):
        flat, where = flatten_dict(params, sep="/"), flatten_dict(shardings, sep="/")
        return unflatten_dict(
            {p: jax.device_put(np.float32(known[p]), where[p]) if p in known else x for p, x in flat.items()}, sep="/"
        )

    return state.replace(
        params=start(state.params, shardings.params), ema_params=start(state.ema_params, shardings.ema_params)
    )


def fake_batch(config: ConfigDict, batch_size: int, prompts: int, seed: int = 0) -> Batch:
    """A batch of the right shapes and random numbers, for shape inference, warm-up and tests."""
    rng = np.random.default_rng(seed)
    b, h, size = batch_size, config.action.horizon, config.env.image_size
    a = layout_of(config).network_dim
    tokens = rng.integers(1, 257, (prompts, config.data.max_tokens), np.int32)
    return Batch(
        observation=ModelObservation(
            images=rng.integers(0, 256, (b, views(config), size, size, 3), np.uint8),
            state=rng.standard_normal((b, config.env.state_dim), np.float32),
            prompt=rng.integers(0, prompts, (b,), np.int32),
            tokens=None if is_frozen(config, "text") else tokens,
            jitter=np.tile(np.float32([0, 0, 1, 0]), (b, views(config), 1)) if augments(config) else None,
            seen=np.ones((b, views(config)), bool) if is_mixture(config) else None,
        ),
        target=rng.standard_normal((b, h, a), np.float32),
        mask=np.ones((b, h, a), np.float32),
        task=rng.integers(0, len(config.env.tasks), (b,), np.int32),
    )
